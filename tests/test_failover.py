"""
What users see while another server becomes the primary, and that nothing which was acknowledged is lost.

Requests wait for it, so errors are those of requests that were being answered when the primary went: reads are answered
anew, and a write may have been made or not. `pytest tests/test_failover.py -rP | grep outage:` shows the figures.
"""

import contextlib
import time

import pytest
from conftest import postgres, render_with_pages
from replication import frozen, kill, standbys
from serving import ALLOWANCE, CROWD, NEEDS_DATA, assert_kept, first_served, prepare, production, serving, tell

PROMOTION = 3  # seconds after which whoever watches a pair makes the other one the primary


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return render_with_pages(tmp_path_factory.mktemp("failover"))


@pytest.fixture
def pair(embedded_binaries, project):
    """A primary, whose commits wait for the standby that comes with it."""
    with postgres(embedded_binaries) as primary:
        prepare(primary, project)
        with standbys(primary, 1) as (standby,):
            with primary.connect() as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
            yield primary, standby


def hosts(*servers):
    """Return the variables that lead a project to whichever of some servers is the primary."""
    ports = ",".join(str(server.port) for server in servers)
    return {"DB_HOST": ",".join("127.0.0.1" for _ in servers), "DB_PORT": ports}


def take_over(standby):
    """Make the other one the primary; return when it was."""
    time.sleep(PROMOTION)
    standby.set(synchronous_standby_names="")
    standby.promote()
    return time.monotonic()


@pytest.mark.parametrize("fails", [kill, frozen])
def test_primary_fails(request, fails, pair, project):
    primary, standby = pair
    with serving(project, production(primary) | hosts(primary, standby)) as site, site.load() as load:
        time.sleep(1)
        gone = time.monotonic()
        with fails(primary) or contextlib.nullcontext():
            promoted = take_over(standby)
            time.sleep(2)
    caught = sum(count for page, count in CROWD.items() if page.startswith("write"))
    answers = load.answers
    gap = first_served(answers, promoted)
    tell(request, answers, f"promoted after {promoted - gone:.2f} s, served after another {gap:.2f} s")
    failed = answers.where(status=503)
    assert answers.statuses().keys() <= {200, 503}
    assert failed.statuses() == failed.where("write/{}", ended_before=promoted).statuses()
    assert len(failed) <= caught
    assert gap < ALLOWANCE
    assert_kept(standby, answers)
