"""Whether this process may be sent requests: its default database answers, and has the tables that the code expects."""

import threading
import time
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.migrations.executor import MigrationExecutor

from .database import DatabaseHealthCheck

FRESH = 1.0  # seconds for which an answer is given again
TIMEOUT = 1.0  # seconds
MIGRATED = 10.0  # seconds until migrations are looked at again: a restored database may lack some


class Readiness:
    """All callers of one second get one answer, and the databases one question."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.answering = threading.Lock()
        self.answered = float("-inf")
        self.answer: dict[str, Any] = {}
        self.migrated = float("-inf")  # when that was so last

    def check(self) -> dict[str, Any]:
        """Return `status`, "healthy" or "unhealthy", and `databases`, the health check's report for each alias."""
        with self.answering:
            if time.monotonic() - self.answered > FRESH:
                self.answer = self.ask()
                self.answered = time.monotonic()
            return self.answer

    def ask(self) -> dict[str, Any]:
        """Return a new answer."""
        reports = {
            using: DatabaseHealthCheck(using, TIMEOUT, thorough=False).check(details=True) for using in connections
        }
        for report in reports.values():
            add_distance(report, reports[DEFAULT_DB_ALIAS])
        # Requests that need another database fail by themselves.
        healthy = reports[DEFAULT_DB_ALIAS]["status"] == "healthy"
        if healthy and not self.is_migrated():
            healthy = False
            reports[DEFAULT_DB_ALIAS]["error"] = "Migrations are pending."
        return {"status": "healthy" if healthy else "unhealthy", "databases": reports}

    def is_migrated(self) -> bool:
        """Tell whether every migration of the code is applied, as of a few seconds ago at most."""
        if time.monotonic() > self.migrated + MIGRATED:
            try:
                executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
                if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                    return False
            except Error:  # it went between two questions
                return False
            self.migrated = time.monotonic()
        return True


def add_distance(report: dict[str, Any], primary: dict[str, Any]) -> None:
    """Note in the report of a standby how many bytes the primary is ahead of it."""
    if report.get("role") == "standby" and "wal_position" in primary:
        report["lag_bytes"] = max(0, primary["wal_position"] - report["wal_position"])


readiness = Readiness()
