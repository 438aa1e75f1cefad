"""Whether a deployment fits the servers, and what would."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from .deployment import Deployment
from .servers import Limit


@dataclass(frozen=True)
class Server:
    """The sessions of one server, the primary or any of the replicas, beside what it admits."""

    name: str
    lines: list[tuple[str, int]]
    limit: Limit

    @property
    def sessions(self) -> int:
        """Return how many there are at most."""
        return sum(count for _, count in self.lines)

    @property
    def needed(self) -> int:
        """Return what max_connections has to be for them."""
        return self.sessions + self.limit.reserved

    @property
    def left(self) -> int:
        """Return how many more it admits, less than none where it refuses some."""
        return self.limit.maximum - self.needed


@dataclass(frozen=True)
class Plan:
    """A deployment on its servers."""

    deployment: Deployment
    limits: tuple[Limit, Limit]  # of the primary and of each replica

    @property
    def servers(self) -> list[Server]:
        """Return the primary and, for all replicas, one."""
        lines = self.deployment.list_lines()
        primary = Server("primary", [(line.text, line.primary) for line in lines], self.limits[0])
        replica = Server("replica", [(line.text, line.replica) for line in lines], self.limits[1])
        return [primary, replica] if self.deployment.replicas else [primary]

    @property
    def fits(self) -> bool:
        """Tell whether no server would refuse anybody."""
        return all(server.left >= 0 for server in self.servers)

    @property
    def needed(self) -> int:
        """Return the max_connections of all servers: one with less than its primary cannot follow it."""
        return max(server.needed for server in self.servers)

    def change(self, **values: int) -> "Plan":
        """Return the same for another deployment."""
        return replace(self, deployment=replace(self.deployment, **values))

    def count_machines(self) -> int:
        """Return how many machines fit at most, 0 where not even one does."""
        return self.find_most(lambda machines: self.change(machines=machines).fits)

    def count_pooled(self) -> int:
        """Return the largest default_pool_size that fits, for one pgbouncer where there is none; 0 for none at all."""
        pgbouncers = max(1, self.deployment.pgbouncers)
        return self.find_most(lambda size: self.change(pgbouncers=pgbouncers, default_pool_size=size).fits)

    def find_most(self, fits: Callable[[int], bool]) -> int:
        """Return the largest number that fits, of those of which each needs a session at least."""
        numbers = range(1, max(limit.maximum for limit in self.limits) + 1)
        return bisect_left(numbers, True, key=lambda number: not fits(number))
