"""What goes on at this moment: sessions, and who waits for whom."""

from .chains import arrange_chains
from .question import Question
from .report import Column, Finding, Kind

PID = Column("pid", "Process")
USER = Column("user", "Role")
APPLICATION = Column("application", "Application")
STATE = Column("state", "State")
QUERY = Column("query", "Query", Kind.SQL)

ACTIVITY = Question(
    key="activity",
    title="Activity",
    source="pg_stat_activity",
    advice="Sessions of this database that do something, or hold a transaction open, the oldest transaction first.",
    columns=(
        PID,
        USER,
        APPLICATION,
        STATE,
        Column("wait", "Waits for"),
        Column("seconds", "In this state", Kind.SECONDS),
        Column("transaction_seconds", "Transaction", Kind.SECONDS),
        QUERY,
    ),
    query="""
        SELECT pid, usename AS user, application_name AS application, state,
            nullif(concat_ws(': ', wait_event_type, wait_event), 'Client: ClientRead') AS wait,
            extract(epoch FROM clock_timestamp() - CASE state WHEN 'active' THEN query_start ELSE state_change END)
                AS seconds,
            extract(epoch FROM clock_timestamp() - xact_start) AS transaction_seconds,
            left(query, 2000) AS query,
            count(*) OVER () AS total
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
        AND coalesce(backend_type, 'client backend') = 'client backend' AND state IS DISTINCT FROM 'idle'
        ORDER BY xact_start, pid LIMIT %(limit)s
    """,
)

BLOCKING = Question(
    key="blocking",
    title="Who waits for whom",
    source="pg_locks, pg_blocking_pids(), pg_stat_activity",
    threshold="a wait of 1 s",
    advice="The session at the root of a chain holds the lock: all others go on when its transaction ends.",
    columns=(
        Column("depth", "Depth", Kind.COUNT),
        PID,
        Column("waits_for", "Waits for"),
        Column("root", "Root"),
        Column("wait_seconds", "Has waited", Kind.SECONDS),
        Column("lock", "Lock"),
        USER,
        APPLICATION,
        STATE,
        Column("transaction_seconds", "Transaction", Kind.SECONDS),
        QUERY,
    ),
    # No more than 100 that wait, since asking for whom stops the lock manager for a moment.
    query="""
        WITH waiting AS MATERIALIZED (
            SELECT pid, since, lock, pg_blocking_pids(pid) AS waits_for
            FROM (
                SELECT DISTINCT ON (pid) pid, waitstart AS since,
                    concat_ws(' of ', mode, coalesce(relation::regclass::text, locktype)) AS lock
                FROM pg_locks WHERE NOT granted ORDER BY pid, waitstart
            ) AS found
            ORDER BY since LIMIT 100
        )
        SELECT pid, coalesce(waits_for, '{{}}') AS waits_for, lock,
            extract(epoch FROM clock_timestamp() - since) AS wait_seconds,
            usename AS user, application_name AS application,
            CASE pid WHEN 0 THEN 'prepared' ELSE state END AS state,
            extract(epoch FROM clock_timestamp() - xact_start) AS transaction_seconds,
            left(query, 2000) AS query
        FROM (SELECT pid FROM waiting UNION SELECT unnest(waits_for) FROM waiting) AS involved
        LEFT JOIN waiting USING (pid) LEFT JOIN pg_stat_activity USING (pid)
    """,
    arrange=arrange_chains,
    problems={
        "blocks": Finding(
            "Session {pid} ({who}) holds up {others} for up to {longest:.0f} s: "
            "none goes on before its transaction ends.",
            "SELECT pg_terminate_backend({pid});",
        ),
        "prepared": Finding(
            "A prepared transaction holds up {others} for up to {longest:.0f} s: none goes on before somebody ends it.",
            "See pg_prepared_xacts, then COMMIT PREPARED or ROLLBACK PREPARED.",
        ),
    },
)

