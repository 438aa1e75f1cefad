"""What is true everywhere; the other modules of this folder hold only their differences."""

from pathlib import Path
from typing import Any

from decouple import Csv

from apps.core.environment import config, count, seconds, secret
from config import process
from config.connection import MAX_AGE, PGBOUNCER, SEVERAL, build_options
from config.logs import TEXT

BASE_DIR = Path(__file__).resolve().parents[2]

#: if cookiecutter.edition != "essential"
# Apps

from apps.backups.settings import *
from apps.checklist.settings import *
from apps.metrics.settings import *

#: endif
# Core

ALLOWED_HOSTS = config("ALLOWED_HOSTS", cast=Csv())

ASGI_APPLICATION = "config.asgi.application"

AUTH_USER_MODEL = "users.User"

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": config("DB_NAME", default="backend_db"),
        "USER": config("DB_USER", default="postgres"),
        "PASSWORD": secret("DB_PASSWORD", default="postgres"),
        "HOST": config("DB_HOST", default="localhost"),
        "PORT": config("DB_PORT", default="5432"),
        "ATOMIC_REQUESTS": config("DB_ATOMIC_REQUESTS", default=True, cast=bool),
        "CONN_MAX_AGE": config("DB_CONN_MAX_AGE", default=MAX_AGE, cast=int),  # seconds
        # Without it every worker answers one 500 after a restart of the database.
        "CONN_HEALTH_CHECKS": True,
        # They would outlive the transaction, after which pgbouncer gives the connection to somebody else.
        "DISABLE_SERVER_SIDE_CURSORS": PGBOUNCER,
        "OPTIONS": build_options(pgbouncer=PGBOUNCER),
    }
}

DB_EMBEDDED = config("DB_EMBEDDED", default=False, cast=bool)

#: if cookiecutter.edition == "cluster"
from apps.replicas.settings import *
from apps.replicas.settings import build_replicas

if not DB_EMBEDDED:
    DATABASES |= build_replicas(DATABASES["default"], build_options(pgbouncer=False, sessions="standby"))

#: endif
# Seconds for which a request waits for a database that is away, since most come back: restarted, or on another host.
DB_FAILOVER_WAIT = config("DB_FAILOVER_WAIT", default=10 if SEVERAL else 1, cast=seconds)

# Whom commands log in as that change the schema or have to do with all of the data, and who makes databases and roles.
# Nobody but DB_USER where these are empty; the embedded server has no other role.
DB_MIGRATE_USER = "" if DB_EMBEDDED else config("DB_MIGRATE_USER")
DB_MIGRATE_PASSWORD = secret("DB_MIGRATE_PASSWORD")
DB_ADMIN_USER = "" if DB_EMBEDDED else config("DB_ADMIN_USER")
DB_ADMIN_PASSWORD = secret("DB_ADMIN_PASSWORD")
DB_READONLY_PASSWORD = secret("DB_READONLY_PASSWORD")
DB_MONITOR_PASSWORD = secret("DB_MONITOR_PASSWORD")

OWNER = {"USER": DB_MIGRATE_USER, "PASSWORD": DB_MIGRATE_PASSWORD} if DB_MIGRATE_USER else {}

if process.role in process.OWNERS:
    DATABASES["default"] |= OWNER

# Extensions that `prepare_database` makes.
DB_EXTENSIONS = config("DB_EXTENSIONS", cast=Csv())

# Seconds from which on a query is slow, and logged.
DB_SLOW_QUERY = config("DB_SLOW_QUERY", default=0.5, cast=seconds)

# PostgreSQL itself, where DB_HOST is a pgbouncer: for commands of the owner and `check_database --direct`.
DB_DIRECT_HOST = config("DB_DIRECT_HOST")

if process.direct and DB_DIRECT_HOST:
    DATABASES["default"] |= {
        "HOST": DB_DIRECT_HOST,
        "PORT": config("DB_DIRECT_PORT", default="5432"),
    }

# Schema changes that do not hold up others, by an engine for `migrate` alone.
DB_ZERO_DOWNTIME = config("DB_ZERO_DOWNTIME", default=False, cast=bool)

if DB_ZERO_DOWNTIME and process.role == process.Role.MIGRATE:
    DATABASES["default"]["ENGINE"] = "django_zero_downtime_migrations.backends.postgres"

if DB_EMBEDDED:
    DATABASES["default"] |= {
        "ENGINE": "apps.core.database.embedded",
        "HOST": str(BASE_DIR / ".postgres"),
        "PORT": "",
    }
    DJANGO_EXTENSIONS_RESET_DB_POSTGRESQL_ENGINES = ["apps.core.database.embedded", "django.db.backends.postgresql"]

