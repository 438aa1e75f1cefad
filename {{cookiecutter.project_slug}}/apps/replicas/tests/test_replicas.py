import asyncio
import threading
import time
from http.cookies import SimpleCookie

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import MiddlewareNotUsed
from django.core.signing import BadSignature
from django.db import connection, router
from django.http import HttpResponse
from django.test import RequestFactory

from apps.replicas.choice import using_primary, using_replica
from apps.replicas.memory import COOKIE, build_key, forget, read_age, recall, remember
from apps.replicas.middleware import READING, ReplicaMiddleware
from apps.replicas.primary import UNKNOWN, Primary, Sample, read_position
from apps.replicas.state import State, begin, current


@pytest.fixture
def request_(rf: RequestFactory):
    return rf.get("/")


@pytest.fixture
def primary():
    """One whose samples are the test's: it takes none itself."""
    primary = Primary()
    primary.thread = threading.current_thread()
    return primary


def test_nothing_is_routed_where_there_are_no_replicas():
    user = get_user_model()
    with using_replica():
        assert router.db_for_read(user) == router.db_for_write(user) == "default"
    with pytest.raises(MiddlewareNotUsed):
        ReplicaMiddleware(HttpResponse)


def test_blocks_hold_for_calls_of_functions_and_coroutines():
    @using_primary()
    def tell():
        return current.get().on_primary

    @using_replica()
    async def tell_later():
        await asyncio.sleep(0)
        return current.get().on_primary

    assert tell()
    assert asyncio.run(tell_later()) is False
    assert current.get() is None


def test_block_inside_a_request_ends_with_it():
    with begin(State(on_primary=True)) as state:
        with using_replica():
            assert not current.get().on_primary
        assert current.get() is state


def test_position_is_kept_in_a_cookie_of_its_own_kind(request_):
    response = HttpResponse()
    remember(request_, response, 12345)
    cookie = response.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", read_age())
    request_.COOKIES = {COOKIE: cookie.value}
    assert recall(request_) == 12345


def test_nothing_is_known_of_who_brings_no_cookie(request_):
    assert recall(request_) == 0


def test_cookie_counts_no_longer_than_it_matters(request_, settings):
    response = HttpResponse()
    remember(request_, response, 12345)
    request_.COOKIES = {COOKIE: response.cookies[COOKIE].value}
    settings.DB_REPLICA_MAX_LAG = -10
    time.sleep(0.01)
    assert recall(request_) == 0


def test_changed_cookie_is_refused_and_dropped(request_):
    response = HttpResponse()
    remember(request_, response, 12345)
    _, _, signature = response.cookies[COOKIE].value.partition(":")
    request_.COOKIES = {COOKIE: f"1:{signature}"}
    with pytest.raises(BadSignature):
        recall(request_)
    forget(response)
    assert SimpleCookie(str(response.cookies)[len("Set-Cookie: ") :])[COOKIE].value == ""


def test_position_of_a_token_is_kept_in_a_shared_cache_only(rf, settings, tmp_path):
    request = rf.get("/", headers={"Authorization": "Bearer secret"})
    remember(request, HttpResponse(), 12345)
    assert recall(request) == UNKNOWN
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    response = HttpResponse()
    remember(request, response, 12345)
    assert recall(request) == 12345
    assert recall(rf.get("/", headers={"Authorization": "Bearer other"})) == 0
    assert not response.cookies
    assert "secret" not in build_key("Bearer secret")


def test_clients_with_a_token_read_from_the_primary_where_the_cache_fails(rf, settings, tmp_path, caplog):
    (tmp_path / "file").touch()
    backend = "django.core.cache.backends.db.DatabaseCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "no_such_table"}}
    assert recall(rf.get("/", headers={"Authorization": "Bearer secret"})) == UNKNOWN
    assert "The cache does not answer" in caplog.text


def test_replica_must_have_what_was_there_as_long_ago_as_it_may_be_behind(primary, settings):
    settings.DB_REPLICA_MAX_LAG = 10
    assert primary.read_floor() is None
    now = time.monotonic()
    primary.note(Sample(now - 5, 500))
    assert primary.read_floor() == 500, "nothing older is known"
    primary = type(primary)()
    primary.thread = threading.current_thread()
    for age in (30, 20, 11, 5, 1):
        primary.note(Sample(now - age, 1000 - age))
    assert primary.read_floor() == 989
    settings.DB_REPLICA_MAX_LAG = 0
    assert primary.read_floor() == 999


def test_samples_of_a_primary_that_was_further_mean_nothing(primary, settings):
    settings.DB_REPLICA_MAX_LAG = 10
    primary.note(Sample(time.monotonic() - 20, 900))
    primary.note(Sample(time.monotonic() - 1, 400))
    assert primary.read_floor() == 400


@pytest.mark.django_db(transaction=True)
def test_position_is_unknown_where_the_connection_is_lost():
    connection.ensure_connection()
    connection.connection.close()
    assert read_position(connection) == UNKNOWN
    connection.close()
    assert read_position(connection) == UNKNOWN


@pytest.mark.parametrize(
    ("statement", "reads"),
    [
        ('SELECT "a"."id" FROM "a" WHERE "a"."id" = %s', True),
        ("SELECT /* route='x/',view='y' */ 1 AS \"a\" FROM \"a\" LIMIT 1", True),
        ('SAVEPOINT "s1"', True),
        ('RELEASE SAVEPOINT "s1"', True),
        ("SELECT nextval('a')", False),
        ('INSERT INTO "a" SELECT * FROM "b"', False),
        ('UPDATE "a" SET "b" = 1', False),
        ('WITH x AS (DELETE FROM "a" RETURNING *) SELECT * FROM x', False),
    ],
)
def test_statement_is_reading_only_where_django_words_it_so(statement, reads):
    assert bool(READING.match(statement)) == reads