CONNECTIONS = Question(
    key="connections",
    title="Connections",
    source="pg_stat_activity, pg_settings",
    threshold="80 % of the connections that are not reserved for superusers",
    advice="Raise max_connections, lower DB_POOL_MAX_SIZE or WEB_CONCURRENCY, or put pgbouncer in between.",
    columns=(
        Column("database", "Database"),
        APPLICATION,
        STATE,
        Column("count", "Connections", Kind.COUNT),
        Column("share", "Of the maximum", Kind.PERCENT),
        Column("oldest_seconds", "Oldest", Kind.SECONDS),
    ),
    query="""
        WITH maximum AS (
            SELECT 2 * max(setting::int) FILTER (WHERE name = 'max_connections') - sum(setting::int) AS maximum
            FROM pg_settings
            WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
        ),
        sessions AS (
            SELECT own, CASE WHEN own THEN datname ELSE 'all others' END AS database,
                CASE WHEN own THEN application_name END AS application,
                CASE WHEN own THEN state END AS state,
                count(*) AS count, min(backend_start) AS oldest
            FROM (SELECT *, datname = current_database() AS own FROM pg_stat_activity) AS every
            WHERE datid IS NOT NULL AND usesysid IS NOT NULL
            AND coalesce(backend_type, 'client backend') = 'client backend'
            GROUP BY 1, 2, 3, 4
        )
        SELECT database, application, state, count, round(100.0 * count / maximum, 1) AS share,
            extract(epoch FROM clock_timestamp() - oldest) AS oldest_seconds,
            sum(count) OVER () AS used, maximum, round(100 * sum(count) OVER () / maximum) AS used_share,
            CASE WHEN row_number() OVER (ORDER BY own DESC, count DESC) = 1
                AND sum(count) OVER () >= 0.8 * maximum THEN 'full' END AS wrong,
            count(*) OVER () AS total
        FROM sessions, maximum
        ORDER BY own DESC, count DESC LIMIT %(limit)s
    """,
    problems={
        "full": Finding(
            "{used} of {maximum} connections are in use ({used_share} %): whoever needs one more than there are "
            "is refused.",
            "Raise max_connections, lower DB_POOL_MAX_SIZE or WEB_CONCURRENCY, or put pgbouncer in between.",
        )
    },
)

LONG_RUNNING = Question(
    key="long_running",
    title="Long transactions",
    source="pg_stat_activity, pg_locks",
    threshold="10 s, unless the session waits for a lock",
    advice="A transaction that stays open keeps its locks, and VACUUM from what was deleted since it began.",
    columns=(
        PID,
        USER,
        APPLICATION,
        STATE,
        Column("seconds", "Transaction", Kind.SECONDS),
        Column("state_seconds", "In this state", Kind.SECONDS),
        QUERY,
    ),
    # Without the sessions that wait for a lock: the session that blocks them is the finding, in the section above.
    query="""
        SELECT pid, usename AS user, application_name AS application, state,
            extract(epoch FROM clock_timestamp() - xact_start) AS seconds,
            extract(epoch FROM clock_timestamp() - state_change) AS state_seconds,
            left(query, 2000) AS query,
            CASE WHEN state = 'active' THEN 'active' ELSE 'idle' END AS wrong,
            count(*) OVER () AS total
        FROM pg_stat_activity AS session
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        AND clock_timestamp() - xact_start >= interval '10 s'
        AND NOT EXISTS (SELECT FROM pg_locks AS lock WHERE lock.pid = session.pid AND NOT lock.granted)
        ORDER BY xact_start LIMIT %(limit)s
    """,
    problems={
        "active": Finding(
            "Session {pid} ({user}, {application}) has had a transaction open for {seconds:.0f} s, and works: "
            "what it locked and what was deleted meanwhile stays as long.",
            "SELECT pg_cancel_backend({pid});",
        ),
        "idle": Finding(
            "Session {pid} ({user}, {application}) has had a transaction open for {seconds:.0f} s, and does nothing: "
            "what it locked and what was deleted meanwhile stays as long.",
            "SELECT pg_terminate_backend({pid});",
        ),
    },
)

QUESTIONS = ACTIVITY, BLOCKING, CONNECTIONS, LONG_RUNNING
