"""The user model, the project's own from the first migration on."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A person who may log in; add what the project knows about one here."""
