"""Which migrations are new, and what they would do to tables in use, by squawk and by checks of our own."""

import inspect
import json
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections
from django.db.migrations import Migration, RunPython
from django.db.migrations.loader import MigrationLoader
from django.utils.module_loading import import_string

from .statements import is_atomic

ZERO_DOWNTIME_EDITOR = "django_zero_downtime_migrations.backends.postgres.schema.DatabaseSchemaEditor"

# What is not squawk's, which does not know the names.
NO_SQL, IRREVERSIBLE, DATA = OWN_RULES = "no-sql", "irreversible", "data-with-schema"

ACCEPTED = re.compile(r"^\s*# squawk-ignore-file (.+)$", re.MULTILINE)
CREATED = re.compile(r'^CREATE TABLE ("[^"]+")', re.MULTILINE)
CHANGE = r'^(ALTER TABLE|DROP TABLE|CREATE (UNIQUE )?INDEX (CONCURRENTLY )?"[^"]+" ON) '


class Finding(NamedTuple):
    """Something that blocks a table in use, or breaks the code that uses it."""

    rule: str
    text: str
    statement: str = ""


def print_sql(loader: MigrationLoader, migration: Migration) -> str:
    """Return what `migrate` would execute, or a line that says why Django cannot tell."""
    connection = connections[DEFAULT_DB_ALIAS]
    if settings.DB_ZERO_DOWNTIME:  # for which `migrate` has an engine of its own
        connection.SchemaEditorClass = import_string(ZERO_DOWNTIME_EDITOR)
    try:
        statements = loader.collect_sql([(loader.graph.nodes[migration.app_label, migration.name], False)])
    except (NotSupportedError, TypeError, ValueError) as error:
        return f"-- {NO_SQL}: {error}"
    return "\n".join(["BEGIN;", *statements, "COMMIT;"] if is_atomic(connection, migration) else statements)


def find_tables(sql: str) -> set[str]:
    """Return the tables, quoted, that statements make: nobody uses them yet."""
    return set(CREATED.findall(sql))


def lint(migration: Migration, source: str, sql: str, new_tables: Iterable[str]) -> Iterator[Finding]:
    """Yield what is found in a migration and not accepted in its source; what is done to new tables is passed over."""
    accepted = {rule.strip() for rules in ACCEPTED.findall(source) for rule in rules.split(",")}
    for table in new_tables:
        sql = re.sub(rf"{CHANGE}{re.escape(table)}[ ;].*", "", sql, flags=re.MULTILINE)
    yield from ask_squawk(sql, sorted(accepted.difference(OWN_RULES)))
    yield from (finding for finding in look_beside(migration, sql) if finding.rule not in accepted)


def look_beside(migration: Migration, sql: str) -> Iterator[Finding]:
    """Yield what the SQL does not say."""
    if sql.startswith(f"-- {NO_SQL}: "):
        yield Finding(NO_SQL, f"Django cannot tell its SQL: {sql.partition(': ')[2]}.")
    for operation in migration.operations:
        if not operation.reversible:
            yield Finding(IRREVERSIBLE, f"{type(operation).__name__} has no way back: give it one, if only noop.")
    has_data = any(isinstance(operation, RunPython) for operation in migration.operations)
    if has_data and is_atomic(connections[DEFAULT_DB_ALIAS], migration) and re.search(CHANGE, sql, re.MULTILINE):
        text = "RunPython keeps the locks of the schema changes beside it: give it a migration of its own."
        yield Finding(DATA, text)


def ask_squawk(sql: str, accepted: list[str]) -> Iterator[Finding]:
    """Yield what squawk finds; `accepted` are rules of its own."""
    program = shutil.which("squawk", path=sysconfig.get_path("scripts")) or shutil.which("squawk")
    if not program:
        raise CommandError("lint_migrations needs squawk-cli, of the development group: run uv sync.")
    text = f"-- squawk-ignore-file {', '.join(accepted)}\n{sql}" if accepted else sql
    done = subprocess.run(  # noqa: S603  a program of the project's own environment
        [program, "--reporter=json"],
        cwd=settings.BASE_DIR,  # where .squawk.toml is
        input=text,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if not done.stdout.startswith("["):
        raise CommandError(f"squawk cannot work: {done.stderr.strip()}")
    lines = text.splitlines()
    for found in json.loads(done.stdout):
        yield Finding(found["rule_name"], f"{found['message']} {found['help'] or ''}".strip(), lines[found["line"]])


def find_new_files(old: Sequence[str]) -> set[Path] | None:
    """
    Return the files that came after this commit left the first branch of `old` that there is.

    None where there is none, or no repository: then nobody can tell what is new.
    """
    bases = (git("merge-base", branch, "HEAD") for branch in old)
    base = next((base for base in bases if base), None)
    if not base:
        return None
    committed = git("diff", "--relative", "--name-only", "--no-renames", "--diff-filter=A", "-z", base.strip())
    untracked = git("ls-files", "--others", "--exclude-standard", "-z")
    return {settings.BASE_DIR / name for name in f"{committed}{untracked}".split("\0") if name}


def git(*arguments: str) -> str:
    """Return what git says of the project, nothing where it fails or is missing."""
    program = shutil.which("git")
    if not program:
        return ""
    done = subprocess.run(  # noqa: S603  the user's own program
        [program, *arguments], cwd=settings.BASE_DIR, capture_output=True, encoding="utf-8", check=False
    )
    return done.stdout if done.returncode == 0 else ""


def find_migrations(loader: MigrationLoader, files: set[Path] | None) -> dict[Path, Migration]:
    """Return the migrations in the files, those of the project where there are none, by their file."""
    found = {
        Path(inspect.getfile(type(migration))).resolve(): migration for migration in loader.disk_migrations.values()
    }
    if files is None:
        files = {file for file in found if file.is_relative_to(settings.BASE_DIR) and "site-packages" not in file.parts}
    return {file: found[file] for file in sorted(files & found.keys())}
