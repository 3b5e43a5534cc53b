"""Errors by code, and what is said of them."""

import pytest

from coordinator.clouds.ec2_errors import (
    Ec2Failure,
    Meaning,
    as_error,
    clock_hint,
    failure_text,
    meaning_of,
)
from coordinator.errors import (
    CredentialsRejected,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("RequestLimitExceeded", 503, RetryLater),
        ("InternalError", 500, RetryLater),
        ("Unavailable", 503, RetryLater),
        ("SomethingNew", 502, RetryLater),
        ("InsufficientInstanceCapacity", 500, InsufficientCapacity),
        ("InstanceLimitExceeded", 400, InsufficientCapacity),
        ("VcpuLimitExceeded", 400, InsufficientCapacity),
        ("MaxSpotInstanceCountExceeded", 400, InsufficientCapacity),
        ("InvalidAMIID.NotFound", 400, LaunchRefused),
        ("InvalidAMIID.Malformed", 400, LaunchRefused),
        ("InvalidParameterValue", 400, LaunchRefused),
        ("InvalidKeyPair.NotFound", 400, LaunchRefused),
        ("AuthFailure", 401, CredentialsRejected),
        ("UnauthorizedOperation", 403, CredentialsRejected),
        ("ExpiredToken", 400, CredentialsRejected),
        ("RequestExpired", 400, CredentialsRejected),
        ("InvalidInstanceID.NotFound", 400, RetryLater),
    ],
)
def test_a_code_tells_what_the_caller_does_next(code, status, kind):
    failure = Ec2Failure(meaning_of(code, status), code, "x")
    assert type(as_error(failure)) is kind


def test_somebody_elses_image_is_no_want_of_credentials():
    message = "Not authorized for images: [ami-1]"
    assert meaning_of("AuthFailure", 403, message) is Meaning.REFUSED


def test_a_broken_service_leaves_it_open_what_was_done():
    assert meaning_of("InternalError", 500) is Meaning.UNCERTAIN
    assert meaning_of("RequestLimitExceeded", 503) is Meaning.THROTTLED


def test_secrets_and_account_data_are_not_repeated():
    said = failure_text(
        "SignatureDoesNotMatch",
        "signed with topsecret\n by AKIA1. Encoded authorization failure message: AbC123",
        ("topsecret", "", "AKIA1"),
    )
    assert said == "SignatureDoesNotMatch: signed with … by …."


def test_a_clock_that_is_off_is_said_with_the_direction():
    assert "3600 s ahead of the cloud's" in clock_hint("RequestExpired", 3600.0)
    assert "3600 s behind the cloud's" in clock_hint("AuthFailure", -3600.0)
    assert not clock_hint("AuthFailure", 1.0), "then it is the key"
    assert "clock" in clock_hint("AuthFailure", None)
    assert "clock" in clock_hint("RequestExpired", 1.0)
    assert not clock_hint("UnauthorizedOperation", 3600.0)
