"""What takes the space. Sizes are of a moment ago where they were counted, else of the last VACUUM or ANALYZE."""

from .question import Question
from .report import Column, Kind

NAME = Column("name", "Name")
SIZE = Column("bytes", "Size", Kind.BYTES)

# Other databases are left out: each file of theirs would have to be looked at.
SPACE = Question(
    key="space",
    title="Space",
    source="pg_database_size(), pg_class",
    advice="Besides, the server has its write-ahead log, about max_wal_size while nothing keeps it.",
    columns=(NAME, SIZE),
    query="""
        SELECT 'database' AS name, pg_database_size(current_database()) AS bytes
        UNION ALL (
            SELECT CASE relkind WHEN 'i' THEN 'indexes' WHEN 't' THEN 'long values' ELSE 'tables' END AS name,
                sum(relpages::bigint) * current_setting('block_size')::int AS bytes
            FROM pg_class WHERE relkind IN ('r', 'm', 'i', 't') GROUP BY 1 ORDER BY 2 DESC
        )
    """,
)

# Counting the size of a relation opens it: it waits where somebody has locked it exclusively, and takes a while for
# 10,000. Hence only those are counted that are likely to be the largest.
TABLES = Question(
    key="tables",
    title="Largest tables",
    source="pg_class, pg_total_relation_size()",
    advice="What nobody needs any more is best kept elsewhere; a table by time is easier to empty in partitions.",
    columns=(
        NAME,
        Column("rows", "Rows", Kind.COUNT),
        SIZE,
        Column("table_bytes", "Table", Kind.BYTES),
        Column("index_bytes", "Indexes", Kind.BYTES),
        Column("toast_bytes", "Long values", Kind.BYTES),
    ),
    query="""
        WITH likely AS MATERIALIZED (
            SELECT oid, reltoastrelid, greatest(reltuples, pg_stat_get_live_tuples(oid))::bigint AS rows,
                count(*) OVER () AS total
            FROM pg_class
            WHERE oid >= 16384 AND relkind IN ('r', 'm') AND relpersistence <> 't'
            ORDER BY greatest(relpages, pg_stat_get_live_tuples(oid) / 100) DESC, oid LIMIT 2 * %(limit)s
        ),
        counted AS MATERIALIZED (
            SELECT oid, rows, total, pg_relation_size(oid) AS table_bytes, pg_indexes_size(oid) AS index_bytes,
                coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0) AS toast_bytes
            FROM likely
            WHERE oid NOT IN (
                SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IS NOT NULL
                UNION SELECT indrelid FROM pg_index JOIN pg_locks ON relation = indexrelid
                WHERE mode = 'AccessExclusiveLock')
        )
        SELECT oid::regclass::text AS name, rows, table_bytes + index_bytes + toast_bytes AS bytes,
            table_bytes, index_bytes, toast_bytes, total
        FROM counted ORDER BY bytes DESC, name LIMIT %(limit)s
    """,
)

INDEXES = Question(
    key="indexes",
    title="Largest indexes",
    source="pg_class, pg_index, pg_stat_user_indexes",
    advice="An index costs space, and time whenever a row is written.",
    columns=(NAME, Column("table", "Table"), SIZE, Column("scans", "Scans", Kind.COUNT)),
    query="""
        SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS table,
            relpages::bigint * current_setting('block_size')::int AS bytes,
            pg_stat_get_numscans(indexrelid) AS scans, total
        FROM (
            SELECT indexrelid, indrelid, relpages, count(*) OVER () AS total
            FROM pg_index JOIN pg_class ON oid = indexrelid
            WHERE indrelid >= 16384 AND relkind = 'i' AND relnamespace <> 'pg_toast'::regnamespace
            AND relpersistence <> 't'
            ORDER BY relpages DESC, indexrelid LIMIT %(limit)s
        ) AS largest
        ORDER BY relpages DESC, indexrelid
    """,
)

QUESTIONS = SPACE, TABLES, INDEXES
