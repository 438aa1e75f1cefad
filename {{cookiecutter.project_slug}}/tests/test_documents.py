"""The README's table of settings, `.env.example` and the code name the same variables."""

import re

from django.conf import settings

from apps.core.database.causes import Cause


def test_documents_name_every_variable_that_the_code_reads():
    code = find(r'(?:config|secret)\(\s*"([A-Z_]+)"', "config/*.py", "config/settings/*.py")
    assert code == find(r"^(?:# )?([A-Z_]+)=", ".env.example")
    assert code == find(r"^\| `([A-Z_]+)` \|", "README.md")


def test_readme_explains_every_cause():
    assert {str(cause) for cause in Cause} <= find(r"^\| `([a-z_]+)` \|", "README.md")


def test_readme_explains_every_check():
    code = find(r'id="(\w+\.[EW]\d+)"', "apps/**/*.py")
    readme = find(r"^\| `(\w+\.[EW]\d+)` \|", "README.md")
    assert code == {check for check in readme if (settings.BASE_DIR / "apps" / check.split(".")[0]).is_dir()}


def find(pattern, *globs):
    texts = [file.read_text(encoding="utf-8") for glob in globs for file in settings.BASE_DIR.glob(glob)]
    return {name for text in texts for name in re.findall(pattern, text, re.MULTILINE)}
