"""Tests: a database of their own, created and destroyed by the run, and no waiting."""

from .base import *  # noqa: F403  a settings module is its base and its differences
from .base import DATABASES, MAILERS, OWNER

# Core

# The owner, since a run makes a database, and empties tables.
DATABASES = {"default": {**DATABASES["default"], **OWNER, "CONN_MAX_AGE": 0}}

ENVIRONMENT = "testing"

MAILERS = {alias: {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"} for alias in MAILERS}

REPEATED_QUERIES = "raise"

SECRET_KEY = "testing-only"  # noqa: S105  signs nothing that outlives a test

# Contrib

# Real hashers are slow on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
