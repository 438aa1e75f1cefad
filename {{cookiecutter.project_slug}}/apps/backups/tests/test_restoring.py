"""Restoring backups and trying them out, by the commands themselves, on the database of the test run."""

import io

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from apps.backups.archive import list_backups
from apps.backups.contents import Contents
from apps.backups.models import Backup
from apps.backups.neighbours import Purpose, drop, find_prefix, list_neighbours, maintain, name_neighbour
from apps.backups.properties import create
from apps.backups.restoration import list_differences
from apps.backups.swap import swap
from apps.users.models import User


@pytest.fixture
def dump(transactional_db, tmp_path):
    """A backup of a database with one user."""
    User.objects.create_user("ada")
    call_command("backup_database", folder=tmp_path, no_prune=True, stdout=io.StringIO())
    return list_backups(tmp_path)[0]


def list_all():
    with maintain(connection) as session:
        return [
            name for purpose in Purpose for name in list_neighbours(session, connection.settings_dict["NAME"], purpose)
        ]


def test_backup_is_tried_out_and_noted(dump, capsys):
    Backup.objects.all().delete()  # one that this database does not know of
    call_command("verify_backup", dump)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{dump}: good, ")
    backup = Backup.objects.get(name=dump.name)
    assert backup.verified_at > backup.made_at
    assert backup.verified_seconds > 0
    assert list_all() == []


def test_restored_database_takes_the_place_of_the_present_one(dump, capsys):
    User.objects.create_user("grace")
    call_command("restore_database", dump)
    assert "was interrupted for" in capsys.readouterr().out.splitlines()[-1]
    connection.close()  # it was ended
    try:
        assert [user.username for user in User.objects.all()] == ["ada"]
        call_command("restore_database", undo=True)
        connection.close()
        assert [user.username for user in User.objects.order_by("username")] == ["ada", "grace"]
    finally:
        call_command("restore_database", drop_kept=True)
    assert list_all() == []


def test_names_are_swapped_together_or_not_at_all(transactional_db):
    with maintain(connection) as session:
        names = [name_neighbour(session, connection.settings_dict["NAME"], purpose) for purpose in Purpose]
        create(session, names[0], {})
        try:
            with pytest.raises(psycopg.errors.InvalidCatalogName):
                swap(connection, [(names[0], names[1]), (names[2], names[0])])
            assert list_all() == names[:1]
        finally:
            drop(session, names[0])


def test_altered_backup_is_refused(dump):
    dump.write_bytes(dump.read_bytes()[:-1] + b"?")
    for command in ("restore_database", "verify_backup"):
        with pytest.raises(CommandError, match="was altered after it was made"):
            call_command(command, dump)
    assert list_all() == []


@pytest.mark.parametrize("database", ["shop", "s" * 63, "ö" * 31])
def test_names_fit_and_are_told_apart(database):
    prefix = find_prefix(database, Purpose.KEPT)
    assert len(f"{prefix}20261125T101500Z".encode()) <= 63
    assert prefix != find_prefix(f"{database[:-1]}x", Purpose.KEPT)


def test_every_difference_is_told():
    expected = Contents({"public.a": 1, "public.b": 0}, [["users", "0001"], ["users", "0002"]], {"indexes": 3})
    found = Contents({"public.a": 2}, [["users", "0001"]], {"indexes": 2})
    assert list_differences(found, expected) == [
        "2 indexes instead of 3",
        "no migration users.0002 instead of 1",
        "2 rows of public.a instead of 1",
        "no rows of public.b instead of 0",
    ]
    assert list_differences(expected, expected) == []
