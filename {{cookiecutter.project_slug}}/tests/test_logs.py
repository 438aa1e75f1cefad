"""The lines of the log."""

import json
import logging.config

import pytest

from config.logs import JSON, TEXT


def write_line(style):
    """Return the line of an error that happened while a secret was at hand."""
    secret = "geheim"  # noqa: S105  a debugger would show it
    try:
        int(secret[0])
    except ValueError as error:
        details = {"exc_info": (type(error), error, error.__traceback__), "order": 7, "request": object()}
    record = logging.makeLogRecord({"name": "shop", "levelname": "ERROR", "msg": "It failed", **details})
    return logging.config.DictConfigurator({}).configure_formatter(dict(style)).format(record)


@pytest.mark.parametrize("style", [JSON, TEXT])
def test_lines_show_where_it_happened_but_no_values(style):
    line = write_line(style)
    assert "ValueError: invalid literal for int() with base 10: 'g'" in line
    assert "write_line" in line
    assert "geheim" not in line


def test_production_writes_one_object_a_line():
    line = write_line(JSON)
    fields = json.loads(line)
    assert "\n" not in line
    assert (fields["event"], fields["level"], fields["logger"], fields["order"]) == ("It failed", "error", "shop", 7)
    assert "request" not in fields
