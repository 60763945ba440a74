"""What strangers try: SQL that wants more than an answer, and what it is to get instead.

`{out}` stands for a folder that must stay empty, `{archive}` for the archive's, `{segment}` for a file
in it, `{secret}` for a file with SECRET in it.
"""

from __future__ import annotations

from typing import NamedTuple

from eventlog.errors import QueryFailed, QueryRefused, QueryTimeout, QueryTooLarge

SECRET = "the-password-of-the-host"


class Attack(NamedTuple):
    """One attempt: what it wants, and the error it gets."""

    wants: str
    sql: str
    gets: type[QueryFailed] = QueryRefused


STATEMENTS = [
    Attack("to write a file", "COPY (SELECT 1) TO '{out}/x.csv'"),
    Attack("to write behind a comment", "/* SELECT */ COPY (SELECT 1) TO '{out}/x.csv'"),
    Attack("to write after a query", "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'"),
    Attack("two answers", "SELECT 1; SELECT 2"),
    Attack("to hide a second statement in a line", "SELECT 1 -- ;\n; DROP VIEW events"),
    Attack("to read a file into a table", "CREATE TABLE t AS FROM read_text('{secret}')"),
    Attack("to load a file", "COPY t FROM '{secret}'"),
    Attack("to make a database file", "ATTACH '{out}/x.db'"),
    Attack("another database in memory", "ATTACH ':memory:' AS other"),
    Attack("to write out everything", "EXPORT DATABASE '{out}'"),
    Attack("to run a directory's SQL", "IMPORT DATABASE '{archive}'"),
    Attack("an extension from the network", "INSTALL httpfs"),
    Attack("a library from the disk", "LOAD '{secret}'"),
    Attack("more memory", "SET memory_limit = '10GB'"),
    Attack("more memory by pragma", "PRAGMA memory_limit = '10GB'"),
    Attack("the default memory back", "RESET memory_limit"),
    Attack("access back", "SET enable_external_access = true"),
    Attack("variables of the program", "SET python_enable_replacements = true"),
    Attack("other files in the view", "SET VARIABLE segments = ['{secret}']"),
    Attack("another meaning of a view", "CREATE OR REPLACE TEMP VIEW events AS SELECT 1"),
    Attack("a view gone", "DROP VIEW events"),
    Attack("a macro for later", "CREATE MACRO f() AS TABLE FROM read_text('{secret}')"),
    Attack("credentials kept", "CREATE PERSISTENT SECRET (TYPE s3, KEY_ID 'x')"),
    Attack("a statement for later", "PREPARE p AS SELECT 1"),
    Attack("to run one prepared", "EXECUTE p"),
    Attack("a log on disk", "CALL enable_logging(storage = 'file')"),
    Attack("a transaction", "BEGIN"),
    Attack("the disk worked", "CHECKPOINT"),
    Attack("another catalog", "USE memory"),
    Attack("nothing", ""),
    Attack("nothing, in a comment", "-- nothing"),
]
"""Refused for what they are, before DuckDB does anything with them."""

