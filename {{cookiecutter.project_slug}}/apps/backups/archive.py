"""
A backup on disk: the file of pg_dump, and beside it a manifest that says what is in it.

Both are written under names that begin with a dot and end with `.unfinished`. The manifest gets its own name first and
the dump last, so whatever is called `.dump` is whole and has its manifest.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, get_origin, get_type_hints
from urllib.parse import quote

from django.core.management.base import CommandError

from .contents import Contents

KIND = "backup of a database, version 1"
TIME = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"(?P<database>.+)-(?P<time>\d{8}T\d{6}Z)\.dump")


@dataclass(frozen=True)
class Manifest(Contents):
    """What a dump holds, as of its snapshot, and what is needed to restore it."""

    made_at: str  # ISO, UTC
    database: str
    environment: str  # that the database is marked with, or ""
    server_version: str  # such as "18.6"
    client_version: str  # of pg_dump
    template_version: str
    size: int  # bytes, of the dump
    database_size: int  # bytes, which a restored one needs at most
    sha256: str
    encoding: str
    locale: dict[str, str]  # provider ("b", "c" or "i"), collate, ctype, and the provider's locale and rules
    extensions: list[list[str]]  # name and schema of each; in backups of earlier versions a name alone
    roles: list[str]  # that privileges and policies name

    @property
    def server_major(self) -> int:
        """Return the server's major version."""
        return int(self.server_version.partition(".")[0])


def name_manifest(dump: Path) -> Path:
    """Return where the manifest of a dump is."""
    return dump.with_name(dump.name.removesuffix(".dump") + ".json")


def write_manifest(manifest: Manifest, file: IO[bytes]) -> None:
    """Write a manifest to its file, which people may read, too."""
    file.write(json.dumps({"kind": KIND, **asdict(manifest)}, ensure_ascii=False, indent=2).encode() + b"\n")


def read_manifest(dump: Path) -> Manifest:
    """Return the manifest beside a dump; raises CommandError where there is none, or one that is not of our making."""
    path = name_manifest(dump)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandError(f"The manifest {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise CommandError(f"{path} is no manifest of a backup: it is not JSON, or not all of it.") from None
    kinds = {name: get_origin(hint) or hint for name, hint in get_type_hints(Manifest).items()}
    if not isinstance(content, dict) or content.pop("kind", None) != KIND:
        raise CommandError(f"{path} is no manifest of a backup that this version of the project has made.")
    if content.keys() != kinds.keys() or not all(isinstance(content[name], kind) for name, kind in kinds.items()):
        raise CommandError(f"{path} is a damaged manifest: something is missing from it, or is too much.")
    return Manifest(**content)


def verify_file(dump: Path, manifest: Manifest) -> None:
    """Raise CommandError unless a dump is, byte for byte, the one that the manifest was written for."""
    try:
        size = dump.stat().st_size
        if size < manifest.size:
            raise CommandError(f"{dump} is truncated: it has {size} bytes of {manifest.size}.")
        if size > manifest.size or hash_file(dump) != manifest.sha256:
            raise CommandError(f"{dump} was altered after it was made: it is not what its manifest was written for.")
    except OSError as error:
        raise CommandError(f"{dump} cannot be read: {error.strerror}.") from None


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_backups(folder: Path, database: str = "") -> list[Path]:
    """Return the dumps that have a manifest, of one database where that is named, the newest first."""
    found = []
    for dump in folder.glob("*.dump"):
        named = NAME.fullmatch(dump.name)
        if named and (not database or named["database"] == quote(database, safe="")) and name_manifest(dump).is_file():
            found.append((named["time"], dump))
    return [dump for _, dump in sorted(found, reverse=True)]
