"""Secrets that stand in a plan in clear: kept apart from the run's record, in a file of their own.

The record holds a reference where the secret stood; ``secrets.json`` (0600, beside it) says
what each stands for, and is removed when the run has ended. A reference is a slow, salted
hash: when the file is gone, the same plan makes the same references, so a boot with the
plan's file at hand stores them again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECRETS_NAME = "secrets.json"
_REFERENCE = re.compile(r"\0secret:([0-9a-f]{16})\.[0-9a-f]{32}\0")
#: Texts shorter than this are replaced only where they are the whole value.
_SHORT = 4


def forget_secrets(directory: Path) -> None:
    """Remove the file with the secrets of the run in ``directory``."""
    (directory / SECRETS_NAME).unlink(missing_ok=True)


@dataclass
class RunSecrets:
    """The secrets of the run in ``directory``, by reference."""

    directory: Path
    _known: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, directory: Path) -> RunSecrets:
        """What is stored there. An unreadable file is as none."""
        try:
            found = json.loads((directory / SECRETS_NAME).read_text())
        except (OSError, ValueError):
            found = {}
        known = found if isinstance(found, dict) else {}
        return cls(directory, {str(key): str(value) for key, value in known.items()})

    def salted_as(self, text: str, values: Iterable[str]) -> RunSecrets:
        """These, and ``values`` as a record in which ``text`` stands refers to them.

        Nothing is stored: it is for comparing.
        """
        found = _REFERENCE.search(text)
        more = {_reference(value, found[1]): value for value in set(values)} if found else {}
        return RunSecrets(self.directory, self._known | more)

    def keep(self, values: Iterable[str], salted_by: str = "") -> None:
        """Store ``values`` beside those that are known. Raises OSError.

        ``salted_by`` is a text with references whose salt is to be used again.
        """
        fresh = set(values) - set(self._known.values())
        if fresh:
            found = _REFERENCE.search("".join(self._known) or salted_by)
            salt = found[1] if found else secrets.token_hex(8)
            self._known |= {_reference(value, salt): value for value in fresh}
            self._write()

    def keep_only(self, values: Iterable[str]) -> None:
        """Forget all but ``values``. Raises OSError."""
        wanted = set(values)
        left = {key: value for key, value in self._known.items() if value in wanted}
        if left != self._known:
            self._known = left
            self._write()
        if not left:
            forget_secrets(self.directory)

    def _write(self) -> None:
        unfinished = self.directory / f".{SECRETS_NAME}"
        unfinished.unlink(missing_ok=True)  # of a crash, perhaps with another mode
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(self._known, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.directory / SECRETS_NAME)

    def sealed(self, value: Any) -> Any:
        """``value`` (plain JSON values) with references in place of the secrets in its texts."""
        for reference, secret in sorted(self._known.items(), key=lambda item: -len(item[1])):
            value = _replaced(value, secret, reference)
        return value

    def unsealed(self, value: Any) -> Any:
        """What ``sealed`` was given; references that are not known stay."""
        for reference, secret in self._known.items():
            value = _replaced(value, reference, secret)
        return value


def has_references(text: str) -> bool:
    """Whether ``text`` holds a reference whose secret is not at hand."""
    return "\0secret:" in text


def _reference(value: str, salt: str) -> str:
    digest = hashlib.scrypt(value.encode(), salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1, dklen=16)
    return f"\0secret:{salt}.{digest.hex()}\0"


def _replaced(value: Any, text: str, by: str) -> Any:
    if isinstance(value, str):
        return by if value == text else value.replace(text, by) if len(text) >= _SHORT else value
    if isinstance(value, dict):
        return {key: _replaced(inner, text, by) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, text, by) for inner in value]
    return value
