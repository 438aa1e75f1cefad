"""Reading the environment: bad values and, in production, missing ones are refused in a sentence."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import decouple
from django.core.exceptions import ImproperlyConfigured

REQUIRED_IN_PRODUCTION = (
    "SECRET_KEY",
    "ALLOWED_HOSTS",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_HOST",
    "DB_PORT",
)

# The default of `base` and the example of the documentation.
KNOWN_PASSWORDS = {"postgres", "your_secure_password"}

# What `check --deploy` asks of a key (security.W009).
SECRET_KEY_LENGTH = 50
SECRET_KEY_LETTERS = 5


def seconds(value: str | float) -> float:
    """Return a time, for `config` to cast with; raises ValueError for one that is none."""
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError(value)
    return number


def count(value: str | int) -> int:
    """Return how many there are, for `config` to cast with; raises ValueError for none, or what is no number."""
    number = int(value)
    if number < 1:
        raise ValueError(value)
    return number


EXPECTATIONS: dict[object, str] = {
    bool: "a truth value (true or false)",
    int: "a whole number",
    count: "a whole number, 1 or more",
    seconds: "a number of seconds, 0 or more",
}


def config(name: str, default: str | float = "", cast: Callable[..., Any] = str) -> Any:
    """
    Return the variable `name`, from the environment or else `.env`, converted by `cast`.

    Raises ImproperlyConfigured with the value and what it should have been when it cannot be converted.
    """
    try:
        return decouple.config(name, default=default, cast=cast)
    except ValueError:
        value = decouple.config(name)
        expected = EXPECTATIONS.get(cast, "a value it can read")
        raise ImproperlyConfigured(f"{name} is {value!r}, but must be {expected}.") from None


def secret(name: str, default: str = "") -> str:
    """
    Return the secret `name` or, where the variable `name`_FILE is set, what that file holds.

    Raises ImproperlyConfigured for a file that cannot be read, and where both are set.
    """
    value, file = config(name), config(f"{name}_FILE")
    if not file:
        return str(value or default)
    if value:
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set, but only one can be meant.")
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ImproperlyConfigured(f"{name}_FILE is {file!r}, which cannot be read: {reason}.") from None


def require_production_values() -> None:
    """Raise ImproperlyConfigured, naming all that production lacks or must not have at once."""
    values = {name: secret(name) for name in REQUIRED_IN_PRODUCTION}
    problems = find_problems(values)
    others = "DB_MIGRATE_PASSWORD", "DB_ADMIN_PASSWORD"
    problems += [f"{name} is a development password" for name in others if secret(name) in KNOWN_PASSWORDS]
    if config("DB_EMBEDDED", default=False, cast=bool):
        problems.append("DB_EMBEDDED is on, but the embedded server is for development and tests")
    if problems:
        raise ImproperlyConfigured(
            f"Production settings are incomplete or unsafe: {'; '.join(problems)}. "
            "Set these in the environment or in .env; .env.example says what each is for."
        )


def find_problems(values: Mapping[str, str]) -> list[str]:
    """Return a phrase for each of the required `values` that is missing or unsafe; no phrase holds a secret."""
    problems = [f"{name} is missing" for name, value in values.items() if not value.strip()]
    key, password = values["SECRET_KEY"], values["DB_PASSWORD"]
    if key and (len(key) < SECRET_KEY_LENGTH or len(set(key)) < SECRET_KEY_LETTERS):
        problems.append(f"SECRET_KEY is guessable, it needs {SECRET_KEY_LENGTH} or more random characters")
    if password and password in {*KNOWN_PASSWORDS, values["DB_USER"]}:
        problems.append("DB_PASSWORD is a development password")
    if "*" in (host.strip() for host in values["ALLOWED_HOSTS"].split(",")):
        problems.append("ALLOWED_HOSTS holds '*', which admits every host name")
    return problems
