"""Queries without the values that are written in them, which may be anybody's secrets."""

import re

# What stays as it is comes first, since a quote in a comment begins no string, nor does a digit in a name a number.
# Whatever is left at a quote is cut off, or read by rules that only its session knows: nobody can tell where it ends.
TOKENS = re.compile(
    r"""
    (?P<comment> /\*(?:(?!/\*|\*/).)*\*/ | --[^\n]* )
    | (?P<kept> "(?:[^"]|"")*" | \$\d+ | (?!(?:[bBeEnNxX]|[uU]&)')[^\W\d][\w$]* )
    | [eE]'(?:[^'\\]|''|\\.)*'
    | (?:[bBnNxX]|[uU]&)?'(?:[^'\\]|'')*'
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    | (?:0[xXoObB][\da-fA-F_]+ | (?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?:(?:[bBeEnNxX]|[uU]&)?'|["$]|/\*).*
    """,
    re.DOTALL | re.VERBOSE,
)


def blank_literals(query: str, *, comments: bool = True) -> str:
    """
    Return the query in one line, with `?` for each string and number, and for all from where it is ambiguous.

    Names and placeholders stay, and so do `comments` where they are wanted.
    """

    def show(token: re.Match[str]) -> str:
        if token["comment"]:
            return token["comment"] if comments else " "
        return token["kept"] or "?"

    return " ".join(TOKENS.sub(show, query).split())
