"""New migrations are linted: each hazard is found, what is harmless, accepted or old is not."""

import collections
import re
import shutil

import pytest
from conftest import manage, render, run

IDENTITY = "-c", "user.name=Test", "-c", "user.email=test@example.com"
MIGRATION = """
import django.db.models.deletion
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.operations import *
from django.db import migrations, models


def fill(apps, schema_editor):
    apps.get_model("shop", "Book").objects.filter(title="").update(title="none")

{comment}
class Migration(migrations.Migration):
    atomic = {atomic}
    initial = {initial}
    dependencies = {dependencies}
    operations = [{operations}]
"""
INITIAL = """
migrations.CreateModel("Author", [("id", models.BigAutoField(primary_key=True))]),
migrations.CreateModel(
    "Book",
    [
        ("id", models.BigAutoField(primary_key=True)),
        ("title", models.CharField(max_length=40)),
        ("pages", models.IntegerField(null=True)),
        ("code", models.CharField(max_length=10, unique=True)),
        ("translator", models.ForeignKey("shop.Author", models.CASCADE, related_name="+")),
    ],
    options={
        "indexes": [models.Index(fields=["pages"], name="book_pages")],
        "constraints": [models.CheckConstraint(condition=models.Q(pages__gt=-1), name="book_min")],
        "unique_together": {("pages", "code")},
    },
),
migrations.AddField("author", "best", models.ForeignKey("shop.Book", models.CASCADE)),
"""
HAZARDS = {
    # A column that the code in production does not fill in.
    "column_not_null": ('migrations.AddField("book", "stock", models.IntegerField(default=0))', "ban-drop-default"),
    "column_rewritten": (
        'migrations.AddField("book", "token", models.UUIDField(db_default=RandomUUID()))',
        "adding-field-with-default",
    ),
    "column_dropped": ('migrations.RemoveField("book", "pages")', "ban-drop-column"),
    "column_renamed": ('migrations.RenameField("book", "pages", "length")', "renaming-column"),
    "table_dropped": ('migrations.DeleteModel("Author")', "ban-drop-table"),
    "table_renamed": ('migrations.RenameModel("Book", "Volume")', "renaming-table"),
    "type": ('migrations.AlterField("book", "pages", models.BigIntegerField(null=True))', "changing-column-type"),
    "set_not_null": (
        'migrations.AlterField("book", "pages", models.IntegerField(default=0))',
        "adding-not-nullable-field ban-drop-default",
    ),
    "index": (
        'migrations.AddIndex("book", models.Index(fields=["title"], name="book_title"))',
        "require-concurrent-index-creation",
    ),
    "index_removed": ('migrations.RemoveIndex("book", "book_pages")', "require-concurrent-index-deletion"),
    "index_by_sql": (
        'migrations.RunSQL("CREATE INDEX other ON shop_book (title)", "DROP INDEX other")',
        "require-concurrent-index-creation",
    ),
    "unique": (
        'migrations.AddConstraint("book", models.UniqueConstraint(fields=["title"], name="book_unique"))',
        "disallowed-unique-constraint constraint-missing-not-valid",
    ),
    "check": (
        'migrations.AddConstraint("book", models.CheckConstraint(condition=models.Q(pages__gt=0), name="book_any"))',
        "constraint-missing-not-valid",
    ),
    "foreign_key": (
        'migrations.AddField("book", "author", models.ForeignKey("shop.Author", models.CASCADE, null=True))',
        "adding-foreign-key-constraint require-concurrent-index-creation",
    ),
    "no_way_back": ("migrations.RunPython(fill)", "irreversible"),
    "no_way_back_by_sql": ('migrations.RunSQL("UPDATE shop_book SET title = code")', "irreversible"),
    "data_with_schema": (
        'migrations.AddField("book", "note", models.TextField(null=True)),'
        "migrations.RunPython(fill, migrations.RunPython.noop)",
        "data-with-schema",
    ),
    # Whose constraint Django looks up in the database, which has no tables yet.
    "untold": ('migrations.AlterUniqueTogether("book", set())', "no-sql"),
}
HARMLESS = {
    "column_nullable": 'migrations.AddField("book", "note", models.TextField(null=True))',
    "column_with_default": 'migrations.AddField("book", "stock", models.IntegerField(db_default=0))',
    "null_allowed": 'migrations.AlterField("book", "title", models.CharField(max_length=40, null=True))',
    "table": """
        migrations.CreateModel(
            "Shelf",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("code", models.CharField(max_length=40, unique=True)),
                ("books", models.ManyToManyField("shop.Book")),
            ],
            options={"indexes": [models.Index(fields=["code"], name="shelf_code")]},
        ),
        migrations.AddField("shelf", "author", models.ForeignKey("shop.Author", models.CASCADE)),
        migrations.AddConstraint("shelf", models.UniqueConstraint(fields=["author"], name="shelf_author")),
        migrations.RunPython(fill, migrations.RunPython.noop),
    """,
    "many_to_many": 'migrations.AddField("book", "others", models.ManyToManyField("shop.Author", related_name="+"))',
    "index_concurrently": 'AddIndexConcurrently("book", models.Index(fields=["title"], name="book_title"))',
    "index_removed_concurrently": 'RemoveIndexConcurrently("book", "book_pages")',
    "check_not_valid": """
        AddConstraintNotValid("book", models.CheckConstraint(condition=models.Q(pages__gt=0), name="book_any"))
    """,
    "check_validated": 'ValidateConstraint("book", "book_min")',
    "constraint_removed": 'migrations.RemoveConstraint("book", "book_min")',
    "data": "migrations.RunPython(fill, migrations.RunPython.noop)",
    "state": 'migrations.AlterModelOptions("book", {"ordering": ["title"]})',
}
# What DB_ZERO_DOWNTIME does in another way, which holds up nobody.
MENDED = {"index", "index_removed", "unique", "check", "foreign_key"}


