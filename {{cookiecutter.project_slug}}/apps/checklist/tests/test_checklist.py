"""What the checklist makes of a database, and how it is printed."""

import json
from dataclasses import replace

import pytest
from django.core.checks import Info, Warning  # noqa: A004  Django's name
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from apps.checklist import lines
from apps.checklist.lines import Mark, answer
from apps.checklist.logs import check_audit, check_statistics
from apps.checklist.reading import read

POOLING = "Connection pooling configured appropriately"


def find(text, *messages):
    (line,) = [line for line in answer(messages) if line.text == text]
    return line


def test_a_warning_fails_its_lines_and_no_other():
    failed = {line.text for line in answer([Warning("x", id="checklist.W008")]) if line.mark == Mark.FAILED}
    assert failed == {"Database user has minimal necessary permissions", "Restrict database user permissions"}


def test_what_there_is_not_does_not_fail_and_neither_does_what_is_silenced(settings):
    assert find(POOLING).mark == Mark.PASSED
    assert find("Read replicas set up (if needed)", Info("x", id="checklist.I002")).mark == Mark.ABSENT
    settings.SILENCED_SYSTEM_CHECKS = ["core.W001"]
    assert find(POOLING, Warning("x", id="core.W001")).mark == Mark.ABSENT
    assert find(POOLING, Warning("x", id="core.W001"), Warning("y", id="core.W003")).mark == Mark.FAILED


def test_line_of_a_room_that_is_gone_is_not_ticked(monkeypatch):
    monkeypatch.setitem(lines.LISTS, "Mine", {"All is well": ("nowhere.W001",)})
    line = find("All is well")
    assert (line.mark, line.missing) == (Mark.ABSENT, ["apps.nowhere"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("classes", "enough"),
    [
        ("none", set()),
        ("ddl", set()),
        ("ddl, role", {"ddl"}),
        ("WRITE,DDL,ROLE", {"ddl", "mod"}),
        ("all", {"ddl", "mod", "all"}),
        ("all, -misc", {"ddl", "mod"}),
        ("all, -role", set()),
    ],
)
def test_pgaudit_counts_where_it_logs_as_much(settings, classes, enough):
    reading = read(connection)
    loaded = replace(reading, settings={**reading.settings, "log_statement": "none", "pgaudit.log": classes})
    for settings.DB_AUDIT in ("ddl", "mod", "all"):
        assert [each.id for each in check_audit(loaded)] == ["checklist.W010"] * (settings.DB_AUDIT not in enough)


@pytest.mark.django_db
def test_statistics_need_the_library_and_the_extension():
    reading = read(connection)
    others = {name: value for name, value in reading.settings.items() if not name.startswith("pg_stat_statements.")}
    (missing,) = check_statistics(replace(reading, settings=others))
    assert missing.msg.startswith("pg_stat_statements is not loaded:")
    loaded = replace(reading, settings={**others, "pg_stat_statements.max": "5000"}, extensions=["plpgsql"])
    assert check_statistics(loaded)[0].msg.startswith("pg_stat_statements is loaded, but no extension")
    assert check_statistics(replace(loaded, extensions=["plpgsql", "pg_stat_statements"])) == []


@pytest.mark.django_db
def test_table_and_json_say_the_same_of_a_role_that_owns_the_database(capsys):
    with pytest.raises(CommandError, match=r"\d+ of \d+ lines fail\.") as failure:
        call_command("production_checklist", no_color=True)
    assert failure.value.returncode == 1
    table = capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("production_checklist", format="json")
    report = json.loads(capsys.readouterr().out)
    signs = {"passed": "✓", "failed": "✗", "absent": "\N{EN DASH}"}
    assert report["passed"] is False
    assert [line for line in table.splitlines() if line.startswith("  ") and line[2] != " "] == [
        f"  {signs[line['mark']]} {line['line']}" for line in report["lines"]
    ]
    permissions = next(line for line in report["lines"] if line["line"].startswith("Database user"))
    (message,) = [message for message in permissions["messages"] if message["id"] == "checklist.W008"]
    assert f"      checklist.W008: {message['message']}\n          {message['hint']}\n" in table
