"""What traces hold of SQL; that they arrive is for servers to prove."""

import pytest

from apps.metrics.tracing import hide_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('SELECT "shop_item2"."id" FROM "shop_item2" LIMIT 21', 'SELECT "shop_item2"."id" FROM "shop_item2" LIMIT ?'),
        ("SELECT 1 WHERE name = %s AND note = %(note)s", "SELECT ? WHERE name = %s AND note = %(note)s"),
        ("SELECT 'it''s', E'a\\'b', 4.5, -7", "SELECT ?, ?, ?, -?"),
        ("SELECT $$secret$$, $tag$it's$tag$", "SELECT ?, ?"),
        ("SELECT 'a\\' OR b = 'secret'", "SELECT ?"),
        ("/* who's there */ SELECT /* 'a' */ '/* b */'", "SELECT ?"),
    ],
)
def test_values_in_sql_are_hidden(text, shown):
    assert hide_values(text) == shown
