"""What is true everywhere; the other modules of this folder hold only their differences."""

from pathlib import Path
from typing import Any

from decouple import Csv

from config import process
from config.connection import MAX_AGE, PGBOUNCER, build_options
from config.environment import config, seconds
from config.logs import TEXT

BASE_DIR = Path(__file__).resolve().parents[2]

# Core

ALLOWED_HOSTS = config("ALLOWED_HOSTS", cast=Csv())

ASGI_APPLICATION = "config.asgi.application"

AUTH_USER_MODEL = "users.User"

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": config("DB_NAME", default="backend_db"),
        "USER": config("DB_USER", default="postgres"),
        "PASSWORD": config("DB_PASSWORD", default="postgres"),
        "HOST": config("DB_HOST", default="localhost"),
        "PORT": config("DB_PORT", default="5432"),
        "ATOMIC_REQUESTS": True,
        "CONN_MAX_AGE": config("DB_CONN_MAX_AGE", default=MAX_AGE, cast=int),  # seconds
        # Without it every worker answers one 500 after a restart of the database.
        "CONN_HEALTH_CHECKS": True,
        # They would outlive the transaction, after which pgbouncer gives the connection to somebody else.
        "DISABLE_SERVER_SIDE_CURSORS": PGBOUNCER,
        "OPTIONS": build_options(),
    }
}

# PostgreSQL itself, where DB_HOST is a pgbouncer: for `migrate` and `check_database --direct`.
DB_DIRECT_HOST = config("DB_DIRECT_HOST")

if process.direct and DB_DIRECT_HOST:
    DATABASES["default"] |= {
        "HOST": DB_DIRECT_HOST,
        "PORT": config("DB_DIRECT_PORT", default="5432"),
    }

if config("DB_EMBEDDED", default=False, cast=bool):
    DATABASES["default"] |= {
        "ENGINE": "apps.core.database.embedded",
        "HOST": str(BASE_DIR / ".postgres"),
        "PORT": "",
    }

# Seconds for which a server waits for the database before it warns or refuses to start.
DB_STARTUP_WAIT = config("DB_STARTUP_WAIT", default=0, cast=seconds)

DEFAULT_EXCEPTION_REPORTER = "apps.core.reporting.SecretlessExceptionReporter"

# Whoever sends it as a bearer token sees the details of /health/ready/; nobody does while it is empty.
HEALTH_TOKEN = config("HEALTH_TOKEN")

INSTALLED_APPS = [
    "apps.core",
    "apps.users",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"unavailable": {"()": "config.logs.UnavailableFilter"}},
    "formatters": {"console": TEXT},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "console"}},
    "loggers": {
        # Django's own handlers would say the same a second time.
        "django": {"handlers": ["console"], "level": "INFO", "propagate": False},
        "django.request": {"filters": ["unavailable"]},
        # It tells of every connection that an outage costs; the outage itself is told once a second.
        "psycopg.pool": {"level": "ERROR"},
    },
    "root": {"handlers": ["console"], "level": config("LOG_LEVEL", default="INFO")},
}

MIDDLEWARE = [
    # Before all others: load balancers ask by address, over plain HTTP, and while sessions cannot be read.
    "apps.core.middleware.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Next to the views, whose database it watches.
    "apps.core.middleware.DatabaseMiddleware",
]

ROOT_URLCONF = "config.urls"

SECRET_KEY = config("SECRET_KEY")

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

TIME_ZONE = "UTC"

WSGI_APPLICATION = "config.wsgi.application"

# Contrib

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

STATIC_ROOT = BASE_DIR / "staticfiles"

STATIC_URL = "static/"
