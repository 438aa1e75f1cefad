"""Standbys, and who else is sent the write-ahead log, or has it kept."""

from apps.core.database.replication import LAG, WRITTEN

from .question import Question
from .report import Column, Finding, Kind

# Where the log ends, on a primary and on a standby.
REPLICATION = Question(
    key="replication",
    title="Replication",
    source="pg_stat_replication, pg_last_wal_replay_lsn()",
    threshold="10 s or 64 MB behind",
    advice="A standby that is behind shows old data, and costs as much when it has to take over.",
    columns=(
        Column("name", "Standby"),
        Column("address", "Address"),
        Column("state", "State"),
        Column("mode", "Mode"),
        Column("lag_seconds", "Behind", Kind.SECONDS),
        Column("lag_bytes", "Behind by", Kind.BYTES),
    ),
    query=f"""
        SELECT *, pg_size_pretty(lag_bytes) AS size, coalesce(round(lag_seconds) || ' s', 'an unknown time') AS time,
            CASE WHEN lag_seconds >= 10 OR lag_bytes >= 67108864 THEN 'behind' END AS wrong, count(*) OVER () AS total
        FROM (
            SELECT application_name AS name, host(client_addr) AS address, state, sync_state AS mode,
                extract(epoch FROM {LAG}) AS lag_seconds,
                pg_wal_lsn_diff({WRITTEN}, replay_lsn)::bigint AS lag_bytes
            FROM pg_stat_replication
            UNION ALL
            SELECT 'this server', NULL, CASE WHEN pg_is_wal_replay_paused() THEN 'paused' ELSE 'replaying' END, NULL,
                CASE WHEN behind > 0 THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
                    ELSE 0 END, behind
            FROM (SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint AS behind)
                AS received
            WHERE pg_is_in_recovery()
        ) AS standbys
        ORDER BY lag_bytes DESC NULLS LAST, name LIMIT %(limit)s
    """,  # noqa: S608  SQL of the project's own
    problems={
        "behind": Finding(
            "Standby {name} is behind by {size} and {time}: it shows old data, and would lose time when it takes over.",
            "Look at its log and load, and whether its replay is paused: SELECT pg_is_wal_replay_paused();",
        )
    },
)

SLOTS = Question(
    key="slots",
    title="Replication slots",
    source="pg_replication_slots",
    threshold="any that nobody uses, keeps 1 GB, or is lost",
    advice="A slot keeps the write-ahead log until its user has read it, were it to fill the disk.",
    columns=(
        Column("name", "Slot"),
        Column("kind", "Kind"),
        Column("database", "Database"),
        Column("active", "In use"),
        Column("wal_status", "State"),
        Column("kept_bytes", "Keeps", Kind.BYTES),
    ),
    query="""
        SELECT *, pg_size_pretty(kept_bytes) AS size, CASE
                WHEN wal_status = 'lost' THEN 'lost'
                WHEN NOT in_use AND kept_bytes IS NOT NULL AND NOT synced THEN 'unused'
                WHEN kept_bytes >= 1073741824 THEN 'behind'
            END AS wrong
        FROM (
            SELECT slot_name AS name, slot_type AS kind, database, active AS in_use, wal_status,
                CASE WHEN active THEN 'yes' ELSE 'no' END AS active,
                pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                    ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS kept_bytes,
                coalesce((to_jsonb(slot) ->> 'synced')::bool, false) AS synced, count(*) OVER () AS total
            FROM pg_replication_slots AS slot WHERE NOT temporary
        ) AS slots
        ORDER BY kept_bytes DESC NULLS FIRST, name LIMIT %(limit)s
    """,
    problems={
        "lost": Finding(
            "Replication slot {name} is lost: who reads it cannot go on.",
            "SELECT pg_drop_replication_slot('{name}'); then set up its standby or subscriber anew.",
        ),
        "unused": Finding(
            "Replication slot {name} is used by nobody and keeps {size} of the write-ahead log: it fills the disk.",
            "Start its standby, or SELECT pg_drop_replication_slot('{name}');",
        ),
        "behind": Finding(
            "Replication slot {name} keeps {size} of the write-ahead log: its user does not keep up.",
            "Look at its user's load, and set max_slot_wal_keep_size so that the disk cannot fill.",
        ),
    },
)

QUESTIONS = REPLICATION, SLOTS
