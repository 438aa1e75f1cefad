"""How gunicorn writes what it itself has to say; requests are logged by the application."""

import logging.config

from gunicorn import glogging
from gunicorn.config import Config

from config.logs import JSON


class Logger(glogging.Logger):  # type: ignore[misc]
    """Gunicorn's own, in the project's format."""

    def setup(self, cfg: Config) -> None:
        """Replace the format."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(logging.config.DictConfigurator({}).configure_formatter(dict(JSON)))
