"""The way to rename a column in the README of `schema`, carried out under writes of the former and the new code."""

import contextlib
import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import TEMPLATE, manage, render, running, wait_until

pytestmark = pytest.mark.long

TITLE = "## Expand and contract"
DOCUMENT = TEMPLATE / "apps" / "schema" / "README.md"
SECTION = DOCUMENT.read_text().partition(f"{TITLE}\n")[2].partition("\n## ")[0]
BLOCKS = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE))
DEPLOYS = {"expand": ("0002", "0003"), "switch": ("0004",), "contract": ("0005",)}

MODEL = """
from django.db import models


class Book(models.Model):
    title = models.CharField(max_length=20)
    {}
"""
OLD_FIELD = "pages = models.IntegerField()"
(NEW_FIELD,) = re.findall(r"`(length = models\.IntegerField\(db_default=0\))`", SECTION)
ROWS = 5_000
MIXED = 0.7  # seconds for which the code of two deploys runs at once

# Every row's title says what its number is, whoever wrote it, and in which way. On its standard output it tells that it
# has begun and, when told to end, what came of it.
WORKER = """
import json, random, signal, time, traceback
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Cast
from django.db import models
from apps.shop.models import Book

NAME = next(field.name for field in Book._meta.fields if field.name in {"pages", "length"})
over, rounds, errors = [], 0, []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
print("begun", flush=True)


def check(book):
    assert book.title == str(getattr(book, NAME)), (NAME, book.title, getattr(book, NAME))


while not over:
    try:
        number = random.randrange(1000, 9000)
        book = Book.objects.create(title=str(number), **{NAME: number})
        check(Book.objects.get(id=book.id))
        setattr(book, NAME, number + 1)
        book.title = str(number + 1)
        book.save()
        check(Book.objects.get(id=book.id))
        changed = {NAME: F(NAME) + 1, "title": Cast(F(NAME) + 1, models.CharField())}
        several = Book.objects.filter(id__lte=random.randrange(50))
        with transaction.atomic():
            list(several.order_by("id").select_for_update().values_list("id"))  # as the backfill does
            several.update(**changed)
        assert Book.objects.filter(id=book.id).update(**changed) == 1
        Book.objects.bulk_create([Book(title="7", **{NAME: 7})])
        for other in Book.objects.order_by("?" if rounds % 20 == 0 else "-id")[:20]:
            check(other)
    except Exception:
        errors.append(traceback.format_exc())
    rounds += 1
    time.sleep(0.01)  # for others to get the machine
print(json.dumps({"rounds": rounds, "errors": errors[:3]}), flush=True)
"""


@pytest.fixture
def projects(tmp_path):
    """The project of before and that of each deploy."""
    before = render(tmp_path)
    app = before / "apps" / "shop"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(MODEL.format(OLD_FIELD))
    settings = before / "config" / "settings" / "base.py"
    settings.write_text(settings.read_text().replace('    "apps.users",\n', '    "apps.users",\n    "apps.shop",\n'))
    manage(before, "makemigrations", "shop", DB_EMBEDDED="false", DB_PORT="1")
    made = {"before": before}
    for name, numbers in DEPLOYS.items():
        previous = list(made.values())[-1]
        made[name] = shutil.copytree(previous, tmp_path / name)
        for file, text in BLOCKS.items():
            if Path(file).name.startswith(numbers):
                (made[name] / file).write_text(text)
        if name != "expand":
            (made[name] / "apps" / "shop" / "models.py").write_text(MODEL.format(NEW_FIELD))
    return made


class Workers:
    """Processes of the code of one deploy."""

    def __init__(self, project, environment):
        self.stack = contextlib.ExitStack()
        command = sys.executable, "manage.py", "shell", "--verbosity=0", "--command", WORKER
        self.running = [self.stack.enter_context(running(*command, cwd=project, **environment)) for _ in range(2)]
        wait_until(lambda: all("begun" in log.read_text() for _, log in self.running), 60)

    def end(self):
        """End them and return what came of them."""
        for process, _ in self.running:
            process.terminate()
        for process, _ in self.running:
            process.wait(20)
        texts = [log.read_text() for _, log in self.running]
        self.stack.close()
        return [json.loads(text.splitlines()[-1]) for text in texts]


@pytest.mark.parametrize("engine", [{}, {"DB_ZERO_DOWNTIME": "true"}], ids=["stock", "zero downtime"])
def test_column_is_renamed_while_old_and_new_code_write(projects, server, engine):
    database = "renamed_" + "_".join(engine).lower()
    environment = server.environment(database)
    manage(projects["before"], "migrate", **environment)
    with server.connect(database) as connection:
        insert = "INSERT INTO shop_book (title, pages) SELECT n::text, n FROM"
        connection.execute(f"{insert} generate_series(1, {ROWS}) AS n")
    workers = Workers(projects["before"], environment)
    try:
        for name in DEPLOYS:
            done = manage(projects[name], "migrate", **environment, **engine)
            assert "OK" in done.stdout
            time.sleep(MIXED)  # migrated, and only the code of before is there
            old, workers = workers, Workers(projects[name], environment)
            time.sleep(MIXED)
            for result in old.end():
                assert result["errors"] == []
                assert result["rounds"] > 10
            if name == "expand":
                with server.connect(database) as connection:
                    assert connection.execute("SELECT count(*) FROM shop_book WHERE length <> pages").fetchone() == (0,)
    finally:
        results = workers.end()
    for result in results:
        assert result["errors"] == []
    with server.connect(database) as connection:
        columns = (
            "SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = 'shop_book'::regclass AND attnum > 0"
        )
        assert {*connection.execute(f"{columns} AND NOT attisdropped").fetchone()[0]} == {"id", "title", "length"}
        assert connection.execute("SELECT count(*) FROM shop_book WHERE length::text <> title").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_trigger WHERE tgname = 'shop_book_length'").fetchone() == (
            0,
        )


def test_each_deploy_has_its_migrations_and_passes_the_lint(projects, server):
    environment = server.environment("expanded")
    for project in projects.values():
        assert "No changes detected" in manage(project, "makemigrations", "--check", **environment).stdout
    assert "Nothing found." in manage(projects["contract"], "lint_migrations", **environment).stdout


def test_example_is_complete():
    assert len(BLOCKS) == sum(map(len, DEPLOYS.values()))
