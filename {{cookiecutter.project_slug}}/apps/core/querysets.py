"""How the project's models are read."""

from django.db import models


class PeersManager[Model: models.Model](models.Manager[Model]):
    """
    A manager whose objects fetch what belongs to them for all that were read together: two queries, not N+1.

    Put `objects = PeersManager()` on each new model.
    """

    def get_queryset(self) -> models.QuerySet[Model]:
        """Return all objects, in Django's fetch mode of that name."""
        return super().get_queryset().fetch_mode(models.FETCH_PEERS)
