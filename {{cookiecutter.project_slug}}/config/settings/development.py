"""A developer's machine: everything visible, nothing remembered between requests."""

from apps.core.environment import config

from .base import *  # noqa: F403  a settings module is its base and its differences
from .base import DATABASES, INSTALLED_APPS, LOGGING, MAILERS, MIDDLEWARE, SECRET_KEY

# Core

ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

# runserver answers each request in a thread of its own: a connection kept by one is never used again.
DATABASES = {
    using: {**database, "CONN_MAX_AGE": config("DB_CONN_MAX_AGE", default=0, cast=int)}
    for using, database in DATABASES.items()
}

DEBUG = True

INSTALLED_APPS = [*INSTALLED_APPS, "debug_toolbar", "django_extensions"]

INTERNAL_IPS = ["127.0.0.1"]

# runserver has lines of its own for requests, which say less than those of the project.
LOGGING = {**LOGGING, "loggers": {**LOGGING["loggers"], "django.server": {"level": "CRITICAL"}}}

MAILERS = {alias: {"BACKEND": "django.core.mail.backends.console.EmailBackend"} for alias in MAILERS}

MIDDLEWARE = [
    "apps.queries.middleware.ServerTimingMiddleware",
    "debug_toolbar.middleware.DebugToolbarMiddleware",
    *MIDDLEWARE,
]

REPEATED_QUERIES = "warn"

SECRET_KEY = SECRET_KEY or "development-only"
