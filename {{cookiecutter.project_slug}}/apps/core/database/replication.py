"""How far behind a standby is, in SQL, for all who ask the primary about it."""

from typing import LiteralString

# Up to where the write-ahead log has been written, or received where this is a standby itself, with others behind it.
WRITTEN: LiteralString = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END"

# An interval, of a row of pg_stat_replication. What a standby said last is kept once it has caught up, and has grown
# older where it says nothing any more.
LAG: LiteralString = f"""
    CASE WHEN replay_lsn < {WRITTEN}
            THEN coalesce(replay_lag, '0') + greatest(clock_timestamp() - reply_time, '0')
        WHEN replay_lsn IS NOT NULL THEN '0' END
"""
