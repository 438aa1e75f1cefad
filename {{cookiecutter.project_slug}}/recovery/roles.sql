-- The roles that Barman logs in with; neither may read the data by SQL. Run it in the database "postgres".

CREATE ROLE barman LOGIN;
GRANT pg_checkpoint, pg_read_all_settings, pg_read_all_stats TO barman;
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO barman;
GRANT EXECUTE ON FUNCTION pg_backup_stop(boolean) TO barman;
GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO barman;
GRANT EXECUTE ON FUNCTION pg_switch_wal() TO barman;

CREATE ROLE streaming_barman LOGIN REPLICATION;
