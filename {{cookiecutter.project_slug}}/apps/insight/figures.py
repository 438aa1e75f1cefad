"""Pictures of the sections that are easier to look at than to read."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from .formatting import format_value
from .pictures import Part, Point, draw_line, draw_parts, draw_swatch
from .report import Column, Kind, Section


def draw_figure(section: Section) -> SafeString | str:
    """Return the figure of a section, "" where it has none."""
    draw = FIGURES.get(section.key)
    return draw(section) if draw and section.rows else ""


def draw_connections(section: Section) -> SafeString:
    """Return a bar of what connections are at, in as many as there may be."""
    counts, shares = Counter[str](), Counter[str]()
    for row in section.rows:
        name = row["state"] or row["database"]
        counts[name] += row["count"]
        shares[name] += row["share"]
    parts = [Part(name, share / 100) for name, share in shares.items()]
    free = f"{format_value(max(100 - sum(shares.values()), 0), Kind.PERCENT)} free"
    if section.total > len(section.rows):
        free = "and others"
    legend = [(draw_swatch(number), name, count) for number, (name, count) in enumerate(counts.items())]
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    svg = draw_parts(f"Connections: {said}, {free}.", parts)
    return render_to_string("insight/connections.html", {"svg": svg, "legend": legend, "free": free})


def draw_chains(section: Section) -> SafeString:
    """Return who waits for whom, each below the one that it waits for."""
    tree: list[Any] = []
    levels = [tree]
    for row in section.rows:
        del levels[row["depth"] + 1 :]
        if len(levels) <= row["depth"]:
            levels[-1].append([])
            levels.append(levels[-1][-1])
        levels[-1].append(describe_waiting(row))
    return render_to_string("insight/chains.html", {"tree": tree})


def describe_waiting(row: Mapping[str, Any]) -> str:
    """Return a session of a chain, and what it waits for, in words."""
    who = ", ".join(filter(None, (row["user"], row["application"], row["state"])))
    waits = f" waits {format_value(row['wait_seconds'], Kind.SECONDS)} for {row['lock']}" if row["waits_for"] else ""
    return f"Process {row['pid']} ({who or 'of another role'}){waits}"


def draw_history(section: Section) -> SafeString:
    """Return a line for each figure that is known."""
    rows = section.rows[::-1]
    moments = [datetime.fromisoformat(row["moment"]) for row in rows]
    span = (moments[-1] - moments[0]) or timedelta(seconds=1)
    lines = []
    for column in section.columns[1:]:
        points = [Point((at - moments[0]) / span, row[column.key]) for at, row in zip(moments, rows, strict=True)]
        if any(point.value is not None for point in points):
            lines.append(describe_line(column, points))
    return render_to_string("insight/history.html", {"lines": lines})


def describe_line(column: Column, points: list[Point]) -> dict[str, Any]:
    """Return a line with what it says in words."""
    values = [point.value for point in points if point.value is not None]
    lowest, highest, last = (format_value(value, column.kind) for value in (min(values), max(values), values[-1]))
    title = f"{column.title}: from {lowest} to {highest}, at last {last}."
    return {"title": column.title, "lowest": lowest, "highest": highest, "last": last, "svg": draw_line(title, points)}


FIGURES: Mapping[str, Callable[[Section], SafeString | str]] = {
    "blocking": draw_chains,
    "connections": draw_connections,
    "history": draw_history,
}
