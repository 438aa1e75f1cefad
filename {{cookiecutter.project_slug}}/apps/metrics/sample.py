"""A figure at a time."""

from collections.abc import Mapping
from typing import NamedTuple


class Sample(NamedTuple):
    """A name of `database.HELP`, the figure, and what tells it from others of its name."""

    name: str
    value: float
    labels: Mapping[str, str] = {}
