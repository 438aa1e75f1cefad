"""The ASGI application, under production settings unless told otherwise."""

import os

from django.core.asgi import get_asgi_application

from apps.core.database.startup import check_before_serving
from config import process

# Asks for psycopg's pool, unless DB_POOL says otherwise: each request has a thread of its own here, and a connection
# that a thread kept would stay behind when it ends.
process.begin(process.Role.ASGI)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

application = get_asgi_application()

if not process.checked:
    check_before_serving()
