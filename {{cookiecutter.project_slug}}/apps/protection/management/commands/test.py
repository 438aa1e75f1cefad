"""Django's `test`, refused where the settings lead to a production database."""

from typing import Any

from django.core.management.commands import test
from django.test import override_settings

from apps.core.database.environment import refuse_test_run


class Command(test.Command):
    """Django's own, but that it looks first on whose server it would run."""

    def handle(self, *labels: str, **options: Any) -> None:
        """Refuse, or run the tests; their databases belong to them, whatever the settings say of others."""
        refuse_test_run()
        with override_settings(ENVIRONMENT="testing"):
            super().handle(*labels, **options)
