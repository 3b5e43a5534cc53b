"""Texts of programs without the node's secrets, before they leave the node. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Shorter ones are words that stand everywhere; blotting them out would tell them.
_SHORTEST = 6
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):([^\s/@]+)@")
_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|PRIVATE|(?:^|_)KEY(?:$|_)", re.IGNORECASE)
BLOT = "***"


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of those variables whose names say that they are secrets."""
    return tuple(value for name, value in environment.items() if _SECRET_NAME.search(name))


def blotted(text: str, secrets: Iterable[str]) -> str:
    """``text`` with each of ``secrets``, and every password of a URL, replaced."""
    for secret in sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, BLOT)
    return _URL_PASSWORD.sub(rf"\1:{BLOT}@", text)
