"""Figures that are kept for a month, so that today can be compared with yesterday."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.db import ProgrammingError, transaction
from django.utils import timezone
from psycopg.errors import UndefinedTable
from psycopg.sql import SQL

from apps.core.database.replication import LAG

from .models import Sample
from .report import Column, Kind, Section
from .sessions import QUESTION_LIMIT, open_sessions, read

KEPT = timedelta(days=30)
SHOWN = timedelta(days=1)
STEP = timedelta(minutes=30)

# Of standbys and of the transactions of others a role without pg_monitor sees nothing.
FIGURES = SQL("""
    SELECT (SELECT sum(numbackends) FROM pg_stat_database) AS connections,
        xact_commit + xact_rollback AS transactions,
        blks_hit AS blocks_hit,
        blks_read AS blocks_read,
        pg_database_size(datid) AS size,
        (SELECT coalesce(sum(pg_stat_get_dead_tuples(oid)), 0) FROM pg_class WHERE relkind IN ('r', 'm', 't'))
            AS dead_rows,
        (SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)
            FROM pg_stat_activity WHERE datid = own.datid AND pid <> pg_backend_pid()) AS oldest_transaction,
        (SELECT extract(epoch FROM max({lag})) FROM pg_stat_replication WHERE state = 'streaming') AS lag
    FROM pg_stat_database AS own
    WHERE datname = current_database()
""").format(lag=SQL(LAG))

COLUMNS = (
    Column("moment", "From", Kind.TIME),
    Column("connections", "Connections", Kind.COUNT),
    Column("rate", "Transactions a second", Kind.COUNT),
    Column("cache", "Found in memory", Kind.PERCENT),
    Column("answer", "Slowest answer", Kind.SECONDS),
    Column("size", "Size", Kind.BYTES),
    Column("dead_rows", "Dead rows", Kind.COUNT),
    Column("oldest_transaction", "Oldest transaction", Kind.SECONDS),
    Column("lag", "Replication lag", Kind.SECONDS),
)


def record(using: str) -> None:
    """Add a sample to the database, and remove those older than 30 days."""
    now = timezone.now()
    with open_sessions(using) as sessions:
        begin = time.perf_counter()
        sessions.monitor.execute("SELECT 1")
        answer = time.perf_counter() - begin
        (figures,) = read(sessions.monitor, FIGURES, {}, QUESTION_LIMIT)
    Sample.objects.using(using).create(moment=now, answer=answer, **figures)
    Sample.objects.using(using).filter(moment__lt=now - KEPT).delete()


def read_history(using: str) -> Section:
    """Return the last day in half hours, the newest first."""
    try:
        with transaction.atomic(using):  # a savepoint, where the caller's transaction must outlive an error
            rows = summarize(Sample.objects.using(using).filter(moment__gte=timezone.now() - SHOWN))
        missing = "" if rows else "Nothing was recorded in the last day."
    except ProgrammingError as error:
        rows, missing = [], "This role may not read it."
        if isinstance(error.__cause__, UndefinedTable):
            missing = "Its table does not exist yet: manage.py migrate makes it."
    return Section(
        key="history",
        title="The last day",
        source="insight_sample",
        threshold="",
        advice="Have manage.py inspect_database --record run every five minutes: deploy/systemd has a timer.",
        columns=COLUMNS,
        rows=rows,
        missing=missing,
        total=len(rows),
    )


def summarize(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Return a row for each half hour that has samples."""
    rows: list[dict[str, Any]] = []
    before = None
    for begin, group in groupby(samples, floor):
        during = list(group)
        rows.insert(0, summarize_step(begin, before or during[0], during))
        before = during[-1]
    return rows


def floor(sample: Sample) -> datetime:
    """Return when the half hour began that the sample belongs to."""
    return sample.moment - (sample.moment - datetime.min.replace(tzinfo=sample.moment.tzinfo)) % STEP


def summarize_step(begin: datetime, before: Sample, during: Sequence[Sample]) -> dict[str, Any]:
    """Return the worst of some samples or, of what grows, the last; what is counted is compared with the one before."""
    last = during[-1]
    hit, read = last.blocks_hit - before.blocks_hit, last.blocks_read - before.blocks_read
    lags = [sample.lag for sample in during if sample.lag is not None]
    return {
        "moment": begin.isoformat(),
        "connections": max(sample.connections for sample in during),
        "rate": divide(last.transactions - before.transactions, (last.moment - before.moment).total_seconds()),
        "cache": divide(100 * hit, hit + read),
        "answer": max(sample.answer for sample in during),
        "size": last.size,
        "dead_rows": last.dead_rows,
        "oldest_transaction": max(sample.oldest_transaction for sample in during),
        "lag": max(lags, default=None),
    }


def divide(growth: float, whole: float) -> float | None:
    """Return a quotient, or None where nothing was counted or the statistics were reset meanwhile."""
    return round(growth / whole, 1) if whole > 0 and growth >= 0 else None
