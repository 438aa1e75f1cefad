"""What the database was like from time to time, and who may see and stop what it does."""

from django.db import models


class Sample(models.Model):
    """Some figures at one moment; `inspect_database --record` adds them."""

    moment = models.DateTimeField(db_index=True)
    connections = models.PositiveBigIntegerField(help_text="Of all databases of the server.")
    transactions = models.PositiveBigIntegerField(help_text="Since the statistics were reset.")
    blocks_hit = models.PositiveBigIntegerField(help_text="Blocks found in PostgreSQL's memory, likewise.")
    blocks_read = models.PositiveBigIntegerField(help_text="Blocks read from the system, likewise.")
    size = models.PositiveBigIntegerField(help_text="Bytes of the database.")
    dead_rows = models.PositiveBigIntegerField(help_text="Rows that VACUUM has yet to take away.")
    oldest_transaction = models.FloatField(help_text="Seconds for which it has been open.")
    lag = models.FloatField(null=True, help_text="Seconds by which the slowest standby is behind; null without one.")
    answer = models.FloatField(help_text="Seconds that the server took for an answer.")

    class Meta:
        """Its entry in the admin is the page of the database."""

        default_permissions = ()
        ordering = ("moment",)
        permissions = (
            ("view_database", "Can see what the database is doing"),
            ("cancel_query", "Can cancel a query of the database"),
        )
        verbose_name_plural = "database"

    def __str__(self) -> str:
        """Return when it was."""
        return f"{self.moment:%Y-%m-%d %H:%M:%S}"
