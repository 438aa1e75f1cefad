"""
Indexes that cost more than they bring, and those that are missing.

Of partitions only invalid ones are looked for: the others belong to an index of the whole table.
"""

from .question import Question
from .report import Column, Finding, Kind

NAME = Column("name", "Index")
TABLE = Column("table", "Table")
SIZE = Column("bytes", "Size", Kind.BYTES)

UNUSED = Question(
    key="unused_indexes",
    title="Unused indexes",
    source="pg_index, pg_stat_user_indexes",
    threshold="1 MB, and no scan in a month of statistics or more",
    advice="Standbys have statistics of their own: look there, too, before an index is dropped.",
    columns=(NAME, TABLE, SIZE, Column("counted_seconds", "Counted for", Kind.SECONDS)),
    query="""
        SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS table, bytes,
            pg_size_pretty(bytes) AS size, counted_seconds, counted_seconds::int / 86400 AS days,
            CASE WHEN large THEN 'unused' END AS wrong, total
        FROM (
            SELECT indexrelid, indrelid, bytes, counted_seconds,
                bytes >= 1048576 AND counted_seconds >= %(month)s AS large, count(*) OVER () AS total
            FROM (
                SELECT extract(epoch FROM clock_timestamp() - greatest(  -- none of a database that was never reset
                    pg_stat_get_db_stat_reset_time(oid), pg_stat_get_bgwriter_stat_reset_time()
                )) AS counted_seconds
                FROM pg_database WHERE datname = current_database()
            ) AS statistics,
            LATERAL (
                SELECT indexrelid, indrelid, relpages::bigint * current_setting('block_size')::int AS bytes
                FROM pg_index JOIN pg_class ON oid = indexrelid
                WHERE indrelid >= 16384 AND relkind = 'i' AND relnamespace <> 'pg_toast'::regnamespace
                AND relpersistence <> 't' AND NOT relispartition AND indisvalid
                AND NOT indisunique AND NOT indisexclusion AND NOT indisreplident AND NOT indisclustered
                AND pg_stat_get_numscans(indexrelid) = 0
            ) AS unused
            ORDER BY large DESC, bytes DESC, indexrelid LIMIT %(limit)s
        ) AS largest
        ORDER BY large DESC, bytes DESC, indexrelid
    """,
    problems={
        "unused": Finding(
            "Index {name} of {table} ({size}) was not used in {days} days: it only costs.",
            "DROP INDEX CONCURRENTLY {name}; or take it out of its model.",
        )
    },
)

# One whose columns another begins with, likewise ordered and limited, does nothing that the other could not.
DUPLICATE = Question(
    key="duplicate_indexes",
    title="Duplicate indexes",
    source="pg_index",
    threshold="1 MB",
    advice="Django makes an index for each foreign key and for each unique field: another is one too many.",
    columns=(NAME, TABLE, Column("covered_by", "Covered by"), SIZE),
    query="""
        WITH pairs AS (
            SELECT DISTINCT ON (one.indexrelid) one.indexrelid, one.indrelid, other.indexrelid AS covered_by,
                one_class.relpages::bigint * current_setting('block_size')::int AS bytes
            FROM pg_index AS one JOIN pg_index AS other
                ON other.indrelid = one.indrelid AND other.indkey[0] = one.indkey[0]
                AND other.indexrelid <> one.indexrelid
            JOIN pg_class AS one_class ON one_class.oid = one.indexrelid
            JOIN pg_class AS other_class ON other_class.oid = other.indexrelid
            WHERE one.indrelid >= 16384 AND one.indisvalid AND other.indisvalid
            AND NOT one.indisprimary AND NOT one.indisexclusion AND NOT other.indisexclusion
            AND one_class.relkind = 'i' AND one_class.relpersistence <> 't' AND NOT one_class.relispartition
            AND one_class.relam = other_class.relam
            AND concat(one.indexprs, one.indpred) = concat(other.indexprs, other.indpred)
            AND starts_with(other.indkey::text || ' ', one.indkey::text || ' ')
            AND starts_with(other.indclass::text || ' ', one.indclass::text || ' ')
            AND starts_with(other.indcollation::text || ' ', one.indcollation::text || ' ')
            AND starts_with(other.indoption::text || ' ', one.indoption::text || ' ')
            AND CASE
                WHEN one.indkey = other.indkey AND one.indnkeyatts = other.indnkeyatts THEN
                    one.indisunique <= other.indisunique AND (
                        one.indisunique < other.indisunique OR other.indisprimary OR one.indexrelid > other.indexrelid)
                ELSE NOT one.indisunique AND one.indexprs IS NULL AND one.indnatts = one.indnkeyatts
                    AND one.indnkeyatts < other.indnkeyatts
                    AND one_class.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
            END
            ORDER BY one.indexrelid, other.indisprimary DESC, other.indnatts
        )
        SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS table,
            covered_by::regclass::text AS covered_by, bytes, pg_size_pretty(bytes) AS size,
            coalesce(
                (SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname)
                    FROM pg_constraint WHERE conindid = indexrelid AND contype = 'u'),
                'DROP INDEX CONCURRENTLY ' || indexrelid::regclass
            ) AS statement,
            CASE WHEN bytes >= 1048576 THEN 'duplicate' END AS wrong, total
        FROM (SELECT *, count(*) OVER () AS total FROM pairs ORDER BY bytes DESC, indexrelid LIMIT %(limit)s) AS largest
        ORDER BY bytes DESC, indexrelid
    """,
    problems={
        "duplicate": Finding(
            "Index {name} of {table} ({size}) does nothing that {covered_by} does not: it only costs.",
            "{statement}; or take it out of its model.",
        )
    },
)

