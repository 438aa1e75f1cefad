"""
Pictures as SVG inside the page.

Sizes are attributes, since a strict Content-Security-Policy allows no element a style of its own. Colours are the
stylesheet's, and say nothing that form or text does not.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

PATTERNS = 4  # that page.html has
WIDTH, HEIGHT, MARGIN = 240, 48, 4  # of a line, which is stretched to the room there is


class Part(NamedTuple):
    """A part of a whole, from 0 to 1."""

    name: str
    share: float


class Point(NamedTuple):
    """A value at a place between 0 and 1; None interrupts the line."""

    place: float
    value: float | None


def draw_share(share: float) -> SafeString:
    """Return a bar that is filled by so much, from 0 to 1; the figure beside it says the same."""
    return format_html(
        '<svg class="share" aria-hidden="true"><rect class="rest" width="100%" height="100%"/>'
        '<rect class="filled" width="{}" height="100%"/></svg>',
        percent(min(max(share, 0), 1)),
    )


def draw_parts(title: str, parts: Sequence[Part]) -> SafeString:
    """Return a bar of parts of a whole, each with a pattern of its own."""
    begin, drawn = 0.0, []
    for number, part in enumerate(parts):
        drawn.append((percent(begin), percent(part.share), number % PATTERNS))
        begin += part.share
    return format_html(
        '<svg class="parts" role="img"><title>{}</title>{}</svg>',
        title,
        format_html_join("", '<rect x="{}" width="{}" height="100%" fill="url(#part-{})"/>', drawn),
    )


def draw_swatch(number: int) -> SafeString:
    """Return the pattern of a part, for the legend of its bar."""
    return format_html(
        '<svg class="swatch" aria-hidden="true"><rect width="100%" height="100%" fill="url(#part-{})"/></svg>',
        number % PATTERNS,
    )


def draw_line(title: str, points: Sequence[Point]) -> SafeString:
    """Return a line between the lowest and the highest value."""
    return format_html(
        '<svg class="line" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"><title>{}</title>'
        '<path d="{}"/></svg>',
        WIDTH,
        HEIGHT,
        title,
        " ".join(trace(points)),
    )


def trace(points: Sequence[Point]) -> Iterator[str]:
    """Yield the steps of a path; a point that stands alone is drawn, too."""
    values = [point.value for point in points if point.value is not None]
    lowest, span = min(values, default=0), max(values, default=0) - min(values, default=0)
    step = "M"
    for place, value in points:
        if value is None:
            step = "M"
            continue
        height = (value - lowest) / span if span else 0.5
        x, y = MARGIN + place * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - height * (HEIGHT - 2 * MARGIN)
        yield f"{step}{x:.1f} {y:.1f}h0"
        step = "L"


def percent(share: float) -> str:
    """Return a share as SVG has it."""
    return f"{100 * share:.1f}%"
