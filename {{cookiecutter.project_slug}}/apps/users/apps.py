"""The users of the project."""

from django.apps import AppConfig


class UsersConfig(AppConfig):
    """Registers the user model."""

    name = "apps.users"
