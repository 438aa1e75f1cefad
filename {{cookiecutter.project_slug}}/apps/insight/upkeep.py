"""What PostgreSQL does in the background to stay fast and to go on, and whether it keeps up."""

from .question import Question
from .report import Column, Finding, Kind

NAME = Column("name", "Name")
TABLE = Column("name", "Table")

# The rows that a relation holds, by their mean width, against the pages that it has. Where that of a column is not
# known, to this role or at all, the relation is left out, as are indexes of expressions.
BLOAT = Question(
    key="bloat",
    title="Bloat",
    source="pg_class, pg_stats (estimated)",
    threshold="10 MB and 30 % of what should be there",
    advice="Space that deleted rows left is used again; worth a rewrite only where it stays much.",
    columns=(
        NAME,
        Column("kind", "Kind"),
        Column("bytes", "Size", Kind.BYTES),
        Column("bloat_bytes", "Empty", Kind.BYTES),
        Column("share", "Of it", Kind.PERCENT),
    ),
    query="""
        WITH large AS MATERIALIZED (
            SELECT c.oid, c.relkind, c.relpages::bigint AS pages, c.reltuples AS rows,
                coalesce(indrelid, c.oid) AS table_oid, indkey::int2[] AS key,
                current_setting('block_size')::int AS block,
                coalesce(substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::int,
                    CASE c.relkind WHEN 'i' THEN 90 ELSE 100 END) / 100.0 AS fill
            FROM pg_class AS c LEFT JOIN pg_index ON indexrelid = c.oid
            WHERE c.oid >= 16384 AND c.relpages >= 1280 AND c.reltuples >= 0 AND c.relpersistence <> 't'
            AND (c.relkind IN ('r', 'm')
                OR indexprs IS NULL AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree'))
        ),
        measured AS MATERIALIZED (
            SELECT large.*, width FROM large JOIN pg_class AS t ON t.oid = table_oid
            JOIN pg_namespace AS n ON n.oid = relnamespace,
            LATERAL (
                SELECT sum(avg_width * (1 - null_frac)) AS width, every(avg_width IS NOT NULL) AS complete
                FROM pg_attribute LEFT JOIN pg_stats ON pg_stats.attname = pg_attribute.attname
                    AND schemaname = nspname AND tablename = t.relname AND NOT inherited
                WHERE attrelid = table_oid AND attnum > 0 AND NOT attisdropped AND (key IS NULL OR attnum = ANY (key))
            ) AS known
            WHERE complete AND t.relkind IN ('r', 'm')
        ),
        estimated AS (
            SELECT oid, relkind, pages * block AS bytes,
                pages * block - ceil(rows * CASE relkind
                    WHEN 'i' THEN 4 + 8 + ceil(width / 8) * 8
                    ELSE 4 + 24 + ceil(width / 8) * 8 END / ((block - 40) * fill)) * block AS bloat_bytes
            FROM measured
        )
        SELECT oid::regclass::text AS name, CASE relkind WHEN 'i' THEN 'index' ELSE 'table' END AS kind, bytes,
            bloat_bytes::bigint AS bloat_bytes, round((100 * bloat_bytes / bytes)::numeric, 1) AS share,
            pg_size_pretty(bloat_bytes::bigint) AS size,
            CASE WHEN relkind = 'i' THEN 'index' ELSE 'table' END AS wrong, count(*) OVER () AS total
        FROM estimated WHERE bloat_bytes >= 10485760 AND bloat_bytes >= 0.3 * bytes
        ORDER BY bloat_bytes DESC, oid LIMIT %(limit)s
    """,
    as_user=True,
    problems={
        "table": Finding(
            "Table {name} is empty by {share} % ({size}): each scan reads that, too.",
            "pg_repack, or VACUUM (FULL, ANALYZE) {name}; which locks it meanwhile.",
        ),
        "index": Finding(
            "Index {name} is empty by {share} % ({size}): each scan reads more of it than it needs.",
            "REINDEX INDEX CONCURRENTLY {name};",
        ),
    },
)

