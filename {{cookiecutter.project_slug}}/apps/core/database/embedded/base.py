"""Django's PostgreSQL engine, with the embedded server started before the first connection to it."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.db.backends.postgresql import base, client

from . import server
from .programs import find_binaries

# libpq reads PGHOSTADDR and PGSERVICE by itself, which lead elsewhere; PGVECTOR_SIZE and the like are the project's.
for variable in filter(re.compile("PG([A-Z]+|CONNECT_TIMEOUT|_COLORS?)").fullmatch, list(os.environ)):
    del os.environ[variable]


class DatabaseClient(client.DatabaseClient):
    """`dbshell`, by the psql that belongs to the embedded server."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        """Return psql's command line and environment, once the server runs."""
        address = server.start(Path(settings_dict["HOST"]), settings_dict["USER"], settings_dict["NAME"])
        settings_dict = {**settings_dict, "HOST": address.host, "PORT": address.port}
        (_, *arguments), environment = super().settings_to_cmd_args_env(settings_dict, parameters)
        return [str(find_binaries() / "psql"), *arguments], environment


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to the embedded server whose folder is the setting HOST."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Return what psycopg connects with, once the server runs."""
        params = super().get_connection_params()
        address = server.start(Path(params["host"]), params["user"], params["dbname"])
        return {**params, "host": address.host, "port": address.port}
