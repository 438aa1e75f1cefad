"""Settings of backups, which `config.settings.base` imports."""

from pathlib import Path

from apps.core.environment import config, count

# The folder into which `backup_database` writes.
BACKUP_FOLDER = Path(config("BACKUP_FOLDER", default=str(Path(__file__).resolve().parents[2] / "backups")))

# For how many days, weeks and months the last backup of each is kept.
BACKUP_KEEP = {
    "daily": config("BACKUP_KEEP_DAILY", default=7, cast=count),
    "weekly": config("BACKUP_KEEP_WEEKLY", default=4, cast=count),
    "monthly": config("BACKUP_KEEP_MONTHLY", default=12, cast=count),
}

# The folder of pg_dump and pg_restore, where those of the server's version are not found.
DB_PROGRAMS = config("DB_PROGRAMS")