VACUUM = Question(
    key="vacuum",
    title="Vacuum and analyze",
    source="pg_stat_user_tables",
    threshold="10,000 dead rows and 20 % of all; 1,000 changed rows of a table that was never analysed",
    advice="A long transaction or an unused replication slot keeps VACUUM from taking rows away.",
    columns=(
        TABLE,
        Column("live", "Rows", Kind.COUNT),
        Column("dead", "Dead rows", Kind.COUNT),
        Column("share", "Dead", Kind.PERCENT),
        Column("vacuumed_at", "Vacuumed", Kind.TIME),
        Column("analyzed_at", "Analysed", Kind.TIME),
    ),
    query="""
        WITH counted AS MATERIALIZED (
            SELECT oid, pg_stat_get_live_tuples(oid) AS live, pg_stat_get_dead_tuples(oid) AS dead,
                pg_stat_get_mod_since_analyze(oid) AS changed,
                greatest(pg_stat_get_last_analyze_time(oid), pg_stat_get_last_autoanalyze_time(oid)) AS analyzed_at
            FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm') AND relpersistence <> 't'
        ),
        judged AS (
            SELECT *, CASE
                WHEN dead >= 10000 AND dead >= 0.2 * (live + dead) THEN 'dead'
                WHEN analyzed_at IS NULL AND changed >= 1000 THEN 'unknown'
            END AS wrong
            FROM counted
        )
        SELECT oid::regclass::text AS name, live, dead, round(100.0 * dead / nullif(live + dead, 0), 1) AS share,
            greatest(pg_stat_get_last_vacuum_time(oid), pg_stat_get_last_autovacuum_time(oid)) AS vacuumed_at,
            analyzed_at, changed, wrong, total
        FROM (
            SELECT *, count(*) OVER () AS total FROM judged WHERE dead > 0 OR wrong IS NOT NULL
            ORDER BY wrong, dead DESC, oid LIMIT %(limit)s
        ) AS worst
        ORDER BY wrong, dead DESC, oid
    """,
    problems={
        "dead": Finding(
            "{dead} rows of table {name} are dead ({share} %): autovacuum does not keep up, or is held back.",
            "VACUUM (ANALYZE) {name}; then look for long transactions.",
        ),
        "unknown": Finding(
            "Table {name} was never analysed, though {changed} of its rows are new: queries are planned blindly.",
            "ANALYZE {name};",
        ),
    },
)

WRAPAROUND = Question(
    key="wraparound",
    title="Age of transaction ids",
    source="pg_database",
    threshold="125 % of autovacuum_freeze_max_age, or of autovacuum_multixact_freeze_max_age",
    advice="What holds VACUUM back: long transactions, unused replication slots, prepared transactions.",
    columns=(
        Column("name", "Database"),
        Column("age", "Age", Kind.COUNT),
        Column("share", "Of autovacuum's limit", Kind.PERCENT),
        Column("multixact_age", "Age of shared locks", Kind.COUNT),
        Column("multixact_share", "Of autovacuum's limit", Kind.PERCENT),
        Column("table", "Oldest table"),
    ),
    query="""
        WITH ages AS (
            SELECT datname AS name, age(datfrozenxid) AS age, mxid_age(datminmxid) AS multixact_age,
                100.0 * age(datfrozenxid) / current_setting('autovacuum_freeze_max_age')::int AS share,
                100.0 * mxid_age(datminmxid) / current_setting('autovacuum_multixact_freeze_max_age')::int
                    AS multixact_share
            FROM pg_database
        )
        SELECT name, age, round(share, 1) AS share, multixact_age, round(multixact_share, 1) AS multixact_share,
            round(greatest(share, multixact_share)) AS worst,
            CASE WHEN name = current_database() THEN (
                SELECT oid FROM pg_class WHERE relkind IN ('r', 'm', 't') ORDER BY age(relfrozenxid) DESC, oid LIMIT 1
            )::regclass::text END AS table,
            CASE WHEN greatest(share, multixact_share) >= 125 THEN 'old' END AS wrong, count(*) OVER () AS total
        FROM ages ORDER BY greatest(share, multixact_share) DESC, name LIMIT %(limit)s
    """,
    problems={
        "old": Finding(
            "Transaction ids of database {name} are {worst} % as old as where autovacuum begins to renew them: "
            "at the end no row can be written.",
            "End what holds autovacuum back, then run vacuumdb --freeze {name}.",
        )
    },
)

MAINTENANCE = Question(
    key="maintenance",
    title="Maintenance in progress",
    source="pg_stat_progress_vacuum, _analyze, _create_index, _cluster, _copy and _basebackup",
    advice="These are slow on purpose, so that they hold up nobody.",
    columns=(
        Column("pid", "Process"),
        Column("task", "Task"),
        TABLE,
        Column("phase", "Phase"),
        Column("share", "Done", Kind.PERCENT),
        Column("seconds", "For", Kind.SECONDS),
    ),
    query="""
        SELECT pid, task, CASE datname WHEN current_database() THEN relid::regclass::text END AS name, phase,
            round(100.0 * done / nullif(planned, 0), 1) AS share,
            extract(epoch FROM clock_timestamp() - xact_start) AS seconds, count(*) OVER () AS total
        FROM (
            SELECT pid, 'vacuum' AS task, relid, phase, heap_blks_scanned AS done, heap_blks_total AS planned
            FROM pg_stat_progress_vacuum
            UNION ALL SELECT pid, 'analyze', relid, phase, sample_blks_scanned, sample_blks_total
            FROM pg_stat_progress_analyze
            UNION ALL SELECT pid, lower(command), relid, phase, blocks_done, blocks_total
            FROM pg_stat_progress_create_index
            UNION ALL SELECT pid, lower(command), relid, phase, heap_blks_scanned, heap_blks_total
            FROM pg_stat_progress_cluster
            UNION ALL SELECT pid, lower(command), relid, type, bytes_processed, bytes_total FROM pg_stat_progress_copy
            UNION ALL SELECT pid, 'base backup', NULL, phase, backup_streamed, backup_total
            FROM pg_stat_progress_basebackup
        ) AS progress LEFT JOIN pg_stat_activity USING (pid)
        ORDER BY xact_start, pid LIMIT %(limit)s
    """,
)

