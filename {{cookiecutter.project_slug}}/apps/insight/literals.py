"""Queries without the values that are written in them, which may be anybody's secrets."""

import re

# What stays as it is comes first, since a quote in a comment begins no string, nor does a digit in a name a number.
# Whatever is left at a quote is cut off, or read by rules that only its session knows: nobody can tell where it ends.
TOKENS = re.compile(
    r"""
    (?P<kept> "(?:[^"]|"")*" | /\*(?:(?!/\*|\*/).)*\*/ | --[^\n]* | \$\d+ | (?![eE]')[^\W\d][\w$]* )
    | [eE]'(?:[^'\\]|''|\\.)*'
    | '(?:[^'\\]|'')*'
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    | (?:0[xXoObB][\da-fA-F_]+ | (?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?:['"$]|/\*|[eE]').*
    """,
    re.DOTALL | re.VERBOSE,
)


def blank_literals(query: str) -> str:
    """Return the query in one line, with `?` for each string and number, and for all from where it is ambiguous."""
    return " ".join(TOKENS.sub(lambda token: token["kept"] or "?", query).split())