# The name of a production database that may be emptied, dropped or replaced all the same.
DB_UNPROTECTED = config("DB_UNPROTECTED")

# Seconds for which a server waits for the database before it warns or refuses to start.
DB_STARTUP_WAIT = config("DB_STARTUP_WAIT", default=0, cast=seconds)

DEFAULT_EXCEPTION_REPORTER = "apps.core.reporting.SecretlessExceptionReporter"

# The sender of mail, also of mail about errors.
DEFAULT_FROM_EMAIL = SERVER_EMAIL = config("DEFAULT_FROM_EMAIL", default="webmaster@localhost")

# Which environment a database belongs to that is migrated from here; "production" protects it.
ENVIRONMENT = config("DB_ENVIRONMENT", default="development")

# Whoever sends it as a bearer token sees the details of /health/ready/; nobody does while it is empty.
HEALTH_TOKEN = secret("HEALTH_TOKEN")

INSTALLED_APPS = [
    "apps.core",
    "apps.protection",
    "apps.queries",
    "apps.roles",
    "apps.schema",
    "apps.users",
    #: if cookiecutter.edition != "essential"
    "apps.backups",
    "apps.checklist",
    "apps.insight",
    "apps.metrics",
    #: endif
    #: if cookiecutter.edition == "cluster"
    "apps.replicas",
    #: endif
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
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "console"},
        # To ADMINS, by a mailer that does not fail: Django would answer each error of the handler with another mail.
        "mail": {"class": "django.utils.log.AdminEmailHandler", "level": "ERROR", "using": "errors"},
    },
    "loggers": {
        # Django's own handlers would say the same a second time.
        "django": {"handlers": ["console", "mail"], "level": "INFO", "propagate": False},
        "django.request": {"filters": ["unavailable"]},
        # It tells of every connection that an outage costs; the outage itself is told once a second.
        "psycopg.pool": {"level": "ERROR"},
    },
    "root": {"handlers": ["console"], "level": config("LOG_LEVEL", default="INFO")},
}

# Mail is sent by SMTP. Without EMAIL_HOST it is dropped, and core.W005 warns in place of Django's error.
DROPPED = {"BACKEND": "django.core.mail.backends.dummy.EmailBackend"}
MAILERS: dict[str, dict[str, Any]] = {"default": DROPPED, "errors": DROPPED}
SILENCED_SYSTEM_CHECKS = [] if config("EMAIL_HOST") else ["mail.E001"]

if config("EMAIL_HOST"):
    MAILERS["default"] = {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {
            "host": config("EMAIL_HOST"),
            "port": config("EMAIL_PORT", default=587, cast=count),
            "username": config("EMAIL_HOST_USER"),
            "password": secret("EMAIL_HOST_PASSWORD"),
            "use_tls": config("EMAIL_USE_TLS", default=True, cast=bool),
            "timeout": 5,  # seconds; a request waits for a silent mail server
        },
    }
    silent = {"fail_silently": True, "timeout": 2}
    MAILERS["errors"] = {**MAILERS["default"], "OPTIONS": {**MAILERS["default"]["OPTIONS"], **silent}}

MIDDLEWARE = [
    # Before all others: load balancers ask by address, over plain HTTP, and while sessions cannot be read.
    "apps.core.middleware.HealthMiddleware",
    #: if cookiecutter.edition != "essential"
    "apps.metrics.middleware.MetricsMiddleware",
    #: endif
    "apps.core.middleware.RequestMiddleware",
    "apps.queries.middleware.QueriesMiddleware",
    #: if cookiecutter.edition == "cluster"
    # Before sessions, whose rows are written and read as well.
    "apps.replicas.middleware.ReplicaMiddleware",
    #: endif
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

# What becomes of a query that one line of code repeats for each of many objects: nothing, "warn" or "raise".
REPEATED_QUERIES = ""

ROOT_URLCONF = "config.urls"

SECRET_KEY = secret("SECRET_KEY")

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

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# Third party

# Of the engine of DB_ZERO_DOWNTIME. An index may take longer to build than DB_MIGRATE_STATEMENT_TIMEOUT, since that
# holds up nobody; and what a migration did before it failed is not taken back: run again, it leaves out what is done.
ZERO_DOWNTIME_MIGRATIONS_FLEXIBLE_STATEMENT_TIMEOUT = True

ZERO_DOWNTIME_MIGRATIONS_IDEMPOTENT_SQL = True
