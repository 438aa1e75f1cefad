"""What runs of the project, and how many sessions of a server that needs at once."""

from dataclasses import dataclass
from typing import NamedTuple

from django.apps import apps


class Line(NamedTuple):
    """Who has sessions, and how many of them the primary and each replica have to admit."""

    text: str
    primary: int
    replica: int


class Job(NamedTuple):
    """A command beside the web, the app that brings it, and its sessions on the primary and on a replica."""

    text: str
    app: str
    primary: int
    replica: int


METRICS = "each machine, for /metrics"

# Whatever may run at the same time; migrate finds out what blocks it by a session of its own.
JOBS = (
    Job("migrate", "apps.schema", 2, 0),
    Job("backup_database, with pg_dump", "apps.backups", 2, 0),
    Job("inspect_database, as user and monitor", "apps.insight", 2, 2),
    Job("two people, by dbshell or otherwise", "apps.core", 2, 2),
)


@dataclass(frozen=True)
class Deployment:
    """The web on all machines, and what is between it and PostgreSQL."""

    machines: int
    workers: int  # of each machine
    threads: int  # of each worker
    pool: int  # connections of a worker at most, 0 where each thread keeps its own
    replicas: int  # from which the web reads
    pgbouncers: int
    default_pool_size: int  # of each pgbouncer
    surge: int | None = None  # machines that a deploy adds before it ends others; as many as there are for None

    @property
    def most_machines(self) -> int:
        """Return how many there are in the middle of a deploy."""
        return self.machines + (self.machines if self.surge is None else self.surge)

    @property
    def connections(self) -> int:
        """Return how many connections the web opens to each database."""
        return self.most_machines * self.workers * (self.pool or self.threads)

    @property
    def clients(self) -> int:
        """Return how many clients a pgbouncer has to admit, which gets all of them when another is away."""
        return self.connections + sum(line.primary for line in self.list_watchers())

    def list_lines(self) -> list[Line]:
        """Return who has sessions; those of pgbouncer stand for its clients, but replicas are read without it."""
        jobs = [Line(job.text, job.primary, job.replica) for job in JOBS if apps.is_installed(job.app)]
        clients = [*self.list_web(), *self.list_watchers()]
        if self.pgbouncers:
            pools = Line("pgbouncer", self.pgbouncers * self.default_pool_size, 0)
            # The monitor is another user than the web, so that pgbouncer has a pool of its own for it.
            clients = [pools, *(line if line.text == METRICS else line._replace(primary=0) for line in clients)]
        return [line for line in (*clients, *jobs) if line.primary or (self.replicas and line.replica)]

    def list_web(self) -> list[Line]:
        """Return what requests are answered on."""
        usual = self.machines * self.workers * (self.pool or self.threads)
        more = self.connections - usual
        return [Line("web", usual, usual), Line("web that a deploy adds for a while", more, more)]

    def list_watchers(self) -> list[Line]:
        """Return who asks the databases beside requests."""
        workers = self.most_machines * self.workers
        lines = [Line("each worker, whether the database is there", workers, workers)]
        if self.replicas and apps.is_installed("apps.replicas"):
            lines.append(Line("each worker, how far the primary is", workers, 0))
        if apps.is_installed("apps.metrics"):
            lines.append(Line(METRICS, self.most_machines, 0))
        return lines
