"""What DB_REPLICA_HOST makes of DATABASES."""

import re

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.replicas.settings import build_replicas

PRIMARY = {"HOST": "a.internal", "PORT": "5432", "USER": "app", "ATOMIC_REQUESTS": True, "OPTIONS": {}}


def build(monkeypatch, **variables):
    for name, value in {"DB_PORT": "5432", **variables}.items():
        monkeypatch.setenv(name, value)
    return build_replicas(PRIMARY, {"target_session_attrs": "standby", "pool": {"timeout": 5}})


def test_each_host_is_a_database(monkeypatch):
    found = build(monkeypatch, DB_REPLICA_HOST="b.internal,c.internal", DB_REPLICA_PORT="5433,5434")
    places = {using: (database["HOST"], database["PORT"]) for using, database in found.items()}
    assert places == {"replica": ("b.internal", "5433"), "replica2": ("c.internal", "5434")}
    for database in found.values():
        assert database["USER"] == "app"
        assert database["OPTIONS"] == {"target_session_attrs": "standby", "pool": {"timeout": 0.5}}
        assert database["ATOMIC_REQUESTS"] is False


def test_port_of_postgresql_behind_a_pgbouncer(monkeypatch):
    behind = {"DB_PGBOUNCER": "true", "DB_PORT": "6432", "DB_DIRECT_PORT": "5433"}
    replica = build(monkeypatch, **behind, DB_REPLICA_HOST="b.internal")["replica"]
    assert (replica["PORT"], replica["DISABLE_SERVER_SIDE_CURSORS"]) == ("5433", False)


def test_ports_that_do_not_match_are_refused(monkeypatch):
    rule = "DB_REPLICA_HOST is 'b,c' and DB_REPLICA_PORT '1,2,3': there must be one port, or one for each host."
    with pytest.raises(ImproperlyConfigured, match=re.escape(rule)):
        build(monkeypatch, DB_REPLICA_HOST="b,c", DB_REPLICA_PORT="1,2,3")
