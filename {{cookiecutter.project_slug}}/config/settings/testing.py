"""Tests: a database of their own, created and destroyed by the run, and no waiting."""

from .base import *  # noqa: F403  a settings module is its base and its differences
from .base import DATABASES, MAILERS, OWNER

# Core

# The owner, since a run makes a database, and empties tables. A replica cannot have a test database.
DATABASES = {
    using: {**database, **(OWNER if using == "default" else {}), "CONN_MAX_AGE": 0}
    for using, database in DATABASES.items()
    if database.get("OPTIONS", {}).get("target_session_attrs") != "standby"
}

ENVIRONMENT = "testing"

MAILERS = {alias: {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"} for alias in MAILERS}

REPEATED_QUERIES = "raise"

SECRET_KEY = "testing-only"  # noqa: S105  signs nothing that outlives a test

# Contrib

# Real hashers are slow on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
