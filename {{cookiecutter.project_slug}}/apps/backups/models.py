"""What the database knows of its own backups, whose folder it does not see."""

from django.db import models


class Backup(models.Model):
    """A backup that was made of this database and, once it was restored for a trial, its proof."""

    name = models.CharField(max_length=255, unique=True, help_text="The dump's file name.")
    made_at = models.DateTimeField()
    size = models.PositiveBigIntegerField(help_text="Bytes of the dump.")
    seconds = models.FloatField(help_text="How long it took to make.")
    verified_at = models.DateTimeField(null=True)
    verified_seconds = models.FloatField(null=True, help_text="How long it took to restore and compare.")

    class Meta:
        """The newest comes last."""

        ordering = ("made_at",)

    def __str__(self) -> str:
        """Return the dump's file name."""
        return self.name
