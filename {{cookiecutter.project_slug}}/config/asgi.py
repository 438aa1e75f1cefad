"""The ASGI application, under production settings unless told otherwise."""

import asyncio
import os
from functools import cache
from typing import Any

from django.core.asgi import get_asgi_application

from apps.core.database.connection import ReleasingExecutor
from apps.core.database.startup import check_before_serving
from config import process

# Asks for psycopg's pool, unless DB_POOL says otherwise: each request has a thread of its own here, and a connection
# that a thread kept would stay behind when it ends.
process.begin(process.Role.ASGI)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.production")

serve = get_asgi_application()
set_executor = cache(lambda loop: loop.set_default_executor(ReleasingExecutor()))


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve a request; the first one sets the event loop's executor, since not all servers have a lifespan."""
    set_executor(asyncio.get_running_loop())
    await serve(scope, receive, send)


if not process.checked:
    check_before_serving()
