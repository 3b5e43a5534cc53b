"""What EC2's errors mean for us, by code. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from coordinator.errors import (
    CredentialsRejected,
    EpuError,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)


class Meaning(Enum):
    """What a failed call tells about the world.

    ``THROTTLED`` and ``UNSENT``: nothing was done. ``UNCERTAIN``: it may have been done.
    ``MISMATCH``: the token was used before, with other parameters. ``ENDED``: it was used
    before, and what was made under it is gone.
    """

    THROTTLED = "throttled"
    UNSENT = "not sent"
    UNCERTAIN = "uncertain"
    NO_CAPACITY = "no capacity"
    REFUSED = "refused"
    CREDENTIALS = "credentials"
    MISMATCH = "token mismatch"
    ENDED = "token of ended machines"
    UNKNOWN_INSTANCE = "unknown instance"


class Ec2Failure(Exception):
    """A call that failed; never leaves the driver. ``code`` is EC2's, or the library's."""

    def __init__(self, meaning: Meaning, code: str, text: str) -> None:
        super().__init__(text)
        self.meaning = meaning
        self.code = code


_CODES = {
    Meaning.THROTTLED: (
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "RequestThrottled",
        "EC2ThrottledException",
        "BandwidthLimitExceeded",
        "SlowDown",
    ),
    # Before the status is looked at: some of these come with 500.
    Meaning.NO_CAPACITY: (
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientVolumeCapacity",
        "ReservationCapacityExceeded",
        "InstanceLimitExceeded",
        "VcpuLimitExceeded",
        "VolumeLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        # The type is not made in that zone: others may be.
        "Unsupported",
        # A new account's first launches are looked at by people.
        "PendingVerification",
    ),
    Meaning.CREDENTIALS: (
        "AuthFailure",
        "UnauthorizedOperation",
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "InvalidSecurityToken",
        "MissingAuthenticationToken",
        "UnrecognizedClientException",
        "AccessDenied",
        "AccessDeniedException",
        "OptInRequired",
        "Blocked",
    ),
    Meaning.ENDED: ("IdempotentInstanceTerminated",),
    Meaning.MISMATCH: ("IdempotentParameterMismatch",),
    Meaning.UNKNOWN_INSTANCE: ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"),
    Meaning.UNCERTAIN: (
        "InternalError",
        "InternalFailure",
        "Unavailable",
        "ServiceUnavailable",
        "RequestTimeout",
    ),
}
_MEANINGS = {code: meaning for meaning, codes in _CODES.items() for code in codes}

#: Codes that a wrong clock of ours causes, beside a wrong key.
CLOCK_CODES = frozenset({"RequestExpired", "AuthFailure", "SignatureDoesNotMatch"})
#: Off by so much, s, and EC2 (which allows five minutes) will refuse us before long.
CLOCK_TOLERANCE = 120.0
LONGEST_TEXT = 400


def meaning_of(code: str, status: int, message: str = "") -> Meaning:
    """What an answer with error ``code`` and HTTP ``status`` means."""
    if code == "AuthFailure" and message.startswith("Not authorized for"):
        return Meaning.REFUSED  # somebody else's private image; the credentials are right
    known = _MEANINGS.get(code)
    if known is not None:
        return known
    if status in (429, 503):
        return Meaning.THROTTLED if status == 429 else Meaning.UNCERTAIN
    if status >= 500 or status < 400:
        return Meaning.UNCERTAIN
    return Meaning.REFUSED


def failure_text(code: str, message: str, secrets: Iterable[str]) -> str:
    """EC2's words without what must not be shown, in one line of bounded length."""
    for secret in secrets:
        if secret:
            message = message.replace(secret, "…")
    # Encoded with our account's data, of no use to a reader here.
    message = message.split("Encoded authorization failure message")[0]
    text = " ".join(f"{code}: {message}".split())
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def clock_hint(code: str, skew: float | None) -> str:
    """What to say of the clock beside an error; ``skew``: ours minus the cloud's, s."""
    if code not in CLOCK_CODES:
        return ""
    if skew is not None and abs(skew) < CLOCK_TOLERANCE and code != "RequestExpired":
        return ""
    if skew is None or abs(skew) < CLOCK_TOLERANCE:
        return " (check this machine's clock)"
    way = "ahead of" if skew > 0 else "behind"
    return f" (check this machine's clock: it is {abs(skew):.0f} s {way} the cloud's)"


def as_error(failure: Ec2Failure) -> EpuError:
    """The failure as the caller of a driver gets it."""
    kinds = {
        Meaning.NO_CAPACITY: InsufficientCapacity,
        Meaning.REFUSED: LaunchRefused,
        Meaning.CREDENTIALS: CredentialsRejected,
    }
    return kinds.get(failure.meaning, RetryLater)(str(failure))
