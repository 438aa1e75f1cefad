"""What stands around requests, so that users read what they have written."""

import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import MiddlewareNotUsed
from django.core.signing import BadSignature
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest, HttpResponse

from apps.core import views
from apps.core.middleware import SAFE, may_repeat

from .memory import forget, recall, remember
from .primary import UNKNOWN, read_position
from .standby import find_replicas
from .state import State, begin, current, is_conflict

GetResponse = Callable[[HttpRequest], HttpResponse]

# What surely writes nothing, as Django words it: functions that a SELECT calls may write.
READING = re.compile(r'SELECT\b.* FROM "|(RELEASE |ROLLBACK TO )?SAVEPOINT ', re.DOTALL)


class ReplicaMiddleware:
    """
    Lets a request read from replicas that have what its user wrote before, and remembers what it writes itself.

    A request that may change something reads from the primary, as does any other once it has written. Where a replica
    fails while a request of a safe method is answered, that is answered anew.
    """

    def __init__(self, get_response: GetResponse) -> None:
        """Remember what comes after; nothing is to be done where there are no replicas."""
        if not find_replicas():
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Have the request answered, and have the browser or the cache remember what was written."""
        try:
            position, forged = recall(request), False
        except BadSignature:
            position, forged = UNKNOWN, True
        state = State(position, on_primary=request.method not in SAFE)
        connection = connections[DEFAULT_DB_ALIAS]
        with begin(state), connection.execute_wrapper(Notice(state)):
            response = self.get_response(request)
            if state.left_out and response.status_code >= 500 and may_repeat(request):  # noqa: PLR2004
                response = self.get_response(request)
        if state.wrote:
            remember(request, response, read_position(connection))
        elif forged:
            forget(response)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer for a view whose query a replica has ended, until it is answered anew; another error is not ours."""
        state = current.get()
        if state and state.left_out and is_conflict(error):
            return views.unavailable(request)
        return None


class Notice:
    """Stands around the queries on the primary, and notices whether a request writes."""

    def __init__(self, state: State) -> None:
        """Remember whose queries they are, and whether they are of a request that says that it changes nothing."""
        self.state = state
        self.safe = not state.on_primary

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Execute a query; what is read after one that may write is read from the primary."""
        if not (self.safe and isinstance(sql, str) and READING.match(sql)):
            self.state.wrote = self.state.on_primary = True
        return execute(sql, params, many, context)
