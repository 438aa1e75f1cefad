"""A plan in words, as a table and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from .deployment import Deployment
from .plan import Plan, Server

NAMES = {"primary": "primary", "replica": "each replica"}


def write(plan: Plan) -> Iterator[str]:
    """Yield the lines of a report."""
    yield describe(plan.deployment)
    yield ""
    yield from write_table(plan.servers)
    if any(server.limit.assumed for server in plan.servers):
        yield ""
        yield "No database tells its max_connections: 100 is PostgreSQL's default."
    if plan.fits:
        yield ""
        yield from advise(plan)


def describe(deployment: Deployment) -> str:
    """Return in a sentence what is planned."""
    threads = f"a connection for each of {count(deployment.threads, 'thread')}"
    parts = [
        f"{count(deployment.machines, 'machine')} with {count(deployment.workers, 'worker')} each, "
        f"of which each has {f'a pool of {deployment.pool}' if deployment.pool else threads}"
    ]
    if deployment.pgbouncers:
        parts.append(f"{count(deployment.pgbouncers, 'pgbouncer')} with a pool of {deployment.default_pool_size}")
    if deployment.replicas:
        parts.append(f"{count(deployment.replicas, 'replica')} to read from")
    return f"{'; '.join(parts)}."


def write_table(servers: Sequence[Server]) -> Iterator[str]:
    """Yield a line for each who has sessions, and what they come to, with a column for each server."""
    figures = [dict(server.lines) | count_all(server) for server in servers]
    rows = [("", [NAMES[server.name] for server in servers])]
    rows += [(text, [str(each[text]) for each in figures]) for text in figures[0]]
    width = max(len(text) for text, _ in rows)
    for text, cells in rows:
        yield f"{text:<{width}}" + "".join(f"  {cell:>{len(NAMES['replica'])}}" for cell in cells)


def count_all(server: Server) -> dict[str, int]:
    """Return what the sessions of a server come to."""
    return {
        "reserved for superusers": server.limit.reserved,
        "max_connections that this needs": server.needed,
        "max_connections that there are": server.limit.maximum,
    }


def advise(plan: Plan) -> Iterator[str]:
    """Yield what follows from a plan that fits."""
    left = min(server.left for server in plan.servers)
    yield f"It fits, with {count(left, 'connection')} to spare."
    if plan.deployment.pgbouncers:
        yield f"default_pool_size may be up to {plan.count_pooled()}. {tell_clients(plan)}"
        return
    machines = plan.count_machines()
    yield f"From {machines + 1} machines on: {tell_way_out(plan.change(machines=machines + 1))}"


def refuse(plan: Plan) -> str:
    """Return why a plan does not fit, and what would."""
    most = -min(server.left for server in plan.servers)
    return f"It does not fit, by {count(most, 'connection')}: {tell_way_out(plan)}"


def tell_way_out(plan: Plan) -> str:
    """Return what would have to be for a plan to fit."""
    every = "of every server " if plan.deployment.replicas else ""
    more, pooled = f"max_connections {every}has to be {plan.needed} or more", plan.count_pooled()
    if pooled and plan.deployment.pgbouncers:
        return f"{more}, or default_pool_size {pooled} or less."
    if pooled:
        return f"{more}, or a pgbouncer in between, with a default_pool_size of up to {pooled}. {tell_clients(plan)}"
    return f"{more}; pgbouncer does not help, since what goes round it, as replicas do, is too much."


def tell_clients(plan: Plan) -> str:
    """Return how many clients a pgbouncer must admit."""
    return f"max_client_conn of each pgbouncer has to be {plan.deployment.clients} or more."


def count(number: int, noun: str) -> str:
    """Return how many there are."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def build_json(plan: Plan) -> str:
    """Return the report as JSON."""
    servers = {
        server.name: {
            "sessions": dict(server.lines),
            "reserved": server.limit.reserved,
            "needed": server.needed,
            "max_connections": server.limit.maximum,
            "assumed": server.limit.assumed,
        }
        for server in plan.servers
    }
    pgbouncer = {"default_pool_size": plan.count_pooled(), "max_client_conn": plan.deployment.clients}
    report = {
        "fits": plan.fits,
        "deployment": asdict(plan.deployment),
        "servers": servers,
        "needed": plan.needed,
        "most_machines": plan.count_machines(),
        "pgbouncer": pgbouncer,
    }
    return json.dumps(report, indent=4)
