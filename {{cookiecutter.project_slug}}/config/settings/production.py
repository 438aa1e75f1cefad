"""Production: no insecure default, whatever is missing is refused by name."""

from apps.core.environment import config, require_production_values
from config.connection import secure
from config.logs import JSON

from .base import *  # noqa: F403  a settings module is its base and its differences
from .base import DATABASES, LOGGING, MIDDLEWARE, STORAGES

require_production_values()

# Core

CSRF_COOKIE_SECURE = True

DATABASES = {using: secure(database) for using, database in DATABASES.items()}

DEBUG = False

ENVIRONMENT = config("DB_ENVIRONMENT", default="production")

LOGGING = {**LOGGING, "formatters": {**LOGGING["formatters"], "console": JSON}}

AFTER_REDIRECT = MIDDLEWARE.index("django.middleware.security.SecurityMiddleware") + 1

MIDDLEWARE = [
    *MIDDLEWARE[:AFTER_REDIRECT],
    "whitenoise.middleware.WhiteNoiseMiddleware",
    *MIDDLEWARE[AFTER_REDIRECT:],
]

SECURE_HSTS_INCLUDE_SUBDOMAINS = True

SECURE_HSTS_PRELOAD = True

# Seconds. Browsers refuse plain HTTP for as long: raise it to a year once HTTPS is known to work.
SECURE_HSTS_SECONDS = config("SECURE_HSTS_SECONDS", default=3600, cast=int)

SECURE_SSL_REDIRECT = config("SECURE_SSL_REDIRECT", default=True, cast=bool)

SESSION_COOKIE_SECURE = True

# Contrib

STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}