def write(project, name, operations, *, parent="0001_initial", comment=""):
    file = project / "apps" / "shop" / "migrations" / f"{name}.py"
    file.write_text(
        MIGRATION.format(
            operations=operations,
            dependencies=[("shop", parent)] if parent else [],
            initial=not parent,
            comment=comment,
            atomic="Concurrently" not in operations,
        )
    )
    return file


def git(project, *arguments):
    return run("git", *IDENTITY, *arguments, cwd=project).stdout


def commit(project):
    git(project, "add", "--all")
    git(project, "commit", "--message", "All")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A project with an app, on a branch of its own beside main."""
    project = render(tmp_path_factory.mktemp("linting"))
    (project / "apps" / "shop" / "migrations").mkdir(parents=True)
    for name in ("__init__.py", "models.py", "migrations/__init__.py"):
        (project / "apps" / "shop" / name).write_text("")
    settings = project / "config" / "settings" / "base.py"
    settings.write_text(settings.read_text().replace('    "apps.users",\n', '    "apps.users",\n    "apps.shop",\n'))
    write(project, "0001_initial", INITIAL, parent=None)
    git(project, "init", "--initial-branch=main")
    commit(project)
    git(project, "switch", "--create", "feature")
    return project


@pytest.fixture
def project(shop, tmp_path):
    return shutil.copytree(shop, tmp_path / "shop")


@pytest.fixture(scope="module")
def environment(server):
    return server.environment("linted")


def lint(project, *arguments, **environment):
    """Return the exit code, what was found in each migration, and what is said on standard error."""
    done = manage(project, "lint_migrations", *arguments, check=False, **environment)
    assert "Traceback" not in done.stderr
    found = collections.defaultdict(list)
    for name, rule in re.findall(r"^apps/\w+/migrations/(\w+)\.py: ([\w-]+): \w", done.stdout, re.MULTILINE):
        found[name].append(rule)
    return done.returncode, dict(found), done.stderr


def test_hazards_are_found_and_nothing_else(project, environment):
    for name, (operations, _) in HAZARDS.items():
        write(project, name, operations)
    for name, operations in HARMLESS.items():
        write(project, name, operations)
    code, found, error = lint(project, **environment)
    assert {name: set(rules) for name, rules in found.items()} == {
        name: set(rules.split()) for name, (_, rules) in HAZARDS.items()
    }
    assert code == 1
    total = sum(map(len, found.values()))
    assert error.startswith(f"CommandError: Found: {total}. Mend the migrations, or accept a finding by a comment in")


def test_finding_tells_the_statement_and_what_to_do(project, environment):
    write(project, "0002_index", HAZARDS["index"][0])
    done = manage(project, "lint_migrations", check=False, **environment)
    assert done.stdout == (
        "apps/shop/migrations/0002_index.py: require-concurrent-index-creation: "
        "During normal index creation, table updates are blocked, but reads are still allowed. "
        "Use `concurrently` to avoid blocking writes.\n"
        '    CREATE INDEX "book_title" ON "shop_book" ("title");\n'
    )
    assert done.stderr == (
        "CommandError: Found: 1. Mend the migrations, or accept a finding by a comment in its migration, "
        "such as # squawk-ignore-file require-concurrent-index-creation\n"
    )


def test_what_is_accepted_in_the_migration_passes(project, environment):
    for name, (operations, rules) in HAZARDS.items():
        write(
            project, name, operations, comment=f"# Nobody uses it yet.\n# squawk-ignore-file {', '.join(rules.split())}"
        )
    assert lint(project, **environment) == (0, {}, "")


def test_nothing_but_the_rule_that_is_named_is_accepted(project, environment):
    operations, rules = HAZARDS["unique"]
    write(project, "0002_unique", operations, comment=f"# squawk-ignore-file {rules.split()[0]}")
    write(project, "0002_data", *HAZARDS["no_way_back"][:1], comment="# squawk-ignore-file data-with-schema")
    write(project, "0002_typo", HARMLESS["state"], comment="# squawk-ignore-file renaming-colum")
    _, found, _ = lint(project, **environment)
    assert found == {
        "0002_unique": ["constraint-missing-not-valid"],
        "0002_data": ["irreversible"],
        "0002_typo": ["unused-ignore"],
    }


def test_only_what_the_main_branch_lacks_is_looked_at(project, environment, tmp_path):
    write(project, "0002_old", HAZARDS["index"][0])
    commit(project)
    git(project, "switch", "main")
    git(project, "merge", "feature")
    assert lint(project, **environment) == (0, {}, "")
    git(project, "switch", "feature")
    write(project, "0003_committed", HAZARDS["check"][0], parent="0002_old")
    commit(project)
    write(project, "0003_staged", HAZARDS["check"][0], parent="0002_old")
    git(project, "add", "--all")
    write(project, "0003_untracked", HAZARDS["check"][0], parent="0002_old")
    # Neither what main got since nor a change of an old one.
    write(project, "0002_old", HAZARDS["index"][0], comment="# An old one.")
    assert {*lint(project, **environment)[1]} == {"0003_committed", "0003_staged", "0003_untracked"}
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--branch=feature", project, clone)
    assert {*lint(clone, **environment)[1]} == {"0003_committed"}
    assert {*lint(project, "--since=HEAD", **environment)[1]} == {"0003_staged", "0003_untracked"}
    assert {*lint(project, "--since=HEAD~2", **environment)[1]} >= {"0002_old"}
    assert lint(project, "--since=nowhere", **environment) == (
        1,
        {},
        "CommandError: There is no 'nowhere' that the project could be compared with.\n",
    )


def test_project_may_be_a_folder_of_its_repository(project, environment, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(project, whole / "über" / "shop", ignore=shutil.ignore_patterns(".git"))
    git(whole, "init", "--initial-branch=main")
    commit(whole)
    write(whole / "über" / "shop", "0002_new", HAZARDS["check"][0])
    assert {*lint(whole / "über" / "shop", **environment)[1]} == {"0002_new"}


def test_without_a_main_branch_every_migration_is_looked_at(project, environment):
    shutil.rmtree(project / ".git")
    said = "There is no origin/main or main to compare with: every migration is looked at.\n"
    assert lint(project, **environment) == (0, {}, said)
    write(project, "0002_old", HAZARDS["index"][0])
    code, found, error = lint(project, **environment)
    assert (code, {*found}) == (1, {"0002_old"})
    assert error.startswith(said)


def test_tables_that_are_new_together_may_be_changed(project, environment):
    write(project, "0002_table", HARMLESS["table"])
    change = """
        migrations.AddIndex("shelf", models.Index(fields=["author"], name="shelf_index")),
        migrations.AddField("shelf", "best", models.ForeignKey("shop.Book", models.CASCADE)),
        migrations.RenameField("shelf", "code", "number"),
        migrations.RunPython(fill, migrations.RunPython.noop),
    """
    write(project, "0003_change", change, parent="0002_table")
    assert lint(project, **environment) == (0, {}, "")
    commit(project)
    git(project, "branch", "--force", "main", "HEAD")
    write(project, "0004_index", change.replace("shelf_index", "shelf_other").splitlines()[1], parent="0003_change")
    assert {*lint(project, **environment)[1]} == {"0004_index"}


def test_zero_downtime_mends_what_its_engine_does_in_another_way(project, environment):
    for name, (operations, _) in HAZARDS.items():
        write(project, name, operations)
    write(project, "index_concurrently", HARMLESS["index_concurrently"])
    _, found, _ = lint(project, **environment, DB_ZERO_DOWNTIME="true")
    assert MENDED.isdisjoint(found)
    # Nor does data share a transaction with the schema there.
    assert found.keys() == HAZARDS.keys() - MENDED - {"data_with_schema"}


def test_missing_squawk_is_named(project, environment):
    write(project, "0002_index", HAZARDS["index"][0])
    run("uv", "sync", "--no-dev", cwd=project)
    git = shutil.which("git").rpartition("/")[0]
    done = run(
        ".venv/bin/python",
        "manage.py",
        "lint_migrations",
        "--settings=config.settings.testing",
        cwd=project,
        check=False,
        **environment,
        PATH=git,
    )
    sentence = "CommandError: lint_migrations needs squawk-cli, of the development group: run uv sync.\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_make_runs_each_check(project):
    assert run("make", "--dry-run", "lint", cwd=project).stdout.splitlines() == [
        "uv run ruff check",
        "uv run ruff format --check",
        "uv run mypy .",
        "uv run manage.py makemigrations --check",
        "uv run manage.py lint_migrations",
    ]
