"""Answers are data: bad ones are refused in a sentence, and every other is taken as it is."""

import json
import re
import sys
import unicodedata
from importlib import metadata
from pathlib import Path

import pytest
import tomllib
from conftest import ROOT, configure, cookiecut, manage, render, run
from cookiecutter.main import cookiecutter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

sys.path.insert(0, str(ROOT / "hooks"))
from pre_gen_project import find_slug_fault

ANSWERS = {
    "project_name": "Backend",
    "project_slug": "backend",
    "description": "A Django project on PostgreSQL.",
    "author_name": "Your Name",
    "author_email": "you@example.com",
}


def generate(folder, **answers):
    """Render with answers as they are typed; those of its command line cookiecutter would evaluate."""
    fixed = json.loads((ROOT / "cookiecutter.json").read_text())
    replay = folder / "answers.json"
    replay.write_text(json.dumps({"cookiecutter": {**fixed, **ANSWERS, **answers}}))
    return Path(cookiecutter(str(ROOT), replay=str(replay), output_dir=folder / "out", config_file=configure(folder)))


SHAPE = "must be lower-case ASCII letters, digits and underscores, from a letter to a letter or digit"
KEYWORD = "must not be a keyword of Python"
STANDARD = "must not be the name of a module of Python's standard library"
DEPENDENCY = "must not be the name of a package that the project depends on"
USED = "must not be a name that the project or PostgreSQL uses itself"
CONTROL = "must not hold control characters or line breaks"
ADDRESS = "must be an e-mail address, such as you@example.com"


@pytest.mark.parametrize(
    ("name", "answer", "rule"),
    [
        ("project_slug", "Backend", SHAPE),
        ("project_slug", "back-end", SHAPE),
        ("project_slug", "2fast", SHAPE),
        ("project_slug", "_private", SHAPE),
        ("project_slug", "trailing_", SHAPE),
        ("project_slug", "größe", SHAPE),
        ("project_slug", "../escape", SHAPE),
        ("project_slug", "a" * 41, "must not be longer than 40 characters"),
        ("project_slug", "class", KEYWORD),
        ("project_slug", "match", KEYWORD),
        ("project_slug", "os", STANDARD),
        ("project_slug", "site", STANDARD),
        ("project_slug", "test", STANDARD),
        ("project_slug", "django", DEPENDENCY),
        ("project_slug", "psycopg", DEPENDENCY),
        ("project_slug", "debug_toolbar", DEPENDENCY),
        ("project_slug", "config", USED),
        ("project_slug", "apps", USED),
        ("project_slug", "tests", USED),
        ("project_slug", "docs", USED),
        ("project_slug", "postgres", USED),
        ("author_email", "nobody", ADDRESS),
        ("author_email", "a@b", ADDRESS),
        ("author_email", "a b@example.com", ADDRESS),
        ("author_email", "Ada <ada@example.com>", ADDRESS),
        ("author_email", "a@@example.com", ADDRESS),
        ("project_name", "two\nlines", CONTROL),
        ("description", "a\ttab", CONTROL),
        ("author_name", "bell\x07", CONTROL),
        ("author_name", "paragraph\u2029separator", CONTROL),
    ],
)
def test_bad_answer_is_refused_in_a_sentence(tmp_path, name, answer, rule):
    (tmp_path / "temporary").mkdir()
    done = cookiecut(ROOT, tmp_path, f"{name}={answer}", check=False, TMPDIR=str(tmp_path / "temporary"))
    assert done.returncode == 1
    assert done.stderr == f"{name} is {answer!r}, but {rule}.\n"
    assert list((tmp_path / "out").iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_name_of_every_dependency_is_refused(project):
    """Of the packages that a rendered project installs, of those that they bring along, and of their modules."""
    pyproject = tomllib.loads((project / "pyproject.toml").read_text())
    wanted = [*pyproject["project"]["dependencies"], *pyproject["dependency-groups"]["dev"]]
    installed = set()
    while wanted:
        package = Requirement(wanted.pop())
        installed.add(package.name)
        for text in metadata.requires(package.name) or []:
            needed = Requirement(text)
            applies = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in {"", *package.extras}
            )
            if applies and needed.name not in installed:
                wanted.append(text)
    modules = {name for name, packages in metadata.packages_distributions().items() if installed & {*packages}}
    slugs = {re.sub("[-.]", "_", name.lower()) for name in installed | modules}
    assert len(slugs) > 30
    assert {slug for slug in slugs if find_slug_fault(slug) is None} == set()