INVALID = Question(
    key="invalid_indexes",
    title="Invalid indexes",
    source="pg_index",
    threshold="any that nobody is building",
    advice="CREATE INDEX CONCURRENTLY leaves one behind when it fails.",
    columns=(NAME, TABLE, SIZE),
    query="""
        SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS table,
            relpages::bigint * current_setting('block_size')::int AS bytes,
            CASE WHEN relname ~ '_cc(new|old)[0-9]*$' THEN 'leftover' ELSE 'invalid' END AS wrong,
            count(*) OVER () AS total
        FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE NOT indisvalid AND relkind = 'i' AND relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS building WHERE relid = indrelid)
        ORDER BY 1 LIMIT %(limit)s
    """,
    problems={
        "invalid": Finding(
            "Index {name} of {table} is invalid: it is written to, but never used.",
            "REINDEX INDEX CONCURRENTLY {name}; first remove duplicate rows if it is unique.",
        ),
        "leftover": Finding(
            "Index {name} of {table} is invalid, a rest of REINDEX CONCURRENTLY: it is written to, but never used.",
            "DROP INDEX CONCURRENTLY {name};",
        ),
    },
)

MISSING = Question(
    key="missing_indexes",
    title="Missing indexes",
    source="pg_stat_user_tables, pg_constraint, pg_index",
    threshold="50 scans of 10,000 rows or more; a foreign key without an index on 1,000 rows",
    advice="The section on queries tells which ones read the whole table.",
    columns=(
        TABLE,
        Column("columns", "Foreign key"),
        Column("rows", "Rows", Kind.COUNT),
        Column("scans", "Whole scans", Kind.COUNT),
        Column("scan_rows", "Rows a scan", Kind.COUNT),
    ),
    query="""
        WITH tables AS MATERIALIZED (
            SELECT oid, greatest(reltuples, pg_stat_get_live_tuples(oid))::bigint AS rows,
                pg_stat_get_numscans(oid) AS scans,
                pg_stat_get_tuples_returned(oid) / nullif(pg_stat_get_numscans(oid), 0) AS scan_rows
            FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm') AND relpersistence <> 't'
        ),
        found AS (
            SELECT oid, NULL AS columns, rows, scans, scan_rows, 'scans' AS wrong
            FROM tables WHERE scans >= 50 AND scan_rows >= 10000
            UNION ALL
            SELECT tables.oid,
                (SELECT string_agg(quote_ident(attname), ', ' ORDER BY array_position(conkey, attnum))
                    FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)),
                rows, scans, scan_rows, 'key'
            FROM pg_constraint JOIN tables ON tables.oid = conrelid
            WHERE contype = 'f' AND rows >= 1000
            AND NOT EXISTS (
                SELECT FROM pg_index WHERE indrelid = conrelid AND indisvalid AND indpred IS NULL
                AND (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey)
        )
        SELECT oid::regclass::text AS table, columns, rows, scans, scan_rows, wrong, count(*) OVER () AS total
        FROM found ORDER BY rows DESC, oid, columns LIMIT %(limit)s
    """,
    problems={
        "scans": Finding(
            "Table {table} was read as a whole {scans} times, {scan_rows} rows each time: an index would find the few "
            "that were wanted.",
            "Find the query among the slowest and most expensive, and give its condition an index.",
        ),
        "key": Finding(
            "Foreign key {columns} of {table} ({rows} rows) has no index: each deletion of what it refers to reads "
            "the whole table.",
            "CREATE INDEX CONCURRENTLY ON {table} ({columns}); or db_index=True in its model.",
        ),
    },
)

QUESTIONS = UNUSED, DUPLICATE, INVALID, MISSING
