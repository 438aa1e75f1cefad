"""Whether it can be told afterwards which queries were slow, and who did what."""

from collections.abc import Mapping

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Info, Warning  # noqa: A004  Django's name

from .reading import Reading
from .settings import LOG_STATEMENT

# What log_statement may be, and the classes of pgaudit.log that hold as much.
AUDITS: dict[str, set[str]] = {
    "none": set(),
    "ddl": {"ddl", "role"},
    "mod": {"ddl", "role", "write"},
    "all": {"ddl", "role", "write", "read", "function", "misc"},
}

# Values of log_destination whose lines hold every name.
COMPLETE = {"csvlog", "jsonlog"}


def check_slow_queries(reading: Reading) -> list[CheckMessage]:
    """Report that nobody logs slow queries: neither the project's own log, which holds no values, nor the server's."""
    own = apps.is_installed("apps.queries") and is_reached(settings.DB_SLOW_QUERY, reading)
    if own or int(reading.settings["log_min_duration_statement"]) >= 0:
        return []
    return [
        Warning(
            "No slow query is logged: what makes pages slow, and what somebody tries out on them, is not found.",
            hint="Set DB_SLOW_QUERY to less than DB_STATEMENT_TIMEOUT, or the server's log_min_duration_statement.",
            id="checklist.W009",
        )
    ]


def is_reached(seconds: float, reading: Reading) -> bool:
    """Tell whether a query can take as long without being ended."""
    limit = int(reading.settings["statement_timeout"])
    return limit == 0 or seconds * 1000 < limit


def check_audit(reading: Reading) -> list[CheckMessage]:
    """Report a server whose log holds fewer statements than DB_AUDIT asks for, or that it asks for none."""
    wanted = settings.DB_AUDIT
    if wanted == "none":
        return [Info("DB_AUDIT is none: the server's log need not tell who did what.", id="checklist.I001")]
    if is_audited(wanted, reading.settings):
        return []
    level = reading.settings["log_statement"]
    return [
        Warning(
            f"DB_AUDIT is {wanted}, but the server's log_statement is {level}: it cannot be told who did what.",
            hint=f"Run ALTER SYSTEM SET log_statement = '{wanted}' and SELECT pg_reload_conf() as a superuser, "
            "have pgaudit log it, or set DB_AUDIT to what is enough.",
            id="checklist.W010",
        )
    ]


def is_audited(wanted: str, found: Mapping[str, str]) -> bool:
    """Tell whether log_statement, or pgaudit where it is loaded, logs as much as this level."""
    if LOG_STATEMENT.index(found["log_statement"]) >= LOG_STATEMENT.index(wanted):
        return True
    return "pgaudit.log" in found and AUDITS[wanted] <= read_classes(found["pgaudit.log"])


def read_classes(value: str) -> set[str]:
    """Return the classes that pgaudit.log stands for, such as "all, -misc"."""
    classes: set[str] = set()
    for word in value.lower().replace(" ", "").split(","):
        named = AUDITS["all"] if word.removeprefix("-") == "all" else {word.removeprefix("-")}
        classes = classes - named if word.startswith("-") else classes | named
    return classes


def check_names(reading: Reading) -> list[CheckMessage]:
    """Report a log in which statements stand without the role that ran them."""
    destinations = {word.strip() for word in reading.settings["log_destination"].split(",")}
    if settings.DB_AUDIT == "none" or destinations & COMPLETE or "%u" in reading.settings["log_line_prefix"]:
        return []
    return [
        Warning(
            "The server's log_line_prefix has no %u: its log holds statements, but not who ran them.",
            hint="Run ALTER SYSTEM SET log_line_prefix = '%m [%p] %q%u@%d %a ' and SELECT pg_reload_conf() "
            "as a superuser.",
            id="checklist.W011",
        )
    ]


def check_statistics(reading: Reading) -> list[CheckMessage]:
    """Report that nobody adds up what queries cost; only a library that is loaded has settings."""
    if "pg_stat_statements.max" not in reading.settings:
        missing = "is not loaded"
        remedy = "Add it to the server's shared_preload_libraries, restart that, and then make the extension."
    elif "pg_stat_statements" not in reading.extensions:
        missing = "is loaded, but no extension of this database"
        remedy = "Set DB_EXTENSIONS=pg_stat_statements, and run manage.py prepare_database."
    else:
        return []
    return [
        Warning(
            f"pg_stat_statements {missing}: nobody can tell which queries the server's time goes to.",
            hint=remedy,
            id="checklist.W012",
        )
    ]
