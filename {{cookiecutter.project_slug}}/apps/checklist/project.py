"""Whether the role and the database are those that the project expects, and whether there is a recovery plan."""

from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004  Django's name
from django.db.migrations.executor import MigrationExecutor

from .reading import Reading


def check_migrations(reading: Reading) -> list[CheckMessage]:
    """Report migrations of the code that the database does not have."""
    executor = MigrationExecutor(reading.connection)
    pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    if not pending:
        return []
    return [
        Warning(
            f"Not every migration is applied ({pending} are pending): the code uses what the database does not have.",
            hint="Run manage.py prepare_database.",
            id="checklist.W018",
        )
    ]


def check_plan(_: Reading) -> list[CheckMessage]:
    """Report that nobody could read what to do after a disaster."""
    plan = settings.BASE_DIR / "docs" / "disaster-recovery.md"
    if plan.is_file() and plan.read_text(encoding="utf-8").strip():
        return []
    return [
        Warning(
            "There is no docs/disaster-recovery.md: in a disaster nobody knows what comes back, and how.",
            hint="Restore it from the repository, keep it true, and let .dockerignore keep it in the image.",
            id="checklist.W019",
        )
    ]


def check_powers(reading: Reading) -> list[CheckMessage]:
    """Report a role that can do more than read and write; a superuser can do everything, so no more is said."""
    if not reading.powers:
        return []
    powers = reading.powers[:1] if reading.superuser else reading.powers
    return [
        Warning(
            f"Role '{reading.user}' {', '.join(powers)}: whoever breaks into a web process can do so, too.",
            hint="Set DB_USER to a role of its own and DB_MIGRATE_USER to the one that owns the database, "
            "and run manage.py database_roles --apply.",
            id="checklist.W008",
        )
    ]
