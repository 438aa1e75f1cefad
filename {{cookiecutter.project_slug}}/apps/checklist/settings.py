"""Settings of the production checklist, which `config.settings.base` imports."""

from django.core.exceptions import ImproperlyConfigured

from apps.core.environment import config

# What PostgreSQL's log_statement may be, each with all of the one before it.
LOG_STATEMENT = ("none", "ddl", "mod", "all")

# Which statements the server's log must hold, as log_statement has it.
DB_AUDIT = config("DB_AUDIT", default="ddl")

if DB_AUDIT not in LOG_STATEMENT:
    raise ImproperlyConfigured(f"DB_AUDIT is {DB_AUDIT!r}, but must be none, ddl, mod or all.")

# How many standbys follow the primary.
DB_EXPECTED_REPLICAS = config("DB_EXPECTED_REPLICAS", default=0, cast=int)
