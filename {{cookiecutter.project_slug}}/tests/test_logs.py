"""The lines of the log."""

import io
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


@pytest.fixture
def lines():
    """What is logged meanwhile, as production writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.config.DictConfigurator({}).configure_formatter(dict(JSON)))
    logging.getLogger().addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger().removeHandler(handler)


@pytest.mark.django_db
def test_every_line_of_a_request_has_the_id_that_came_with_it(client, lines):
    answer = client.get("/admin/login/?next=secret", headers={"X-Request-ID": "from-the-proxy.1"})
    line = next(line for line in lines() if line["event"] == "GET /admin/login/")
    assert answer.headers["X-Request-ID"] == line["request_id"] == "from-the-proxy.1"
    assert line["status"] == 200
    assert line["response_time_ms"] > 0


@pytest.mark.django_db
@pytest.mark.parametrize("sent", ["", "x" * 65, "with space", "line\nbreak", "ä"])
def test_a_request_without_a_sound_id_gets_one(client, lines, sent):
    answers = [client.get("/admin/login/", headers={"X-Request-ID": sent} if sent else {}) for _ in range(2)]
    first, second = (answer.headers["X-Request-ID"] for answer in answers)
    assert [line["request_id"] for line in lines() if line["event"] == "GET /admin/login/"] == [first, second]
    assert first != second
    assert len(first) == 32


@pytest.mark.django_db
def test_an_id_ends_with_its_request(client, lines):
    client.get("/admin/login/")
    logging.getLogger("shop").warning("After it")
    assert "request_id" not in lines()[-1]
