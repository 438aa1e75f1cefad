"""Making backups, and what is known of them; `manage.py backup_database` itself runs, with real programs."""

from dataclasses import fields
from datetime import timedelta

import pytest
from django.core.checks import Tags, run_checks
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from apps.backups.archive import (
    Manifest,
    hash_file,
    list_backups,
    name_manifest,
    read_manifest,
    verify_file,
    write_manifest,
)
from apps.backups.models import Backup
from apps.users.models import User


@pytest.mark.django_db(transaction=True)
def test_backups_are_made_and_noted(tmp_path, capsys):
    """Two within a second, too."""
    User.objects.create_user("ada")
    for _ in range(2):
        call_command("backup_database", folder=tmp_path, no_prune=True)
    dumps = list_backups(tmp_path)
    assert len(dumps) == len(set(dumps)) == 2
    for dump, line in zip(reversed(dumps), capsys.readouterr().out.splitlines()[1::2], strict=True):
        manifest = read_manifest(dump)
        verify_file(dump, manifest)
        assert manifest.rows["public.users_user"] == 1
        assert line.startswith(f"{dump}: ")
        assert Backup.objects.get(name=dump.name).size == manifest.size


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("made", "verified", "told"),
    [
        (None, None, ["backups.W001"]),
        (timedelta(hours=25), None, ["backups.W002"]),
        (timedelta(hours=25), timedelta(days=7), []),
        (timedelta(hours=27), timedelta(days=7), ["backups.W001"]),
        (timedelta(hours=27), timedelta(days=9), ["backups.W001", "backups.W002"]),
    ],
    ids=str,
)
def test_checks_tell_of_backups_and_proofs_that_are_too_old(made, verified, told):
    if made:
        now = timezone.now()
        Backup.objects.create(
            name="x.dump", made_at=now - made, size=1, seconds=1, verified_at=verified and now - verified
        )
    found = run_checks(tags=[Tags.database], databases=["default"], include_deployment_checks=True)
    assert [each.id for each in found if each.id.startswith("backups.")] == told


@pytest.fixture
def backup(tmp_path):
    """A file and a manifest that tells its size and digest, as if it were a dump's."""
    dump = tmp_path / "shop-20261125T101500Z.dump"
    dump.write_bytes(b"PGDMP")
    values = {"int": 5, "str": hash_file(dump), "dict": {}, "list": []}
    facts = {field.name: values[getattr(field.type, "__origin__", field.type).__name__] for field in fields(Manifest)}
    with name_manifest(dump).open("wb") as file:
        write_manifest(Manifest(**facts), file)
    return dump


def test_backup_is_recognised(backup):
    verify_file(backup, read_manifest(backup))
    assert list_backups(backup.parent) == list_backups(backup.parent, "shop") == [backup]
    assert list_backups(backup.parent, "sho") == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b'{"kind": ', "is not JSON, or not all of it"),
        (b"\x80", "is not JSON, or not all of it"),
        (b"[]", "is no manifest of a backup that this version"),
        (b'{"kind": "backup of a database, version 0"}', "is no manifest of a backup that this version"),
        (b'{"kind": "backup of a database, version 1", "rows": 3}', "is a damaged manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(backup, content, said):
    path = name_manifest(backup)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CommandError, match=said):
        read_manifest(backup)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PGDM", "is truncated: it has 4 bytes of 5"), (b"PGDMQ", "was altered"), (b"PGDMX", "was altered")],
)
def test_what_is_not_the_dump_is_refused(backup, content, said):
    backup.write_bytes(content)
    with pytest.raises(CommandError, match=said):
        verify_file(backup, read_manifest(backup))
