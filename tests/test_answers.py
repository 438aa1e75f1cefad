"""Answers are data: bad ones are refused in a sentence, and every other is taken as it is."""

import json
import sys
import unicodedata
from pathlib import Path

import pytest
import tomllib
from conftest import ROOT, configure, cookiecut, manage, render, run
from cookiecutter.main import cookiecutter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(ROOT / "hooks"))

ANSWERS = {
    "project_name": "Backend",
    "project_slug": "backend",
    "description": "A Django project on PostgreSQL.",
    "edition": "essential",
}


def generate(folder, **answers):
    """Render with answers as they are typed; those of its command line cookiecutter would evaluate."""
    fixed = json.loads((ROOT / "cookiecutter.json").read_text())
    replay = folder / "answers.json"
    replay.write_text(json.dumps({"cookiecutter": {**fixed, **ANSWERS, **answers}}))
    return Path(cookiecutter(str(ROOT), replay=str(replay), output_dir=folder / "out", config_file=configure(folder)))


SHAPE = "must be lower-case ASCII letters, digits and underscores, from a letter to a letter or digit"
CONTROL = "must not hold control characters or line breaks"


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
        ("project_name", "two\nlines", CONTROL),
        ("description", "a\ttab", CONTROL),
        ("project_name", "bell\x07", CONTROL),
        ("description", "paragraph\u2029separator", CONTROL),
    ],
)
def test_bad_answer_is_refused_in_a_sentence(tmp_path, name, answer, rule):
    (tmp_path / "temporary").mkdir()
    done = cookiecut(ROOT, tmp_path, f"{name}={answer}", check=False, TMPDIR=str(tmp_path / "temporary"))
    assert done.returncode == 1
    assert done.stderr == f"{name} is {answer!r}, but {rule}.\n"
    assert list((tmp_path / "out").iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    "slug", ["class", "os", "site", "test", "django", "psycopg", "config", "apps", "docs", "email"]
)
def test_slug_may_be_any_other_word(tmp_path, slug):
    """No package bears it: uv installs, and the project runs in a folder of that name."""
    project = render(tmp_path, "essential", project_slug=slug)
    run("uv", "lock", "--quiet", cwd=project)
    assert manage(project, "check").stdout == "System check identified no issues (0 silenced).\n"


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
SLUGS = st.from_regex(r"[a-z][a-z0-9_]{0,37}x[0-9]", fullmatch=True)  # no such word is a keyword or a package


def read_back(project):
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    title, _, description = (project / "README.md").read_text().split("\n")[:3]
    assert about["name"] == f"{project.name}-project"
    assert description == about["description"]
    return {
        "project_name": title.removeprefix("# "),
        "project_slug": project.name,
        "description": description,
        "edition": "essential",
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
                "edition": st.just("essential"),
            }
        )
    )
    @example({**ANSWERS, "project_name": "Conan O'Brien", "description": 'Say """hello""" to {{ cookiecutter }}'})
    @example({**ANSWERS, "project_name": "\u05e9\u05dc\u05d5\u05dd \u202e", "description": "C:\\new\\table\\"})
    @example({**ANSWERS, "project_name": '"""); import os; os.abort() #', "description": "{# {{ 7 * 7 }} #}{% raw %}"})
    @example({**ANSWERS, "description": "🚀" * 200, "project_name": "'" * 200})
    def render_and_read_back(answers):
        project = generate(tmp_path_factory.mktemp("hostile"), **answers)
        assert read_back(project) == answers
        projects.append(str(project))

    render_and_read_back()
    assert len(projects) >= 14
    run(sys.executable, "-c", CHECK_ALL, *projects, cwd="/")


def test_project_with_hostile_answers_passes_its_own_check(tmp_path):
    """And not only when it is forked from a process that has everything imported."""
    answers = {"edition": "cluster", "description": '"""{{ x }}{% y %}{# z #}"""', "project_name": "🚀 {{"}
    project = generate(tmp_path, **answers)
    assert manage(project, "check").stdout == "System check identified no issues (0 silenced).\n"


def test_line_strategy_reaches_every_kind_of_character():
    """The hostile answers hold no character that is refused."""

    @settings(max_examples=100, database=None)
    @given(LINE)
    def check(text):
        assert not {unicodedata.category(character) for character in text} & {"Cc", "Zl", "Zp"}

    check()
