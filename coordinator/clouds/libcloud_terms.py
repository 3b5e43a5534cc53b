"""Names, settings and errors between us and apache-libcloud's providers. PURE."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.errors import (
    CredentialsRejected,
    EpuError,
    InsufficientCapacity,
    LaunchRefused,
    NotFound,
    RetryLater,
)

#: For how long a listing may not show a change, s, where nobody said better. Clouds promise
#: nothing here; too long only means that strays and lost replies are settled later.
CONSISTENCY_WINDOW = 60.0

#: What ``create_node`` calls the user-data, by provider.
USER_DATA_WORDS = ("ex_userdata", "ex_user_data", "ex_customdata")

RUN, POOL, LAUNCH, INDEX = "epu:run", "epu:pool", "epu:launch", "epu:index"

_NAME = re.compile(r"epu-([0-9a-f]{10})-([a-z0-9-]{1,45})-([0-9]{1,4})\Z")
_LAUNCH_IN_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,43}[a-z0-9])?\Z")

#: Words of messages and codes, lower case, by what they mean.
_CREDENTIALS = (
    "authfailure", "unauthorizedoperation", "expiredtoken", "requestexpired", "invalidclienttoken",
    "signaturedoesnotmatch", "invalid credentials", "unauthorized", "accessdenied",
)  # fmt: skip
_PASSING = (
    "requestlimitexceeded", "throttl", "rate limit", "too many requests", "internalerror",
    "internal error", "unavailable", "timed out", "timeout",
)  # fmt: skip
_NO_ROOM = (
    "insufficientinstancecapacity", "insufficient capacity", "limitexceeded", "limit exceeded",
    "countexceeded", "quota", "no valid host", "out of capacity", "resource_exhausted",
)  # fmt: skip
#: Classes by which libcloud says that a request is wrong, without a status.
_REFUSING = frozenset({"KeyPairDoesNotExistError", "IdempotentParamError", "NotImplementedError"})
#: Time-out, conflict, too early, too many: the same request may do later.
_PASSING_STATUS = frozenset({408, 409, 425, 429})
_NO_SUCH_NODE = ("invalidinstanceid", "instance could not be found", "not found", "notfound")


@dataclass(frozen=True, kw_only=True)
class LibcloudSettings:
    """Which provider, where, and as whom.

    ``provider``: its name in libcloud, such as ``openstack`` or ``digital_ocean``.
    ``access_key`` and ``secret_key`` are its constructor's first arguments, ``arguments`` a
    JSON object with further ones (``{"ex_tenant_name": "…"}``). ``endpoint``: a URL.
    ``image``, ``type``, ``location``, ``key_name``, ``security_groups`` (separated by
    commas) and ``options`` (a JSON object of ``create_node``'s own arguments) hold for
    every machine unless a pool says otherwise. ``consistency_window``, ``timeout``: s.
    """

    provider: str
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    region: str = ""
    endpoint: str = ""
    arguments: str = field(default="", repr=False)
    image: str = ""
    type: str = ""
    location: str = ""
    key_name: str = ""
    security_groups: str = ""
    options: str = ""
    consistency_window: float = CONSISTENCY_WINDOW
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if not self.provider:
            raise ValueError("provider must not be empty")
        for name in ("consistency_window", "timeout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.endpoint and not re.match(r"https?://[^/\s:]+(:[0-9]+)?(/\S*)?\Z", self.endpoint):
            raise ValueError("endpoint must be a URL: https://…")
        for name in ("arguments", "options"):
            json_object(getattr(self, name), name)


#: Keys that a pool or service may lay over the cloud's own.
MACHINE_KEYS = frozenset({"image", "type", "location", "key_name", "security_groups", "options"})


def json_object(text: str, name: str) -> dict[str, Any]:
    """The object that ``text`` holds; empty text is an empty one. Raises ValueError."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be a JSON object")
    return found


# ------------------------------------------------------------------ names


@dataclass(frozen=True, kw_only=True)
class AskedMachine:
    """One machine that we asked for, or found and took for ours.

    ``name`` is its name in the cloud. ``asked_at``: epoch s. ``cloud_id`` is empty until
    the cloud said it. ``ended``: we asked for its end. ``price`` of an hour.
    """

    name: str
    run: str
    pool: str
    launch_id: str
    number: int
    asked_at: float
    cloud_id: str = ""
    ended: bool = False
    price: float | None = None


@dataclass(frozen=True)
class NamedMachine:
    """What a machine's name in the cloud says of it. ``launch`` may be a digest."""

    run_digest: str
    launch: str
    number: int


def run_digest(run: str) -> str:
    """Stands for ``run`` in names: some clouds take only short ones of few letters."""
    return hashlib.sha256(run.encode()).hexdigest()[:10]


def machine_name(run: str, launch_id: str, index: int) -> str:
    """The name in the cloud, at most 63 of ``a-z0-9-``; the same however often it is made."""
    launch = launch_id
    if not _LAUNCH_IN_NAME.match(launch_id):
        launch = hashlib.sha256(launch_id.encode()).hexdigest()[:32]
    return f"epu-{run_digest(run)}-{launch}-{index}"


def read_name(texts: Iterable[object]) -> tuple[str, NamedMachine] | None:
    """The first of ``texts`` that is a name of ours; None when none is."""
    for text in texts:
        found = _NAME.match(text) if isinstance(text, str) else None
        if found:
            return found[0], NamedMachine(found[1], found[2], int(found[3]))
    return None


def tags(run: str, pool: str, launch_id: str, index: int) -> dict[str, str]:
    """What a machine carries where the cloud has tags."""
    return {RUN: run, POOL: pool, LAUNCH: launch_id, INDEX: str(index)}


def tags_of(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tags in what a provider calls the extra of a node."""
    for name in ("tags", "metadata"):
        found = extra.get(name)
        if isinstance(found, Mapping) and RUN in found:
            return found
    return {}


# ------------------------------------------------------------------ errors


def failure(kind: str, status: int | None, text: str, launching: bool) -> EpuError:
    """What an error of libcloud means: its class' name, HTTP status if known, and text.

    ``launching``: only a launch can be refused for good. An error that does not prove that
    the request was turned down is RetryLater: something may have been done.
    """
    word = text.lower()
    said = text if kind in ("Exception", "BaseHTTPError") else f"{kind}: {text}"
    if kind == "RateLimitReachedError" or status in _PASSING_STATUS or _has(word, _PASSING):
        return RetryLater(said)
    if _has(word, _NO_ROOM):
        return InsufficientCapacity(said) if launching else RetryLater(said)
    # After the quotas, which some clouds answer with 403, too.
    if kind == "InvalidCredsError" or status in (401, 403) or _has(word, _CREDENTIALS):
        return CredentialsRejected(said)
    turned_down = kind in _REFUSING or (status is not None and 400 <= status < 500)
    if launching:
        return LaunchRefused(said) if turned_down else RetryLater(said)
    return NotFound(said) if turned_down and _has(word, _NO_SUCH_NODE) else RetryLater(said)


def _has(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)
