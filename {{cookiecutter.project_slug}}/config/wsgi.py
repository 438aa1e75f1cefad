"""The WSGI application, under production settings unless told otherwise."""

import os

from django.core.wsgi import get_wsgi_application

from apps.core.database.startup import check_before_serving
from config import process

process.begin(process.Role.WSGI)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

application = get_wsgi_application()

if not process.checked:
    check_before_serving()
