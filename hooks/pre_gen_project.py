"""Refuse answers that would not make a working project, in a sentence each, before anything is rendered."""

import json
import re
import sys
import unicodedata
from pathlib import Path

# Data between raw quotes, which no JSON can close: an answer is never part of the code.
ANSWERS = r"""
{{ cookiecutter | tojson }}
"""

LONGEST_SLUG = 40  # PostgreSQL's names hold 63 bytes, and the longest is test_SLUG_db_gw00
SLUG = re.compile(r"[a-z]([a-z0-9_]*[a-z0-9])?")


def find_slug_fault(slug):
    """Return the rule that the slug breaks, or None."""
    if not SLUG.fullmatch(slug):
        return "must be lower-case ASCII letters, digits and underscores, from a letter to a letter or digit"
    if len(slug) > LONGEST_SLUG:
        return f"must not be longer than {LONGEST_SLUG} characters"
    return None


def find_fault(name, answer):
    """Return the rule that an answer breaks, or None."""
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in answer):
        return "must not hold control characters or line breaks"
    if name == "project_slug":
        return find_slug_fault(answer)
    return None


def main():
    """End cookiecutter with a sentence for each bad answer, if there is any."""
    Path(__file__).unlink()  # a rendered copy, which cookiecutter leaves among the temporary files
    faults = [
        f"{name} is {answer!r}, but {fault}."
        for name, answer in json.loads(ANSWERS).items()
        if not name.startswith("_") and (fault := find_fault(name, answer))
    ]
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
