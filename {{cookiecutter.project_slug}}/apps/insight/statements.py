"""Which queries take the time, by the statistics of pg_stat_statements."""

from .question import Question
from .report import Column, Finding, Kind

COLUMNS = (
    Column("queryid", "Id"),
    Column("calls", "Calls", Kind.COUNT),
    Column("mean_seconds", "Mean", Kind.SECONDS),
    Column("total_seconds", "Total", Kind.SECONDS),
    Column("share", "Of all time", Kind.PERCENT),
    Column("rows", "Rows", Kind.COUNT),
    Column("query", "Query", Kind.SQL),
)
SOURCE = "pg_stat_statements"

SLOW_QUERIES = Question(
    key="slow_queries",
    title="Slowest queries",
    source=SOURCE,
    extension=SOURCE,
    threshold="a mean of DB_SLOW_QUERY, over 10 calls",
    advice="EXPLAIN (ANALYZE, BUFFERS) tells where the time goes; often an index is missing.",
    columns=COLUMNS,
    query="""
        SELECT calls, mean_exec_time / 1000 AS mean_seconds, total_exec_time / 1000 AS total_seconds,
            round((100 * total_exec_time / nullif(sum(total_exec_time) OVER (), 0))::numeric, 1) AS share,
            rows, left(query, 2000) AS query, queryid::text,
            CASE WHEN calls >= 10 AND mean_exec_time >= %(slow)s * 1000 THEN 'slow' END AS wrong,
            count(*) OVER () AS total
        FROM {schema}.pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY calls >= 10 AND mean_exec_time >= %(slow)s * 1000 DESC, mean_exec_time DESC LIMIT %(limit)s
    """,
    problems={
        "slow": Finding(
            "Query {queryid} took {mean_seconds:.2f} s in the mean of {calls} calls: whoever needs it waits as long.",
            "EXPLAIN (ANALYZE, BUFFERS) it; its text is in the section.",
        )
    },
)

EXPENSIVE_QUERIES = Question(
    key="expensive_queries",
    title="Most expensive queries",
    source=SOURCE,
    extension=SOURCE,
    threshold="half of the time of all queries, and 60 s",
    advice="What is called very often is worth a cache, or a single query in place of many.",
    columns=COLUMNS,
    query="""
        SELECT calls, mean_exec_time / 1000 AS mean_seconds, total_exec_time / 1000 AS total_seconds,
            round((100 * total_exec_time / nullif(sum(total_exec_time) OVER (), 0))::numeric, 1) AS share,
            rows, left(query, 2000) AS query, queryid::text,
            CASE WHEN total_exec_time >= 60000 AND total_exec_time >= sum(total_exec_time) OVER () / 2
                THEN 'expensive' END AS wrong,
            count(*) OVER () AS total
        FROM {schema}.pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY total_exec_time DESC LIMIT %(limit)s
    """,
    problems={
        "expensive": Finding(
            "Query {queryid} takes {share} % of the time of all queries, {total_seconds:.0f} s so far: "
            "the server would have half as much to do without it.",
            "Make it faster or call it less often; its text is in the section.",
        )
    },
)

QUESTIONS = SLOW_QUERIES, EXPENSIVE_QUERIES
