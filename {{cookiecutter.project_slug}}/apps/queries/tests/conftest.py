"""What the tests of queries share."""

import inspect
import io
import json
import logging.config
from pathlib import Path

import pytest
from django.conf import settings

from config.logs import JSON


@pytest.fixture
def lines():
    """What is logged meanwhile, as production writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.config.DictConfigurator({}).configure_formatter(dict(JSON)))
    logging.getLogger().addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def place():
    """The line of the test that calls this, or so many after it, as the log has it."""

    def tell(after=0):
        caller = inspect.currentframe().f_back
        file = Path(caller.f_code.co_filename).relative_to(settings.BASE_DIR)
        return f"{file}:{caller.f_lineno + after}"

    return tell
