"""The ASGI application, under production settings unless told otherwise."""

import os

from django.core.asgi import get_asgi_application

from apps.core.database.startup import check_before_serving

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

application = get_asgi_application()

check_before_serving()
