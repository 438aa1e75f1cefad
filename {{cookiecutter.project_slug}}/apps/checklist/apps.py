"""Whether all that production needs is there: the checklist that runs."""

from django.apps import AppConfig


class ChecklistConfig(AppConfig):
    """Registers the checks."""

    name = "apps.checklist"
