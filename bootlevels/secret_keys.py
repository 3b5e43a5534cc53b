"""Which names of values say that the value is a secret. PURE."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"(?:^|[_.-])(?:password|passwd|pwd|pw|passphrase|secret|token|private_key)(?:$|[_.-])"
    r"|(?:secret|password)$",
    re.IGNORECASE,
)


def is_secret_key(key: str) -> bool:
    """Whether a value called ``key`` is one that others should not see."""
    return _SECRET.search(key) is not None
