"""The roles as they are printed, which needs no server; that they are what they should be is the server's to say."""

import pytest
from django.core.management import CommandError, call_command

SECRET = "never-printed"  # noqa: S105  of no server


@pytest.fixture
def shop(settings, monkeypatch):
    """A project of the five roles."""
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "shop")
    for name in ("DB_USER", "DB_PASSWORD"):
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("DB_USER", "shop_app")
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    settings.DB_MIGRATE_USER, settings.DB_ADMIN_USER = "shop_migrator", "postgres"
    settings.DB_MIGRATE_PASSWORD = settings.DB_ADMIN_PASSWORD = settings.DB_READONLY_PASSWORD = SECRET
    return settings


def test_script_makes_five_roles_and_holds_no_secret(shop, capsys):
    call_command("database_roles")
    script = capsys.readouterr().out
    for kind in ("owner", "migrator", "app", "readonly", "monitor"):
        assert f"'shop_{kind}'" in script
    assert '-- \\password "shop_app"' in script
    assert SECRET not in script


def test_limits_are_those_of_the_web(shop, capsys, monkeypatch):
    monkeypatch.setenv("DB_STATEMENT_TIMEOUT", "2.5")
    call_command("database_roles")
    assert "('shop_app', 'statement_timeout', '2500ms')" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("DB_MIGRATE_USER", "", "DB_MIGRATE_USER is not set"),
        ("DB_MIGRATE_USER", "shop_app", "DB_MIGRATE_USER and DB_USER are both 'shop_app'"),
        ("DB_ADMIN_USER", "shop_app", "DB_USER and DB_ADMIN_USER are both 'shop_app'"),
        ("DB_MIGRATE_USER", "x" * 64, "DB_MIGRATE_USER is 'xxx"),
    ],
)
def test_names_that_make_no_five_roles_are_refused(shop, variable, value, sentence):
    setattr(shop, variable, value)
    with pytest.raises(CommandError, match=sentence):
        call_command("database_roles")