@pytest.mark.parametrize(
    ("project_name", "slug"),
    [
        ("Backend", "backend"),
        ("My Shop!", "my_shop"),
        ("  Größe & Maß  ", "grosse_mass"),
        ("2 Fast", "project_2_fast"),
        ("🚀", "project"),
        ("x" * 200, "x" * 40),
        ("word " * 40, "word_word_word_word_word_word_word_word"),
    ],
)
def test_slug_is_derived_from_the_name(tmp_path, project_name, slug):
    assert render(tmp_path, project_name=project_name).name == slug


# Whatever can be typed on one line.
LINE = st.lists(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"])
    | st.sampled_from(["{{", "}}", "{%", "%}", "{#", "#}", '"""', "'''", "\\", '"', "'", "${", "`", "\\u0041", "🚀"]),
    max_size=200,
).map(lambda pieces: "".join(pieces)[:200])
WORD = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789.+-_'%{}!#$&*/=?^|~öß漢"), min_size=1, max_size=20)
ADDRESSES = st.builds("{}@{}.{}".format, WORD, WORD, st.sampled_from(["com", "example", "技術"]))
SLUGS = st.from_regex(r"[a-z][a-z0-9_]{0,37}x[0-9]", fullmatch=True)  # no such word is a keyword or a package


def read_back(project):
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    title, _, description, _, written_by = (project / "README.md").read_text().split("\n")[:5]
    (author,) = about["authors"]
    assert about["name"] == project.name
    assert description == about["description"]
    assert written_by == f"Written by {author['name']}, {author['email']}."
    return {
        "project_name": title.removeprefix("# "),
        "project_slug": project.name,
        "description": description,
        "author_name": author["name"],
        "author_email": author["email"],
    }


# Every project's manage.py is really run, in a fork of a process that has Django imported: ten times faster.
CHECK_ALL = """
import contextlib, os, runpy, sys
with contextlib.suppress(Exception):  # where there is no GDAL; the toolbar looks for it, too
    import django.contrib.gis.gdal
import django.core.management.commands.check, django.db.backends.postgresql.base, django.views.debug, structlog
for folder in sys.argv[1:]:
    if os.fork() == 0:
        os.chdir(folder)
        sys.path.insert(0, folder)
        sys.argv = ["manage.py", "check"]
        runpy.run_path("manage.py", run_name="__main__")
        sys.exit(0)
    if os.wait()[1] != 0:
        sys.exit(f"manage.py check failed in {folder}")
"""


def test_every_other_answer_works(tmp_path_factory):
    """Hostile answers: they read back unchanged, and the projects pass their own checks."""
    projects = []

    @settings(max_examples=14, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.fixed_dictionaries(
            {
                "project_name": LINE,
                "project_slug": SLUGS,
                "description": LINE,
                "author_name": LINE,
                "author_email": ADDRESSES,
            }
        )
    )
    @example({**ANSWERS, "author_name": "Conan O'Brien", "description": 'Say """hello""" to {{ cookiecutter }}'})
    @example({**ANSWERS, "author_name": "\u05e9\u05dc\u05d5\u05dd \u202e", "description": "C:\\new\\table\\"})
    @example({**ANSWERS, "author_name": '"""); import os; os.abort() #', "description": "{# {{ 7 * 7 }} #}{% raw %}"})
    @example({**ANSWERS, "description": "🚀" * 200, "author_name": "", "project_name": "'" * 200})
    def render_and_read_back(answers):
        project = generate(tmp_path_factory.mktemp("hostile"), **answers)
        assert read_back(project) == answers
        projects.append(str(project))

    render_and_read_back()
    assert len(projects) >= 14
    run(sys.executable, "-c", CHECK_ALL, *projects, cwd="/")


def test_project_with_hostile_answers_passes_its_own_check(tmp_path):
    """And not only when it is forked from a process that has everything imported."""
    answers = {"author_name": "Conan \\ O'Brien", "description": '"""{{ x }}{% y %}{# z #}"""', "project_name": "🚀 {{"}
    project = generate(tmp_path, **answers)
    assert manage(project, "check").stdout == "System check identified no issues (0 silenced).\n"


def test_line_strategy_reaches_every_kind_of_character():
    """The hostile answers hold no character that is refused."""

    @settings(max_examples=100, database=None)
    @given(LINE)
    def check(text):
        assert not {unicodedata.category(character) for character in text} & {"Cc", "Zl", "Zp"}

    check()
