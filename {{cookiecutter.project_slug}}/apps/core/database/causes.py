"""Why a database cannot be used: one table from an error to its cause, what to say, and what to do."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Cause(StrEnum):
    """Everything that can be wrong with a database, as far as a client can tell."""

    REFUSED = "refused"
    HOST_UNKNOWN = "host_unknown"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    TLS_MISMATCH = "tls_mismatch"
    AUTHENTICATION_FAILED = "authentication_failed"
    ROLE_MISSING = "role_missing"
    LOGIN_FORBIDDEN = "login_forbidden"
    REJECTED = "rejected"
    DATABASE_MISSING = "database_missing"
    PERMISSION_DENIED = "permission_denied"
    NOT_ACCEPTING = "not_accepting"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    POOL_EXHAUSTED = "pool_exhausted"
    STARTING_OR_STOPPING = "starting_or_stopping"
    TERMINATED = "terminated"
    READ_ONLY = "read_only"
    NO_STANDBY = "no_standby"
    CONFIGURATION = "configuration"
    SERVER_TOO_OLD = "server_too_old"
    LOCKED = "locked"
    DISK_FULL = "disk_full"
    OUT_OF_MEMORY = "out_of_memory"
    UNKNOWN = "unknown"


class Row(NamedTuple):
    """One line of the table: what is said and done about a cause, and by what it is recognised."""

    message: str
    remedy: str
    waiting_helps: bool
    sqlstates: frozenset[str] = frozenset()
    text: str = r"(?!)"  # how the server's message begins or, before there is one, libpq's; in English


# In order: where two rows would match, the first is meant.
TABLE: Mapping[Cause, Row] = {
    Cause.POOL_EXHAUSTED: Row(
        "No connection of the pool to database '{name}' became free in time.",
        "Raise DB_POOL_MAX_SIZE, or find what holds connections for long: slow queries, or threads of your own that "
        "queried outside `with release_connections()`",
        True,
        text=r"query_wait_timeout",
    ),
    Cause.TIMEOUT: Row(
        "Database server at {host}:{port} did not answer in time. "
        "Please check DB_HOST, firewalls and the server's load.",
        "pg_isready -h {host} -p {port}",
        True,
        frozenset({"57014"}),
        r"(connection )?timeout expired$",
    ),
    Cause.DATABASE_MISSING: Row(
        "Database '{name}' does not exist. Please create the database or check DB_NAME environment variable.",
        "createdb {name}",
        True,
        frozenset({"3D000"}),
        r'database ".*" does not exist$|no such database',
    ),
    Cause.ROLE_MISSING: Row(
        "Database user '{user}' does not exist. Please create the user or check DB_USER environment variable.",
        "createuser -P {user}",
        True,
        text=r'role ".*" does not exist$|no such user',
    ),
    Cause.LOGIN_FORBIDDEN: Row(
        "Database user '{user}' may not log in. Please allow it or check DB_USER environment variable.",
        "psql -U postgres -c {grant_login}",
        False,
        text=r'role ".*" is not permitted to log in$',
    ),
    Cause.REJECTED: Row(
        "Database server at {host}:{port} does not admit user '{user}' to database '{name}' from this machine.",
        "Add a line to the server's pg_hba.conf, or change DB_SSLMODE where it asks for TLS",
        False,
        text=r"no pg_hba\.conf entry for|pg_hba\.conf rejects|connection requires a valid client certificate$",
    ),
    Cause.AUTHENTICATION_FAILED: Row(
        "Authentication failed for user '{user}'. Please check DB_USER and DB_PASSWORD environment variables. "
        "Either the password is wrong or the user does not exist: the server does not say which.",
        "Correct DB_USER and DB_PASSWORD in .env",
        False,
        frozenset({"28P01"}),
        r'[\w-]+ authentication failed( for user ".*")?$|fe_sendauth: no password supplied',
    ),
    Cause.PERMISSION_DENIED: Row(
        "Permission denied for user '{user}' on database '{name}'. Please grant the missing privileges.",
        "psql -U postgres -c {grant}",
        False,
        frozenset({"42501"}),
        r"permission denied for|Permission denied$",
    ),
    Cause.NOT_ACCEPTING: Row(
        "Database '{name}' does not accept connections at present.",
        "psql -U postgres -c {allow_connections}",
        True,
        frozenset({"55000"}),
        r'database ".*" is not currently accepting connections$',
    ),
    Cause.TOO_MANY_CONNECTIONS: Row(
        "Database server at {host}:{port} has no connection left for user '{user}'.",
        "Close idle clients, lower DB_CONN_MAX_AGE or raise max_connections",
        True,
        frozenset({"53300"}),
        r"(sorry, )?too many clients|remaining connection slots|too many connections for",
    ),
    Cause.STARTING_OR_STOPPING: Row(
        "Database server at {host}:{port} is starting up, shutting down or recovering.",
        "Wait; if it lasts, read the server's log",
        True,
        frozenset({"57P03"}),
        r"the database system is ",
    ),
    Cause.TERMINATED: Row(
        "Database server at {host}:{port} ended the connection.",
        "Try again; if it lasts, read the server's log",
        True,
        frozenset({"57P01", "57P02", "57P05", "25P03"}),
        r"terminating connection",
    ),
    Cause.READ_ONLY: Row(
        "Database server at {host}:{port} is read-only, such as a standby.",
        "Point DB_HOST to the primary server",
        True,
        frozenset({"25006"}),
        r"session is read-only|server is in hot standby mode",
    ),
    Cause.NO_STANDBY: Row(
        "Database server at {host}:{port} is the primary, not a standby.",
        "Nothing to do after a failover. Otherwise correct the host of the replica",
        True,
        text=r"server is not in hot standby mode",
    ),
    Cause.CONFIGURATION: Row(
        "The settings of database '{name}' cannot be used: {error}.",
        "Correct DATABASES in config/settings or the DB_* variables",
        False,
        frozenset({"42704", "22023"}),
        r"unrecognized configuration parameter|invalid value for parameter|unsupported startup parameter|"
        r"invalid (connection option|port number|integer value|\w+ value)|could not match \d+ port numbers",
    ),
    Cause.SERVER_TOO_OLD: Row(
        "The database server is too old: {error}.",
        "Upgrade PostgreSQL to version 15 or later",
        False,
    ),
    Cause.LOCKED: Row(
        "What was needed of database '{name}' stayed locked by another session.",
        "psql -d {name} -c {find_blocking}",
        True,
        frozenset({"55P03"}),
    ),
    Cause.DISK_FULL: Row(
        "The disk of database server at {host}:{port} is full.",
        "Free disk space there, or move a tablespace",
        True,
        frozenset({"53100"}),
    ),
    Cause.OUT_OF_MEMORY: Row(
        "Database server at {host}:{port} is out of memory.",
        "Lower work_mem or max_connections, or give the machine more",
        True,
        frozenset({"53200"}),
    ),
    Cause.TLS_MISMATCH: Row(
        "No secure connection to database server at {host}:{port}: {error}.",
        "Check DB_SSLMODE and DB_SSLROOTCERT against the server's certificate",
        False,
        text=r"server does not support SSL|SSL error|server certificate for|root certificate file",
    ),
    Cause.HOST_UNKNOWN: Row(
        "Host name '{host}' is not known. Please check DB_HOST environment variable and the name server.",
        "getent hosts {host}",
        True,
        text=r"failed to resolve host|could not translate host name",
    ),
    Cause.UNREACHABLE: Row(
        "No network route to database server at {host}:{port}. Please check DB_HOST and the network.",
        "ip route get {host}",
        True,
        text=r"Network is unreachable|No route to host",
    ),
    Cause.REFUSED: Row(
        "Could not connect to database server at {host}:{port}. "
        "Please ensure PostgreSQL is running and check DB_HOST and DB_PORT.",
        "sudo systemctl start postgresql",
        True,
        text=r"Connection refused|No such file or directory",
    ),
    Cause.CONNECTION_LOST: Row(
        "The connection to database server at {host}:{port} was lost, or no PostgreSQL answers there.",
        "Read the server's log, and check that DB_PORT is PostgreSQL's",
        True,
        frozenset({"08000", "08001", "08003", "08004", "08006", "08007"}),
        r"server closed the connection|Connection reset by peer|Broken pipe|the connection is (closed|lost)|"
        r"received invalid response to SSL negotiation|expected authentication request|"
        r"could not (receive|send) data|SSL connection has been closed|SSL SYSCALL|"
        r"no connection to the server$|received \d+ results from command|"
        r"server login (has been failing|failed)|pgbouncer cannot connect to server|server conn crashed",
    ),
    Cause.UNKNOWN: Row("The database cannot be used: {error}.", "Read the server's log", True),
}
