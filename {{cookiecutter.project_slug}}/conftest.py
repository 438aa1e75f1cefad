"""What holds for every test run, wherever its tests lie."""

import pytest
from django.core.management.base import CommandError
from pytest_django.plugin import blocking_manager_key

from apps.core.database.environment import refuse_test_run


def pytest_sessionstart(session: pytest.Session) -> None:
    """End the run before it makes anything where the settings lead to a production database."""
    if hasattr(session.config, "workerinput"):
        return  # of xdist, which has asked already
    try:
        with session.config.stash[blocking_manager_key].unblock():
            refuse_test_run()
    except CommandError as refusal:
        pytest.exit(str(refusal), returncode=1)
