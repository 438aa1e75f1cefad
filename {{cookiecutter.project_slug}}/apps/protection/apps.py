"""What belongs to production is not destroyed by a command typed in the wrong terminal."""

from django.apps import AppConfig


class ProtectionConfig(AppConfig):
    """Brings commands that refuse in place of Django's; the app has no models."""

    name = "apps.protection"
