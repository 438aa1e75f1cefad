"""The command migrate, in Django's place: any number of them may run at once."""

from functools import partial
from typing import Any

import psycopg
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import DatabaseError, Error, IntegrityError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from apps.schema.attempts import PAUSES, is_blocked, repeat
from apps.schema.blockers import BlockerWatch
from apps.schema.lock import RECORDS, ensure_held, hold
from apps.schema.statements import execute_patiently, is_atomic


class Command(migrate.Command):
    """Django's own: side by side where there is nothing to apply, else one at a time and patient with locks."""

    lock: psycopg.Connection | None = None  # the session that holds it, which is the one that migrates
    running: Migration | None = None  # what is being applied or taken back
    line_is_open = False

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what Django's does, under the lock where there is something to apply."""
        self.verbosity = options["verbosity"]
        connection = connections[options["database"]]
        if connection.vendor != "postgresql":
            super().handle(*args, **options)
        elif is_question(options) or not is_pending(connection, options):
            try:
                super().handle(*args, **options)
            except DatabaseError as error:
                if not self.may_repeat(connection, error):
                    raise
                self.tell("Another process was in the way: once more, under the lock.")
                self.handle_alone(connection, *args, **options)
        else:
            self.handle_alone(connection, *args, **options)

    def handle_alone(self, connection: BaseDatabaseWrapper, *args: Any, **options: Any) -> None:
        """Do what Django's does under the lock, and again where it lacked another and was rolled back."""
        handle = partial(super().handle, *args, **options)

        def attempt() -> None:
            self.running = None
            handle()

        with (
            hold(connection, self.tell) as self.lock,
            BlockerWatch(connection, self.tell) as watch,
            connection.execute_wrapper(partial(execute_patiently, self.tell)),
        ):
            try:
                repeat(attempt, partial(self.may_repeat, connection), self.tell)
            except Error as error:
                if is_blocked(error):
                    raise CommandError(self.explain(connection, watch.last)) from error
                if not connection.in_atomic_block:
                    ensure_held(self.lock)
                raise

    def may_repeat(self, connection: BaseDatabaseWrapper, error: DatabaseError) -> bool:
        """Tell whether the attempt that ended with this error left nothing half-done, and another may succeed."""
        if connection.in_atomic_block:
            return False
        if self.running is None:  # beside the migrations, where two may make the same content type
            return is_blocked(error) or isinstance(error, IntegrityError)
        return is_blocked(error) and is_atomic(connection, self.running)

    def explain(self, connection: BaseDatabaseWrapper, blocker: str) -> str:
        """Return why the last attempt failed, what is left of it, and who was in the way."""
        if self.running and not is_atomic(connection, self.running):
            return (
                f"{self.running} did not get a lock, and a part of it may be done, since it is not atomic: "
                f"see to that before you migrate again. In the way was {blocker}."
            )
        name = self.running or "What goes with the migrations"
        return f"{name} did not get a lock in {len(PAUSES) + 1} attempts, and is not done. In the way was {blocker}."

    def migration_progress_callback(self, action: str, migration: Migration | None = None, fake: bool = False) -> None:
        """Do what Django's does, and tell the times that it tells at a higher verbosity only."""
        begins = action.endswith("_start")
        if begins and self.lock:
            ensure_held(self.lock)
            if migration and not migration.replaces:  # one that does is recorded after those
                recorded = self.lock.execute(RECORDS, [migration.app_label, migration.name]).rowcount > 0
                if recorded == (action == "apply_start"):
                    raise IntegrityError(f"another process has applied {migration} meanwhile, or taken it back")
        if migration:
            self.running = migration if begins else None
        self.line_is_open = begins
        chosen = self.verbosity
        self.verbosity = chosen and max(chosen, 2)
        super().migration_progress_callback(action, migration, fake)
        self.verbosity = chosen

    def tell(self, text: str) -> None:
        """Print a line at once, also between Django's "Applying" and its "OK"."""
        if self.verbosity:
            self.stdout.write(f"\n    {text}" if self.line_is_open else f"  {text}")
            self.stdout.flush()
            self.line_is_open = False


def is_question(options: dict[str, Any]) -> bool:
    """Tell whether the options ask only; Django prunes even where it is asked for a plan."""
    return bool(options["plan"] or options["check_unapplied"]) and not options["prune"]


def is_pending(connection: BaseDatabaseWrapper, options: dict[str, Any]) -> bool:
    """Tell whether there is something to do, or may be."""
    if options["migration_name"] or options["run_syncdb"] or options["prune"]:
        return True
    executor = MigrationExecutor(connection)
    loader, app = executor.loader, options["app_label"]
    targets = [key for key in loader.graph.leaf_nodes() if not app or key[0] == app]
    if executor.migration_plan(targets):
        return True
    # A migration that stands for others is recorded once all of them are applied.
    replacements = loader.applied_migrations.keys() & loader.replacements.keys()
    return bool(replacements - executor.recorder.applied_migrations().keys()) if replacements else False
