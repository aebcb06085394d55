"""What is secret in a text: user names, passwords and tokens of addresses.

``masked`` is the one function that hides them. harness/cli.py lets both streams pass through it,
and whoever writes a text that may hold an address (a command, a reason, a report) calls it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html import escape
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote

MASK = "***"

ENVIRONMENT = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Where MLflow itself looks for credentials; its user name is no secret."""

SHORTEST = 8
"""Characters of a secret that is hidden wherever it stands; a shorter one may be a part of any
word, and is hidden inside addresses alone.
"""

_SECRET_NAME = (
    r"(?:[\w.-]*[_.-])?(?:token|api_?key|key|secret|password|passwd|pwd|pass|auth|sig|signature"
    r"|credentials?)"
)
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*:/{2,3})(?P<user>[^/\s<>`][^\s<>`]*)@")
"""Up to the last @ of a word: a password may hold / @ ? and quotes, which nobody has encoded."""

_WHOLE = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*:/{2,3})(?P<user>[^/].*)@", re.DOTALL)
"""The same of a text that is an address and nothing else."""

_HOST = re.compile(r"[\w.-]+(?::\d*)?/")
"""What an address begins with that has its @ in a path."""

_ENCODED_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*%3A%2F%2F)(?P<user>[^\s<>`]+?)%40", re.IGNORECASE
)
_QUERY = re.compile(
    rf"(?P<name>(?:[?&;]|%3F|%26){_SECRET_NAME}(?:=|%3D))[^\s&;\"'<>`#]+", re.IGNORECASE
)
_HEADER = re.compile(
    r"(?P<name>authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic)\s+)[^\s'\"]+", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?P<name>\b\w*(?:TOKEN|PASSWORD|PASSWD|SECRET|SECRET_KEY|API_?KEY)=)[^\s&;\"'<>`]+"
)

_known: dict[str, None] = {}


def masked(text: str) -> str:
    """``text`` without what is secret in it: each user name, password and token of an address, and
    every secret that ``remember`` was given or that MLflow's environment variables hold.

    What stands before the @ of an address is hidden as a whole: a token may be the user name.

    >>> masked("postgresql://me:pa/ss@w?rd@host/db and https://TOKEN@host/?token=abc&page=2")
    'postgresql://***@host/db and https://***@host/?token=***&page=2'
    >>> masked("sqlite:////home/me@work/mlflow.db")
    'sqlite:////home/me@work/mlflow.db'
    """
    for secret in _secrets():
        text = text.replace(secret, MASK)
    if "://" in text:
        text = _ADDRESS.sub(rf"\g<scheme>{MASK}@", text)
    if "%" in text:
        text = _ENCODED_ADDRESS.sub(rf"\g<scheme>{MASK}%40", text)
    for pattern in (_QUERY, _HEADER, _ASSIGNED):
        text = pattern.sub(rf"\g<name>{MASK}", text)
    return text


def holds_credentials(text: str) -> bool:
    """Whether an address in a text has credentials in it."""
    return any(p.search(text) for p in (_ADDRESS, _ENCODED_ADDRESS, _QUERY, _HEADER))


def remember(address: str) -> None:
    """From now on hide the credentials of this address wherever they stand, in any spelling."""
    for secret in _parts(address):
        for spelling in _spellings(secret):
            if len(spelling) >= SHORTEST:
                _known[spelling] = None


def without_credentials(address: str) -> str:
    """An address that can be opened and passed on: without user, password and secret parameters.

    >>> without_credentials("https://me:pa/ss@host:5000/ml?token=abc")
    'https://host:5000/ml'
    """
    bare = _WHOLE.sub(r"\g<scheme>", address) if _has_user(address) else address
    found = _QUERY.search(bare)
    return bare if found is None else bare.partition("?")[0]


def encoded(address: str) -> str:
    """The same address as programs read it: what stands before its last @ percent-encoded.

    Of a password with a / in it, a client would take the first half for the host, and print it.

    >>> encoded("http://me:pa/ss@host:5000"), encoded("http://me:pa%2Fss@host:5000")
    ('http://me:pa%2Fss@host:5000', 'http://me:pa%2Fss@host:5000')
    """
    found = _WHOLE.match(address)
    if found is None or not _has_user(address):
        return address
    user, colon, password = found["user"].partition(":")
    both = quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")
    return f"{found['scheme']}{both}@{address[found.end() :]}"


def _has_user(address: str) -> bool:
    """Whether what stands before the last @ is a user, and not a host and a part of a path."""
    found = _WHOLE.match(address)
    return found is not None and _HOST.match(found["user"]) is None


def _parts(address: str) -> Iterator[str]:
    """What of an address is secret: its password, else its user name, and secret parameters."""
    found = _WHOLE.match(address)
    if found is not None:
        yield found["user"]
        user, colon, password = found["user"].partition(":")
        yield password if colon and password else user
    for parameter in _QUERY.finditer(address):
        yield parameter[0][len(parameter["name"]) :]


def _spellings(secret: str) -> list[str]:
    """A secret as files and messages may have it."""
    plain = unquote(secret)
    encodings = [quote(plain, safe=""), quote(plain), quote_plus(plain), escape(plain)]
    quoted = plain.replace("'", "'\"'\"'")
    return [secret, plain, *encodings, quoted, repr(plain)[1:-1]]


def _secrets() -> list[str]:
    """All known secrets, the longest first: one may be a part of another."""
    given = [os.environ.get(name, "") for name in ENVIRONMENT[1:]]
    found = dict.fromkeys(s for s in given for s in _spellings(s) if len(s) >= SHORTEST)
    return sorted({**_known, **found}, key=len, reverse=True)


class MaskedStream:
    """A text stream that hides what is secret in everything that is written to it.

    When its reader has left, as `head` does, what follows goes nowhere and the command goes on:
    its results are in files.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text without its secrets; returns its length, as callers expect."""
        try:
            self._stream.write(masked(text))
        except BrokenPipeError:
            self._to_nowhere()
        return len(text)

    def flush(self) -> None:
        """Let what was written arrive."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._to_nowhere()

    def _to_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def writelines(self, lines: list[str]) -> None:
        """Write each line without its secrets."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
