"""Queries in logs, traces and pages hold no values."""

import pytest

from apps.core.database.literals import blank_literals


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT 1, -2.5e3, 0x1F FROM t1 WHERE a = $1", "SELECT ?, -?, ? FROM t1 WHERE a = $1"),
        ("SELECT 'it''s' || E'a\\'b' || $$c$$ || $x$ $$ $x$", "SELECT ? || ? || ? || ?"),
        ("UPDATE t SET name='Ada'\n\tWHERE id=3", "UPDATE t SET name=? WHERE id=?"),
        ('SELECT "it\'s", "1" FROM t', 'SELECT "it\'s", "1" FROM t'),
        ("/*view='page',id=7*/ SELECT 'x' -- don't", "/*view='page',id=7*/ SELECT ? -- don't"),
        ("SELECT 'cut off in the mid", "SELECT ?"),
        ("SELECT 'a\\' OR b = 'secret'", "SELECT ?"),  # by standard_conforming_strings two or one
        ("SELECT /* /* nested */ 'secret' */ 1", "SELECT ?"),
        ("ALTER ROLE ada PASSWORD 'secret'", "ALTER ROLE ada PASSWORD ?"),
        ("SELECT $a$secret", "SELECT ?"),
        ("SELECT E'secret", "SELECT ?"),
        ("SELECT B'101', X'1F', U&'\\0061', N'a'", "SELECT ?, ?, ?"),
    ],
)
def test_values_are_blanked(query, shown):
    assert blank_literals(query) == shown


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT 1, 2.5e3, -4 FROM t1 WHERE a2='x'", "SELECT ?, ?, -? FROM t1 WHERE a2=?"),
        ("SELECT 'it''s', E'it\\'s', U&'x', $$it's$$, $a$ $$ $a$ FROM t", "SELECT ?, ?, ?, ?, ? FROM t"),
        ("""SELECT "it's 5" FROM "a""b'" """, """SELECT "it's 5" FROM "a""b'" """.strip()),
        ("SELECT %s, %(name)s, $1 -- it's\nFROM t /* 'x' */ WHERE x", "SELECT %s, %(name)s, $1 FROM t WHERE x"),
        ("SELECT 'never ends", "SELECT ?"),
        ("SELECT $$never ends", "SELECT ?"),
        ("SELECT 'ä' ,  ß9, 0xFF, 1_000", "SELECT ? , ß9, ?, ?"),
    ],
)
def test_values_are_told_from_names_and_placeholders(query, shown):
    assert blank_literals(query, comments=False) == shown
