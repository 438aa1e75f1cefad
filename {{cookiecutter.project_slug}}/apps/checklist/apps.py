"""Whether all that production needs is there: the checklist that runs."""

from django.apps import AppConfig


class ChecklistConfig(AppConfig):
    """Brings the command `production_checklist`."""

    name = "apps.checklist"

    def ready(self) -> None:
        """Register the checks."""
        from . import checks  # noqa: F401, PLC0415  importing them registers them
