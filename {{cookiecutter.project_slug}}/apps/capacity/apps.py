"""How many connections a deployment needs, before it is one."""

from django.apps import AppConfig


class CapacityConfig(AppConfig):
    """Brings the command `plan_connections`."""

    name = "apps.capacity"
