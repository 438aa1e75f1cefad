"""How a log record becomes a line: text for a developer, one JSON object for a machine."""

import logging
import sys
from http import HTTPStatus
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


def drop_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out the request that Django adds to its records: an object, which has no readable form."""
    event.pop("request", None)
    return event


class UnavailableFilter(logging.Filter):
    """Drops what Django says of each 503: why there is one is said once a second, by `middleware`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to keep the record."""
        return getattr(record, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE


def build_formatter(*last: Processor) -> dict[str, Any]:
    """Return an entry for LOGGING's formatters; what `extra` holds becomes fields of the line."""
    return {
        "()": "structlog.stdlib.ProcessorFormatter",
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        "foreign_pre_chain": [
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.contextvars.merge_contextvars,  # what is bound to the request
            drop_request,
            structlog.processors.TimeStamper(fmt="iso"),
        ],
    }


# Plain tracebacks: others show the values of local variables, passwords among them.
TEXT = build_formatter(
    structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
)
JSON = build_formatter(structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
