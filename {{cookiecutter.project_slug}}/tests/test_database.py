"""The database under the tests."""

import pytest
from django.core.management import call_command
from django.db import connection

from apps.users.models import User

pytestmark = pytest.mark.django_db


def test_server_is_postgresql_of_a_supported_version():
    assert connection.vendor == "postgresql"
    assert connection.pg_version >= 150000


def test_users_can_be_made_and_know_their_password():
    user = User.objects.create_user("ada", password="correct horse")
    assert user.check_password("correct horse")


@pytest.mark.django_db(databases="__all__")
def test_models_and_migrations_agree():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_a_request_is_one_transaction():
    assert connection.settings_dict["ATOMIC_REQUESTS"] is True
    assert connection.settings_dict["CONN_HEALTH_CHECKS"] is True
