"""The short-lived secret in user-data: proves which launch a new machine belongs to. PURE.

``<expiry>.<hex HMAC-SHA256>`` over run, launch id and expiry. The provisioner mints it,
the registrar checks it; both hold the key, nobody else does.
"""

from __future__ import annotations

import hashlib
import hmac

from coordinator.errors import EpuError


class TokenRejected(EpuError):
    """The token is not ours, not for this launch, or too old."""


def mint(key: bytes, run: str, launch_id: str, expires_at: float) -> str:
    """A token for every machine of one launch, good until ``expires_at`` (epoch seconds).

    The same arguments give the same token, so a launch request can be rebuilt exactly.
    """
    expiry = str(int(expires_at))
    return f"{expiry}.{_signature(key, run, launch_id, expiry)}"


def check(key: bytes, token: str, run: str, launch_id: str, now: float) -> None:
    """Return if ``token`` is good for this launch at ``now``, else raise TokenRejected."""
    check_signature(key, token, run, launch_id)
    expiry = token.partition(".")[0]
    if not expiry.isdigit() or int(expiry) < now:
        raise TokenRejected("the enrolment token has expired")


def check_signature(key: bytes, token: str, run: str, launch_id: str) -> None:
    """Return if ``token`` ever was good for this launch, else raise TokenRejected."""
    expiry, _, signature = token.partition(".")
    expected = _signature(key, run, launch_id, expiry)
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        raise TokenRejected("the enrolment token is not for this launch")


def _signature(key: bytes, run: str, launch_id: str, expiry: str) -> str:
    text = "\x1f".join((run, launch_id, expiry)).encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest()
