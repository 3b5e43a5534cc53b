"""The short-lived secrets with which machines enrol: who may join, and as what. PURE.

Three kinds, each signed (HMAC-SHA256) over its kind and everything it says, so that none can
be passed off as another:

* *launch*: ``<expiry>.<signature>``, minted by the provisioner for the machines of a launch;
* *base*: ``base.<expiry>.<signature>``, for a machine of a launch plan's levels, which
  becomes a node but never a worker of a pool;
* *pool*: ``pool.<pool>.<uses>.<expiry>.<signature>``, for machines that a person boots: each
  becomes an adopted worker of that pool.

Run and launch id are signed too and travel beside the token. The key is held by the
provisioner and the registrar, and by nobody else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from enum import Enum

from coordinator.errors import EpuError


class TokenRejected(EpuError):
    """The token is not ours, not for this launch, or too old."""


class TokenKind(str, Enum):
    """As what the bearer of a token may join."""

    LAUNCH = "launch"
    BASE = "base"
    POOL = "pool"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a genuine token says. ``pool`` and ``uses`` (machines) only of the kind POOL.

    ``expires_at``: epoch seconds.
    """

    kind: TokenKind
    expires_at: float
    pool: str = ""
    uses: int = 0


def mint(key: bytes, run: str, launch_id: str, expires_at: float) -> str:
    """A token for every machine of one launch, good until ``expires_at`` (epoch seconds).

    The same arguments give the same token, so a launch request can be rebuilt exactly.
    """
    return _signed(key, TokenKind.LAUNCH, run, launch_id, (_whole(expires_at),))


def mint_base(key: bytes, run: str, launch_id: str, expires_at: float) -> str:
    """A token for the machines of one base launch of the boot tool."""
    return _signed(key, TokenKind.BASE, run, launch_id, (_whole(expires_at),))


def mint_pool(key: bytes, run: str, launch_id: str, pool: str, uses: int, expires_at: float) -> str:
    """A token for up to ``uses`` machines that join ``pool``; their ids begin with ``launch_id``.

    ``pool`` must not hold a dot.
    """
    fields = (pool, str(uses), _whole(expires_at))
    return _signed(key, TokenKind.POOL, run, launch_id, fields)


def check(key: bytes, token: str, run: str, launch_id: str, now: float) -> Terms:
    """What ``token`` allows at ``now`` for this launch. Raises TokenRejected."""
    terms = check_signature(key, token, run, launch_id)
    if terms.expires_at < now:
        raise TokenRejected("the enrolment token has expired")
    return terms


def check_signature(key: bytes, token: str, run: str, launch_id: str) -> Terms:
    """What ``token`` allows or once allowed, whatever its age. Raises TokenRejected."""
    kind, fields = _parts(token)
    expected = _signed(key, kind, run, launch_id, fields)
    if not hmac.compare_digest(token.encode(errors="replace"), expected.encode(errors="replace")):
        raise TokenRejected("the enrolment token is not for this launch")
    # Only now: what is signed was written by us.
    pool, uses = (fields[0], int(fields[1])) if kind is TokenKind.POOL else ("", 0)
    return Terms(kind=kind, expires_at=float(fields[-1]), pool=pool, uses=uses)


def _parts(token: str) -> tuple[TokenKind, tuple[str, ...]]:
    """The kind of a token and its fields but the signature, unchecked."""
    words = token.split(".")
    shapes = {TokenKind.POOL.value: 5, TokenKind.BASE.value: 3}
    kind = TokenKind(words[0]) if words[0] in shapes else TokenKind.LAUNCH
    fields = words[:-1] if kind is TokenKind.LAUNCH else words[1:-1]
    if len(words) != shapes.get(words[0], 2):
        raise TokenRejected("the enrolment token is not for this launch")
    return kind, tuple(fields)


def _signed(key: bytes, kind: TokenKind, run: str, launch_id: str, fields: tuple[str, ...]) -> str:
    # JSON: no text inside a field can look like the border between two.
    said = json.dumps([kind.value, run, launch_id, *fields]).encode()
    signature = hmac.new(key, said, hashlib.sha256).hexdigest()
    front = () if kind is TokenKind.LAUNCH else (kind.value,)
    return ".".join((*front, *fields, signature))


def _whole(moment: float) -> str:
    return str(int(moment))
