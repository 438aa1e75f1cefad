"""
What is counted of requests, and the page that Prometheus reads.

Under gunicorn each worker writes into a file of its own number: see gunicorn_hooks. A process without the folder of
these files counts for itself.
"""

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from . import gunicorn_hooks
from .database import DatabaseCollector

FOLDER = os.environ.get(gunicorn_hooks.FIGURES, "")

if FOLDER:
    # By process id, the default, each worker that is replaced would leave a file behind. A server without the hooks
    # has given no numbers.
    values.ValueClass = values.MultiProcessValue(lambda: gunicorn_hooks.number or os.getpid())  # type: ignore[no-untyped-call]

METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

# Seconds.
DURATIONS = 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30

requests = Counter("django_requests_total", "Requests that were answered.", ["method", "status"])
duration = Histogram("django_request_duration_seconds", "How long requests took.", ["method"], buckets=DURATIONS)
in_queries = Histogram("django_request_database_seconds", "For how long a request was in queries.", buckets=DURATIONS)
queries = Counter("django_queries_total", "Queries of requests.")

scraped = CollectorRegistry()
scraped.register(DatabaseCollector())


def count(method: str, status: int, seconds: float, number: int, seconds_in_queries: float) -> None:
    """Note a request: its answer, how long it took, how many queries it had, and how long they took."""
    known = method if method in METHODS else "other"  # clients make up methods, and each would be kept for ever
    requests.labels(known, status).inc()
    duration.labels(known).observe(seconds)
    in_queries.observe(seconds_in_queries)
    queries.inc(number)


def render() -> bytes:
    """Return all figures in Prometheus's text format: those of every worker, and what the database says now."""
    counted = REGISTRY
    if FOLDER:
        counted = CollectorRegistry()
        MultiProcessCollector(counted, FOLDER)  # type: ignore[no-untyped-call]
    return generate_latest(counted) + generate_latest(scraped)
