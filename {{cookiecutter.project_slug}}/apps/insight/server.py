"""How the server itself is set up, and how it writes."""

from typing import LiteralString

from .question import Question
from .report import Column, Finding, Kind

WRITING: LiteralString = """
    SELECT 'checkpoints' AS name, timed + early AS count, early AS bad,
        round(100.0 * early / nullif(timed + early, 0), 1) AS share, NULL AS failed_at, NULL AS file,
        CASE WHEN timed + early >= 10 AND early >= timed THEN 'early' END AS wrong
    FROM written
    UNION ALL
    SELECT 'archived files', archived_count + failed_count, failed_count,
        round(100.0 * failed_count / nullif(archived_count + failed_count, 0), 1), last_failed_time, last_failed_wal,
        CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity') THEN 'archive' END
    FROM pg_stat_archiver
"""

CHECKPOINTS = Question(
    key="checkpoints",
    title="Checkpoints and the archive",
    source="pg_stat_checkpointer or, before 17, pg_stat_bgwriter; pg_stat_archiver",
    threshold="half of 10 checkpoints or more before their time; an archive that fails",
    advice="A checkpoint before its time comes of much writing, and makes it slower.",
    columns=(
        Column("name", "What"),
        Column("count", "In all", Kind.COUNT),
        Column("bad", "Early, or failed", Kind.COUNT),
        Column("share", "Of all", Kind.PERCENT),
        Column("failed_at", "Failed last", Kind.TIME),
    ),
    query="WITH written AS (SELECT num_timed AS timed, num_requested AS early FROM pg_stat_checkpointer)" + WRITING,  # noqa: S608
    query_before_17=(
        "WITH written AS (SELECT checkpoints_timed AS timed, checkpoints_req AS early FROM pg_stat_bgwriter)" + WRITING  # noqa: S608
    ),
    problems={
        "early": Finding(
            "{bad} of {count} checkpoints came before their time: so much is written that each makes it slower.",
            "Raise max_wal_size: ALTER SYSTEM SET max_wal_size = '4GB'; then SELECT pg_reload_conf();",
        ),
        "archive": Finding(
            "The archive does not take {file}: the write-ahead log is kept until it does, and fills the disk.",
            "Look for archive_command in the server's log.",
        ),
    },
)

SETTINGS = Question(
    key="settings",
    title="Settings worth a look",
    source="pg_settings",
    threshold="fsync, full_page_writes, autovacuum or track_counts off",
    advice="ALTER SYSTEM SET changes one, and SELECT pg_reload_conf() makes most of them hold.",
    columns=(Column("name", "Setting"), Column("value", "Value"), Column("look", "Worth knowing")),
    query="""
        SELECT name, current_setting(name) AS value,
            CASE WHEN dangerous AND setting = 'off' OR look_at THEN hint END AS look, hint,
            CASE WHEN dangerous AND setting = 'off' THEN 'off' END AS wrong
        FROM pg_settings JOIN (VALUES
            ('fsync', true, 'a crash of the machine destroys the database'),
            ('full_page_writes', true, 'a crash of the machine destroys the database'),
            ('autovacuum', true, 'tables grow, queries are planned blindly, and transaction ids come to their end'),
            ('track_counts', true, 'autovacuum does not know what to do'),
            ('effective_cache_size', false, 'half to three quarters of the memory, for the planner'),
            ('idle_in_transaction_session_timeout', false, 'none: a forgotten transaction stays open for ever'),
            ('log_lock_waits', false, 'off: the log does not tell who waited for whom'),
            ('log_min_duration_statement', false, 'off: the log does not tell what was slow'),
            ('maintenance_work_mem', false, 'the default is small for indexes of large tables'),
            ('max_connections', false, 'many: each costs memory, and pgbouncer makes do with fewer'),
            ('max_wal_size', false, 'the default makes for early checkpoints under load'),
            ('random_page_cost', false, 'that of hard disks: 1.1 is that of solid ones'),
            ('shared_buffers', false, 'the default is small: a quarter of the memory is usual'),
            ('synchronous_commit', false, 'off: a crash may lose what was committed last'),
            ('track_io_timing', false, 'off: nobody sees how long the disk takes'),
            ('wal_compression', false, 'off: it makes the write-ahead log smaller'),
            ('work_mem', false, 'the default is small: larger sorts go to the disk')
        ) AS known (name, dangerous, hint) USING (name),
        LATERAL (SELECT CASE name
            WHEN 'max_connections' THEN setting::int > 500
            WHEN 'random_page_cost' THEN setting::float >= 4
            WHEN 'log_min_duration_statement' THEN setting = '-1'
            WHEN 'idle_in_transaction_session_timeout' THEN reset_val = '0'
            WHEN 'maintenance_work_mem' THEN setting::int <= 65536
            WHEN 'max_wal_size' THEN setting::int <= 1024
            WHEN 'shared_buffers' THEN setting::int <= 16384
            WHEN 'work_mem' THEN setting::int <= 4096
            ELSE setting = 'off'
        END) AS judged (look_at)
        ORDER BY dangerous AND setting = 'off' DESC, look_at DESC, name
    """,
    problems={"off": Finding("{name} is off: {hint}.", "ALTER SYSTEM RESET {name}; then SELECT pg_reload_conf();")},
)

QUESTIONS = CHECKPOINTS, SETTINGS
