"""Commands that delete data look first whose it is."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection

from apps.core.database.environment import mark_environment, read_environment

pytestmark = pytest.mark.django_db


@pytest.fixture
def production():
    """The database of the tests, marked until the transaction is rolled back."""
    comment("The shop's. [environment: production]")


def comment(text):
    with connection.cursor() as cursor:
        cursor.execute(f'COMMENT ON DATABASE "{connection.settings_dict["NAME"]}" IS %s', [text])


def test_database_of_a_test_run_is_the_tests():
    assert read_environment(connection) == "testing"


@pytest.mark.parametrize(("command", "options"), [("flush", {"interactive": False}), ("sqlflush", {})])
def test_production_is_refused(production, command, options, capsys):
    name = connection.settings_dict["NAME"]
    with pytest.raises(CommandError) as refusal:
        call_command(command, **options)
    assert str(refusal.value) == (
        f"Database '{name}' belongs to production: {command} would delete its data. "
        f"Set DB_UNPROTECTED={name} for this one command if that is what you want."
    )
    assert capsys.readouterr().out == ""
    assert ContentType.objects.exists()


def test_database_that_is_named_is_not_protected(production, settings, capsys):
    settings.DB_UNPROTECTED = connection.settings_dict["NAME"]
    call_command("sqlflush")
    assert "TRUNCATE" in capsys.readouterr().out


def test_mark_is_added_to_a_comment_and_never_changed():
    comment("The shop's")
    for environment in ("production", "development"):
        mark_environment(connection, environment)
    assert read_environment(connection) == "production"
