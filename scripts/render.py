"""
The console script of the wheel: cookiecutter, with the template that the wheel carries.

It takes cookiecutter's own options and answers, as in `cookiecutter-django-postgres --no-input edition=production`.
"""

import sys
from pathlib import Path


def main() -> None:
    """Render the template into the present folder; ends as cookiecutter does."""
    from cookiecutter.__main__ import main as cookiecutter  # noqa: PLC0415  after the program has its name

    sys.argv[1:1] = [str(Path(__file__).parent / "template")]
    cookiecutter(prog_name="cookiecutter-django-postgres")
