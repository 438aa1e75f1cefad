"""A database put in another one's place, which is kept: from a backup, or back again."""

from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.core.database.environment import mark_environment
from apps.core.database.session import Session

from .dump import EXTENSIONS
from .inspection import Archive, inspect, read_applied, refuse_lack_of_space, refuse_weak_role
from .neighbours import Purpose, connect, drop, list_neighbours, name_neighbour
from .programs import describe
from .properties import copy_properties, describe_locale, describe_place, read_defaults, read_properties
from .report import Report
from .restoration import Restoration
from .swap import swap


class Replacement:
    """What is done about the database of a connection, by a session that holds it for that."""

    def __init__(self, connection: BaseDatabaseWrapper, session: Session, report: Report) -> None:
        """Find out whether there is a database; raise CommandError where this role may not replace it."""
        self.connection, self.session, self.report = connection, session, report
        self.database = str(connection.settings_dict["NAME"])
        self.defaults: list[str] = []
        self.schemas: dict[str, str] = {}  # of extensions, for a backup that does not name them
        report.say_server(session.info, self.database)
        describe(connection, self.database)  # which raises CommandError for a pgbouncer, where locks hold nothing
        refuse_weak_role(session)
        self.properties = read_properties(session, self.database)
        if self.properties and not self.properties["owned"]:
            raise CommandError(f"Database '{self.database}' belongs to '{self.properties['owner']}', not to this user.")

    def inspect(self, dump: Path, *, accept_unknown: bool = False) -> Archive:
        """Return a backup that can be restored beside the database; raise CommandError where it cannot."""
        known = set()
        if self.properties:
            with connect(self.connection, self.database) as session:
                known, self.defaults = read_applied(session), read_defaults(session)
                self.schemas = dict(session.execute(EXTENSIONS).fetchall())
        with self.report.step("Checked the backup"):
            archive = inspect(dump, self.session, None if accept_unknown else known)
        tablespace = self.properties["tablespace"] if self.properties else "pg_default"
        refuse_lack_of_space(self.session, archive.manifest.database_size, tablespace)
        return archive

    def plan(self, archive: Archive, jobs: int) -> Restoration:
        """Return how to restore: into a database like the present one or, where there is none, the backup's."""
        if self.properties:
            place = describe_place(self.properties)
        else:
            (user,) = self.session.execute("SELECT current_user").fetchone() or ("",)
            place = {"OWNER": user, **describe_locale(archive.manifest.encoding, archive.manifest.locale)}
        known = [e for e in archive.manifest.extensions if isinstance(e, list) and [*map(type, e)] == [str, str]]
        schemas = self.schemas | dict(known)
        return Restoration(self.connection, archive, place, self.defaults, schemas, jobs, self.report)

    def restore(self, dump: Path, jobs: int, *, accept_unknown: bool) -> None:
        """Put what a backup holds in the database's place."""
        archive = self.inspect(dump, accept_unknown=accept_unknown)
        with self.plan(archive, jobs).restored(Purpose.RESTORE) as new:
            if self.properties:
                for setting in copy_properties(self.session, self.database, new):
                    self.report.warn(
                        f"A setting in the database, which this role may not make, is left out: {setting}."
                    )
            self.take_place(new)
        if not self.properties:
            mark_environment(self.connection, settings.ENVIRONMENT)
            self.connection.close()

    def undo(self) -> None:
        """Put the database back that was kept last."""
        kept = list_neighbours(self.session, self.database, Purpose.KEPT)
        if not kept:
            raise CommandError(f"No database is kept that '{self.database}' had been before.")
        self.take_place(kept[0])

    def drop_kept(self) -> None:
        """Drop all databases that were kept."""
        if not self.properties:
            raise CommandError(f"There is no database '{self.database}': what is kept is all that there is of it.")
        for name in list_neighbours(self.session, self.database, Purpose.KEPT):
            drop(self.session, name)
            self.report.say(f"Dropped {name}")

    def take_place(self, new: str) -> None:
        """Give a database the name of the present one, which is kept; say how long nobody could connect."""
        if not self.properties:
            swap(self.connection, [(new, self.database)])
            self.report.say(f"Database '{self.database}' is there; it was not before")
            return
        kept = name_neighbour(self.session, self.database, Purpose.KEPT)
        seconds = swap(self.connection, [(self.database, kept), (new, self.database)])
        self.report.say(f"Kept the former database as {kept}: --undo brings it back, --drop-kept drops it")
        self.report.say(f"Replaced database '{self.database}', which was interrupted for {seconds * 1e3:.0f} ms")
