"""What is seen of a database, and how much of it is said."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.insight.chains import arrange_chains
from apps.insight.inspection import KEYS, inspect

pytestmark = pytest.mark.django_db(transaction=True)


def session(pid, *waits_for, seconds=0):
    names = {"user": "ada", "application": "shop", "state": "active"}
    return {"pid": pid, "waits_for": list(waits_for), "wait_seconds": seconds if waits_for else None, **names}


def test_queue_behind_one_lock_is_told_once():
    """Each of a queue waits for all before it: there are 2 ** 99 ways through it."""
    queue = [session(pid, *range(pid), seconds=3) for pid in range(1, 100)]
    root, *others = arrange_chains([*queue, session(0)])
    assert (root["pid"], root["others"], root["wrong"]) == (0, "99 others", "prepared")
    assert sorted(row["pid"] for row in others) == list(range(1, 100))
    assert {row["root"] for row in others} == {0}


def test_deadlock_ends_as_well():
    assert [row["pid"] for row in arrange_chains([session(1, 2), session(2, 1)])] == [1, 2]


def test_short_waits_are_no_finding():
    root, _ = arrange_chains([session(1), session(2, 1, seconds=0.9)])
    assert root["wrong"] is None


def test_every_section_is_read():
    inspection = inspect()
    assert tuple(section.key for section in inspection.sections) == KEYS
    silent = {"slow_queries", "expensive_queries", "history"}
    assert {section.key: section.missing for section in inspection.sections if section.missing}.keys() <= silent
    for section in inspection.sections:
        for row in section.rows:
            assert list(row) == [column.key for column in section.columns]


def test_chosen_sections_alone_are_read():
    assert [section.key for section in inspect(keys=["settings", "activity"]).sections] == ["activity", "settings"]


def test_inspection_changes_nothing_of_the_connection():
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        before = cursor.fetchone()
        inspect()
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == before


def test_sequence_near_its_end_is_found_and_told_first():
    with connection.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE short AS smallint")
        cursor.execute("SELECT setval('short', 30000)")
    said = StringIO()
    try:
        call_command("inspect_database", section=["settings", "sequences"], stdout=said)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP SEQUENCE short")
    assert (
        "\n! Sequence public.short has used 91.6 % of 32767 numbers: at the end no row can be added." in said.getvalue()
    )
    assert said.getvalue().index("! Sequence") < said.getvalue().index("[sequences]")


def test_json_has_what_the_text_has():
    said = StringIO()
    call_command("inspect_database", section=["settings"], format="json", stdout=said)
    (section,) = json.loads(said.getvalue())["sections"]
    assert {"name", "value", "look"} == section["rows"][0].keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--database", "other"], "There is no database 'other'; there is default."),
        (["--section", "other"], "argument --section: invalid choice: 'other'"),
    ],
)
def test_unknown_names_are_refused(options, said):
    with pytest.raises(CommandError, match=said):
        call_command("inspect_database", *options)
