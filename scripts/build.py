"""A hook of hatchling's that puts the commit of the template into a wheel, so that `cruft update` knows it."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = "cookiecutter_django_postgres/template/.template-origin"


class OriginHook(BuildHookInterface):
    """Fills in `.template-origin`, as git does in an archive."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Write the file with the commit; raises CalledProcessError outside a clone."""
        git = "git", "-C", self.root, "rev-parse", "HEAD"
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        text = Path(self.root, ".template-origin").read_text(encoding="utf-8")
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name, "origin")
        file.write_text(text.replace("$Format:%H$", commit), encoding="utf-8")
        build_data["force_include"][str(file)] = PLACE

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact: str) -> None:
        """Remove it."""
        self.folder.cleanup()
