"""Reading `[data] url`: which engine it names, and the secrets that the environment fills in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote, urlsplit

from opslib.errors import InputError

Engine = Literal["duckdb", "postgres", "spark", "other"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A Spark master that is no URL: local, local[2], local-cluster[2,1,2048].
_SPARK_MASTER = re.compile(r"local(-cluster)?(\[.*\])?$")
_SECRET_OPTION = re.compile(r"(?i)[?&;](password|passwd|pwd|token|secret|access_?key|private_key)=(?!\$\{)[^&;]+")


@dataclass(frozen=True)
class Address:
    """Where tables live.

    Attributes:
        engine: which engine serves it.
        text: as the playbook has it, fit to be shown: it holds no secret.
        url: with the values of the environment, for the driver alone.
        secrets: those values, never to be shown.
    """

    engine: Engine
    text: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def hide(self, message: str) -> str:
        """A driver's message without any secret."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            message = message.replace(secret, "***")
        return message


def read_address(text: str) -> Address:
    """Read a playbook's `[data] url`.

    Args:
        text: a DuckDB file, `duckdb://`, `postgres://`, `spark://`, a Spark master, or another URL that Ibis knows;
            `${NAME}` stands for a variable of the environment.

    Raises:
        InputError: the text holds a password, or a variable is not set.

    >>> read_address("postgres://db.example:5432/shop").engine
    'postgres'
    >>> read_address("local-cluster[2,1,2048]").engine
    'spark'
    """
    if _holds_secret(text):
        raise InputError(
            "[data] url: it holds a password, which all who read the playbook would see. Take it out and set it "
            "in the environment: PGPASSWORD for Postgres, or any name as ${NAME} in the URL."
        )
    secrets = []
    url = text
    for name in dict.fromkeys(_VARIABLE.findall(text)):
        value = os.environ.get(name)
        if value is None:
            raise InputError(f"[data] url: the environment has no variable {name}. Set it before opslib is started.")
        # Reserved characters of a password would end the host or start a query.
        url = url.replace(f"${{{name}}}", quote(value, safe=""))
        secrets += [value, quote(value, safe="")] if value else []
    # Postgres's driver takes it from here by itself.
    secrets += [p for p in (os.environ.get("PGPASSWORD"),) if p]
    return Address(_find_engine(text), text, url, tuple(dict.fromkeys(secrets)))


def _holds_secret(text: str) -> bool:
    if "://" not in text:
        return False
    try:
        password = urlsplit(text).password
    except ValueError:
        password = None
    return bool(password and not _VARIABLE.fullmatch(password)) or bool(_SECRET_OPTION.search(text))


def _find_engine(text: str) -> Engine:
    if _SPARK_MASTER.match(text):
        return "spark"
    scheme, found, _ = text.partition("://")
    if not found or scheme == "duckdb":
        return "duckdb"
    if scheme in ("postgres", "postgresql"):
        return "postgres"
    return "spark" if scheme in ("spark", "pyspark") else "other"