CACHE = Question(
    key="cache",
    title="Found in memory",
    source="pg_stat_database; pg_statio_user_tables and _indexes, the 2,000 largest",
    threshold="99 % of 100,000 blocks or more",
    advice="Raise shared_buffers to a quarter of the memory, or give the server more of it.",
    columns=(
        NAME,
        Column("share", "Found in memory", Kind.PERCENT),
        Column("hit", "Blocks in memory", Kind.COUNT),
        Column("fetched", "Blocks in all", Kind.COUNT),
    ),
    query="""
        SELECT name, round(100.0 * hit / nullif(fetched, 0), 2) AS share, hit, fetched,
            CASE WHEN name = 'database' AND fetched >= 100000 AND hit < 0.99 * fetched THEN 'small' END AS wrong
        FROM (
            SELECT 'database' AS name, blks_hit AS hit, blks_hit + blks_read AS fetched
            FROM pg_stat_database WHERE datname = current_database()
            UNION ALL
            SELECT CASE relkind WHEN 'i' THEN 'indexes' ELSE 'tables' END, sum(pg_stat_get_blocks_hit(oid)),
                sum(pg_stat_get_blocks_fetched(oid))
            FROM (
                SELECT oid, relkind FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm', 'i')
                ORDER BY relpages DESC LIMIT 2000
            ) AS largest
            GROUP BY 1
        ) AS read
        ORDER BY name
    """,
    problems={
        "small": Finding(
            "Only {share} % of what was read was in PostgreSQL's memory: the rest came from the system, or the disk.",
            "Raise shared_buffers to a quarter of the memory; look for whole scans first.",
        )
    },
)

SEQUENCES = Question(
    key="sequences",
    title="Sequences",
    source="pg_sequence, pg_depend",
    threshold="80 % of the numbers of the sequence, or of its column",
    advice="Those of bigint are left out: they last for ever.",
    columns=(
        Column("name", "Sequence"),
        Column("column", "Column"),
        Column("type", "Type"),
        Column("last_value", "Last number", Kind.COUNT),
        Column("maximum", "Of", Kind.COUNT),
        Column("share", "Used", Kind.PERCENT),
    ),
    query="""
        WITH bounded AS MATERIALIZED (
            SELECT seqrelid, attname, attrelid, coalesce(atttypid, seqtypid)::regtype::text AS type,
                least(seqmax, CASE atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END)
                    AS maximum
            FROM pg_sequence LEFT JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = seqrelid
                AND refclassid = 'pg_class'::regclass AND refobjsubid > 0 AND deptype IN ('a', 'i')
            LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
            WHERE seqincrement > 0 AND NOT seqcycle
        ),
        counted AS MATERIALIZED (
            SELECT *, pg_sequence_last_value(seqrelid) AS last_value
            FROM bounded JOIN pg_class ON oid = seqrelid
            WHERE maximum < 9223372036854775807 AND relpersistence = 'p'
            AND has_sequence_privilege(seqrelid, 'SELECT, USAGE')
        )
        SELECT seqrelid::regclass::text AS name, attrelid::regclass || '.' || quote_ident(attname) AS column, type,
            last_value, maximum, round(100.0 * last_value / maximum, 1) AS share,
            CASE WHEN last_value >= 0.8 * maximum THEN 'full' END AS wrong, count(*) OVER () AS total
        FROM counted WHERE last_value IS NOT NULL
        ORDER BY share DESC, seqrelid LIMIT %(limit)s
    """,
    as_user=True,
    problems={
        "full": Finding(
            "Sequence {name} has used {share} % of {maximum} numbers: at the end no row can be added.",
            "Make the column a BigAutoField, and the sequence bigint: ALTER SEQUENCE {name} AS bigint;",
        )
    },
)

QUESTIONS = BLOAT, VACUUM, WRAPAROUND, MAINTENANCE, CACHE, SEQUENCES
