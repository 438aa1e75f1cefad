"""
How far the primary was when a user had written last: what a replica must have, before that user reads from it.

Browsers keep it in a signed cookie. For clients that send a header Authorization, it is in Django's cache under a hash
of that. Neither is kept longer than a replica may be behind.
"""

import logging

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.signing import SignatureExpired
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

from .primary import UNKNOWN

COOKIE = "database_position"
SALT = "apps.replicas"
ALLOWANCE = 5  # seconds beyond the lag: samples are a second apart, and clocks differ

logger = logging.getLogger(__name__)


def recall(request: HttpRequest) -> int:
    """
    Return the position that who sends the request wrote last, 0 where that is long ago, UNKNOWN where it may be.

    Raises BadSignature for a cookie that is not of this project.
    """
    if token := request.headers.get("Authorization"):
        return recall_token(token)
    try:
        return int(request.get_signed_cookie(COOKIE, salt=SALT, max_age=read_age()) or 0)
    except (KeyError, SignatureExpired):
        return 0


def remember(request: HttpRequest, response: HttpResponse, position: int) -> None:
    """Keep the position for the next requests of the same user."""
    if token := request.headers.get("Authorization"):
        remember_token(token, position)
        return
    response.set_signed_cookie(
        COOKIE,
        str(position),
        salt=SALT,
        max_age=read_age(),
        path=settings.SESSION_COOKIE_PATH,
        domain=settings.SESSION_COOKIE_DOMAIN,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def forget(response: HttpResponse) -> None:
    """Have the browser drop its cookie."""
    response.delete_cookie(COOKIE, settings.SESSION_COOKIE_PATH, settings.SESSION_COOKIE_DOMAIN, samesite="Lax")


def recall_token(token: str) -> int:
    """Return the position of a client, UNKNOWN where the cache does not tell."""
    if not is_shared():
        return UNKNOWN
    try:
        return int(caches[DEFAULT_CACHE_ALIAS].get(build_key(token), 0))
    except Exception:  # noqa: BLE001  each kind of cache has errors of its own
        logger.warning("The cache does not answer: clients with a token read from the primary.")
        return UNKNOWN


def remember_token(token: str, position: int) -> None:
    """Keep the position of a client; without a cache there is nothing to keep, as nothing is read from a replica."""
    if not is_shared():
        return
    try:
        caches[DEFAULT_CACHE_ALIAS].set(build_key(token), position, read_age())
    except Exception:  # noqa: BLE001  likewise
        logger.warning("The cache does not answer: a client with a token may not read what it has just written.")


def is_shared() -> bool:
    """Tell whether all processes have the same cache, so that each knows what a client wrote by way of another."""
    return not isinstance(caches[DEFAULT_CACHE_ALIAS], DummyCache | LocMemCache)


def build_key(token: str) -> str:
    """Return the name of a client in the cache, by which nobody can pass for that client."""
    return f"{COOKIE}:{salted_hmac(SALT, token, algorithm='sha256').hexdigest()}"


def read_age() -> int:
    """Return the seconds for which a position matters: any replica that is read from has what is older."""
    return int(settings.DB_REPLICA_MAX_LAG) + ALLOWANCE
