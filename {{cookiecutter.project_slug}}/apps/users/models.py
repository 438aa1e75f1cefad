"""The user model, the project's own from the first migration on."""

from typing import ClassVar

from django.contrib.auth import models as auth

from apps.core.querysets import PeersManager


class UserManager(PeersManager["User"], auth.UserManager["User"]):
    """Django's, which makes users, in the project's fetch mode."""


class User(auth.AbstractUser):
    """A person who may log in; add what the project knows about one here."""

    objects: ClassVar[UserManager] = UserManager()
