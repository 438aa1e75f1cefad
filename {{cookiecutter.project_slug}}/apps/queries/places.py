"""Which line of the project's own code a query comes from."""

import inspect
import sys
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from .tags import name_view
from .tally import current

HERE = Path(__file__).parent
# What is outside of these only passed a request on, or waits for a view that runs elsewhere.
BOUNDARIES = str(Path("django", "core", "handlers", "exception.py")), str(Path("asgiref", "sync.py"))


def find_place() -> str:
    """
    Return "file:line" of the innermost line that is the project's own, or the view that has none on the stack.

    That is an async view, whose queries run beside it. Return "" where all of it is somebody else's.
    """
    frame, request = inspect.currentframe(), current.get() is not None
    while frame and not (request and frame.f_code.co_filename.endswith(BOUNDARIES)):
        if file := shorten(frame.f_code.co_filename):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return find_view()


def find_view() -> str:
    """Return the name of the view that answers the request, where it is the project's own."""
    tally = current.get()
    if tally is None or (match := tally.request.resolver_match) is None:
        return ""
    view = getattr(match.func, "view_class", match.func)
    module = sys.modules.get(view.__module__)
    return name_view(match) if shorten(getattr(module, "__file__", None) or "<unknown>") else ""


@lru_cache(maxsize=4096)
def shorten(file: str) -> str:
    """Return the path of a file of the project's own within it, "" of any other."""
    if file.startswith("<"):  # code without a file
        return ""
    base, path = Path(settings.BASE_DIR).resolve(), Path(file).resolve()
    inside = path.is_relative_to(base) and "site-packages" not in path.parts
    if not inside or path.parent == HERE or path == base / "manage.py":
        return ""
    return path.relative_to(base).as_posix()