QUERIES = [
    Attack("a file by a query in a query", "WITH x AS (COPY (SELECT 1) TO '{out}/x') SELECT 1"),
    Attack("a segment overwritten", "WITH x AS (COPY (SELECT 1) TO '{segment}') SELECT 1"),
    Attack(
        "an open segment overwritten", "WITH x AS (COPY (SELECT 1) TO '/proc/self/fd/4') SELECT 1"
    ),
    Attack(
        "an open segment overwritten in place",
        "WITH x AS (COPY (SELECT 1) TO '/proc/self/fd/4' (USE_TMP_FILE false)) SELECT 1",
    ),
    Attack(
        "a spoofed answer", "WITH x AS (COPY (SELECT 'done') TO '/proc/self/fd/1') SELECT 1"
    ),
    Attack("a file by way of EXPLAIN", "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x'"),
    Attack("a file's text", "FROM read_text('{secret}')"),
    Attack("a file's bytes", "FROM read_blob('{secret}')"),
    Attack("a file as CSV", "FROM read_csv('{secret}')"),
    Attack("a file as JSON lines", "FROM read_json('{secret}')"),
    Attack("a file by its name alone", "FROM '{secret}'", QueryFailed),
    Attack("a file's first lines", "FROM sniff_csv('{secret}')"),
    Attack("a file through a link in the archive", "FROM read_text('{archive}/link')"),
    Attack("a file around a corner", "FROM read_text('{archive}/../secret')"),
    Attack("the names of files", "FROM glob('{archive}/**')"),
    Attack("a segment past the views", "FROM read_parquet('{segment}')"),
    Attack("the environment", "FROM read_text('/proc/self/environ')"),
    Attack("an environment variable", "SELECT getenv('PATH')", QueryFailed),
    Attack("the memory map", "FROM read_text('/proc/self/maps')"),
    Attack("the parent's question", "FROM read_blob('/dev/stdin')"),
    Attack("a page of the web", "FROM read_csv('https://localhost:1/x.csv')"),
    Attack("an object from a bucket", "FROM 's3://bucket/key.parquet'", QueryFailed),
    Attack("the extensions there are", "FROM duckdb_extensions()"),
    Attack("a local variable of the program", "FROM parameters", QueryFailed),
    Attack("SQL made of text", "FROM query('COPY (SELECT 1) TO ''{out}/x''')", QueryFailed),
    Attack("SQL made of JSON", "FROM json_execute_serialized_sql(json_serialize_sql("
        "'FROM read_text(''{secret}'')'))"),
    Attack("a type that runs code", "SELECT union_value(a := 1)"),
    Attack("letters that look like others", "\uff23\uff2f\uff30\uff39 (SELECT 1) TO '{out}/x'", QueryFailed),
    Attack("an end in the middle", "SELECT 1\0; COPY (SELECT 1) TO '{out}/x'", QueryFailed),
    Attack("a stack overflow of brackets", f"SELECT {'(' * 20_000}1{')' * 20_000}", QueryTooLarge),
    Attack("a stack overflow of signs", "SELECT " + "- " * 20_000 + "1", QueryTooLarge),
    Attack("a stack overflow of NOT", f"SELECT {'NOT ' * 15_000}true", QueryTooLarge),
    Attack("a stack overflow of subqueries",
        "SELECT * FROM (" * 2_000 + "SELECT 1" + ")" * 2_000, QueryTooLarge),
    Attack("memory by format", "SELECT format('{{:>2000000000}}', 'x')", QueryTooLarge),
    Attack("memory by printf", "SELECT printf('%2000000000d', 1)", QueryTooLarge),
    Attack("memory by repeat", "SELECT length(repeat('x', 2000000000))", QueryTooLarge),
    Attack("memory by list_resize", "SELECT len(list_resize([1], 1000000000))", QueryTooLarge),
    Attack("memory by a range", "SELECT unnest(range(1000000000))", QueryTooLarge),
    Attack("memory by a list", "SELECT list(range) FROM range(1000000000)", QueryTooLarge),
    Attack("memory by joining text",
        "SELECT string_agg(repeat('x', 1000000)) FROM range(100000)", QueryTooLarge),
    Attack("the parent's memory by rows", "FROM range(1000000000)", QueryTooLarge),
    Attack("the parent's memory by width",
        "SELECT repeat('x', 100000) FROM range(10000)", QueryTooLarge),
]  # fmt: skip
"""Statements that read, or look like it; they reach DuckDB."""

ENDLESS = [
    Attack("time by lpad", "SELECT length(lpad('x', 2000000000, 'yz'))", QueryFailed),
    Attack("time by levenshtein",
        "SELECT levenshtein(repeat('a', 100000), repeat('b', 100000))", QueryTimeout),
    Attack("time by a join with itself",
        "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", QueryTimeout),
    Attack("time by recursion",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        QueryTimeout),
    Attack("time by a pattern",
        "SELECT regexp_replace(repeat('a', 1000000), '(a?){{1000}}', 'b', 'g')", QueryTimeout),
    Attack("time by sleeping", "SELECT sleep_ms(20000)", QueryTimeout),
]  # fmt: skip
"""No end of their own, or none that anybody would wait for; some do not hear an interrupt."""

NEEDING_FILES = [
    attack
    for attack in QUERIES
    if attack.wants
    in {
        "a file by a query in a query",
        "an open segment overwritten in place",
        "a file's bytes",
        "a file through a link in the archive",
        "a segment past the views",
        "the names of files",
        "memory by format",
        "the parent's memory by rows",
    }
]
"""What the mode without Landlock is tried with as well."""
