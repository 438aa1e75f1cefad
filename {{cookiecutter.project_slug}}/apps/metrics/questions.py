"""What the database is asked for its figures; nothing here fails for want of a privilege, it is only left out."""

from collections.abc import Mapping
from typing import NamedTuple

from apps.core.database.replication import LAG, WRITTEN


class Sample(NamedTuple):
    """A name of `database.HELP`, the figure, and what tells it from others of its name."""

    name: str
    value: float
    labels: Mapping[str, str] = {}


# Sessions as readiness counts them, but for that of the question. What those of other roles do is not for everybody.
SESSIONS = """
    SELECT coalesce(state, 'hidden'), count(*) FROM pg_stat_activity
    WHERE datid IS NOT NULL AND usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
    AND pid <> pg_backend_pid() GROUP BY 1
"""

# Those of superusers are no one else's to use.
MOST_SESSIONS = """
    SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END) FROM pg_settings
    WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')
"""

# A lock on a row is waited for by the number of its transaction, which is of no database: sessions are.
WAITING = """
    SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND datname = current_database()
"""

SIZE = "SELECT pg_database_size(current_database())"

SERVER = "SELECT current_setting('server_version'), CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END"

# Those that replay: whoever only receives, as Barman does, says nothing of that, nor does a subscriber stand by.
REPLICAS = f"""
    SELECT coalesce(nullif(application_name, ''), 'unknown'), coalesce(host(client_addr), 'local'),
        max(extract(epoch FROM {LAG})),
        max(pg_wal_lsn_diff({WRITTEN}, replay_lsn)),
        count(*)
    FROM pg_stat_replication
    WHERE replay_lsn IS NOT NULL
        AND pid NOT IN (SELECT active_pid FROM pg_replication_slots WHERE slot_type = 'logical' AND active)
    GROUP BY 1, 2
"""  # noqa: S608  SQL of the project's own

MAY_SEE_REPLICAS = "SELECT pg_has_role('pg_monitor', 'USAGE')"

# A primary that writes nothing sends nothing: who has replayed all that was received is not behind. How far behind a
# standby is that has not replayed any transaction yet, it does not know.
OWN_LAG = """
    SELECT lag FROM (SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END) AS own (lag)
    WHERE pg_is_in_recovery() AND lag IS NOT NULL
"""

HAS_TABLE = "SELECT to_regclass(quote_ident(%s)) IS NOT NULL"

APPLIED = "SELECT app, name FROM django_migrations"

# As seconds since 1970, and 0 for never: so that what is too old, and what never was, are told by one rule.
BACKUPS = """
    SELECT coalesce(extract(epoch FROM max(made_at)), 0), coalesce(extract(epoch FROM max(verified_at)), 0) FROM {}
"""
