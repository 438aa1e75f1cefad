"""The documents name the variables, causes, checks and commands of the code, and lead to files that exist."""

import re

import pytest
from django.conf import settings
from django.core.management import find_commands, get_commands

from apps.core.database.causes import Cause

APPS = sorted(file.parent.name for file in settings.BASE_DIR.glob("apps/*/apps.py"))
FOLDERS = "*.md", "apps/*/*.md", "deploy/**/*.md", "docs/*.md"
DOCUMENTS = sorted(
    file.relative_to(settings.BASE_DIR).as_posix() for folder in FOLDERS for file in settings.BASE_DIR.glob(folder)
)
by_document = pytest.mark.parametrize("document", DOCUMENTS)

CHECK = r"(\w+\.[EWI]\d{3})"
EXAMPLES = {"shop", "events", "orders"}  # apps of the documents' examples


def test_settings_are_those_that_the_code_reads():
    sources = "config/*.py", "config/settings/*.py", "apps/*/settings.py"
    code = find(r'(?:config|secret)\(\s*"([A-Z_]+)"', *sources)
    assert code == find(r"^\| `([A-Z_]+)` \|", "docs/settings.md")
    assert code >= find(r"^(?:# )?([A-Z_]+)=", ".env.example")


def test_each_cause_has_a_remedy():
    assert {str(cause) for cause in Cause} <= find(r"^\| `([a-z_]+)` \|", "apps/core/README.md")


@pytest.mark.parametrize("app", APPS)
def test_readme_of_an_app_has_its_checks(app):
    code = find(rf'id="({app}\.[EWI]\d{{3}})"', f"apps/{app}/**/*.py")
    assert code == find(rf"^\| `{CHECK}` \|", f"apps/{app}/README.md")


@by_document
def test_document_names_no_check_that_is_not_there(document):
    assert find(CHECK, document) <= find(rf'id="{CHECK}"', "apps/*/**/*.py")


@by_document
def test_links_lead_to_files_and_headings(document):
    file = settings.BASE_DIR / document
    for target, anchor in find(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", document):
        linked = file.parent / target if target else file
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked), f"{target}#{anchor}"


@by_document
def test_document_names_no_app_that_is_not_there(document):
    text = (settings.BASE_DIR / document).read_text(encoding="utf-8")
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
    assert set(re.findall(r"apps[./](\w+)", prose)) <= {*APPS, *EXAMPLES}


@by_document
def test_document_names_no_command_that_is_not_there(document):
    known = {*get_commands(), *find_commands_of_development()}
    assert find(r"manage\.py (\w+)", document) <= known


def find_commands_of_development():
    """Return the commands of django-extensions, which only development installs."""
    import django_extensions.management  # noqa: PLC0415  for its folder

    return find_commands(django_extensions.management.__path__[0])


def headings(file):
    """Return the anchors that GitHub makes of a document's headings."""
    found = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


def find(pattern, *globs):
    texts = [file.read_text(encoding="utf-8") for glob in globs for file in settings.BASE_DIR.glob(glob)]
    return {name for text in texts for name in re.findall(pattern, text, re.MULTILINE)}
