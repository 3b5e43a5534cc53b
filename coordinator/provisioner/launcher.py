"""One launch call: the request, the call, and what its outcome means for the records.

The request of a launch is built anew from the store for every repeat and is the same each
time (token expiry, attempt and variables are stored), because clouds refuse a known token
with other parameters. What else goes into it, templates and the clouds' settings, may change
between two calls, with an upgrade or a new configuration: the digest of the first call's
user-data is stored too, and tells.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from coordinator.clouds.base import CloudDriver, LaunchRequest
from coordinator.enrolment_token import mint
from coordinator.errors import (
    CredentialsRejected,
    EpuError,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)
from coordinator.provisioner.commands import Launch
from coordinator.provisioner.lifecycle import (
    LAUNCH_FAILED,
    LAUNCHING,
    REQUESTED,
    TERMINATING,
    Change,
    Record,
    move,
    note,
)
from coordinator.provisioner.steps import LONGEST_BACK_OFF, back_off

log = logging.getLogger(__name__)

#: A token outlives the deadlines of its launch by this much, s.
TOKEN_SLACK = 600.0
#: First repeat after an answer that may change soon, s.
RETRY_FIRST = 1.0
#: First repeat after a call that succeeded, while nothing is listed, s (at least).
UNSEEN_FIRST = 5.0

Render = Callable[[str, str, Mapping[str, Any]], str]


class CannotRepeat(EpuError):
    """A launch whose first call may have succeeded can't be asked for in the same words."""


class Outcome(str, Enum):
    """How a launch call ended, by what to do next."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    NO_CAPACITY = "no capacity"
    REFUSED = "refused"
    CREDENTIALS = "credentials rejected"


@dataclass(frozen=True)
class Answer:
    """The outcome of a call with the cloud's own words."""

    outcome: Outcome
    reason: str = ""


class Launcher:
    """Builds launch requests and makes the calls. Knows nothing of the store.

    ``enrol_access``: wire form of the BrokerAccess whose only account is ``enrol``; with the
    short-lived token it is all that user-data holds. ``render``: see
    ``userdata_templates.render``. ``agents``: cloud → variables that say how its machines
    come by their agent, ``broker_host`` among them; a pool's own go before them.
    """

    def __init__(
        self,
        run: str,
        token_key: bytes,
        enrol_access: Mapping[str, Any],
        render: Render,
        agents: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self._run = run
        self._key = token_key
        self._access = dict(enrol_access)
        self._render = render
        self._agents = agents

    def request(self, launch: Launch, form: str) -> LaunchRequest:
        """The request of ``launch`` for a cloud that wants user-data in ``form``.

        Raises LaunchRefused naming what is missing.
        """
        if launch.token_expires_at is None:
            raise ValueError(f"launch {launch.launch_id} was not prepared")
        token = mint(self._key, self._run, launch.launch_id, launch.token_expires_at)
        chosen = {**self._agents.get(launch.cloud, {}), **launch.variables}
        broker = self._access
        if host := chosen.get("broker_host"):
            broker = {**broker, "host": host}
        variables: dict[str, Any] = {
            **chosen,
            "run": self._run,
            "pool": launch.pool,
            "launch_id": launch.launch_id,
            "token": token,
            "broker": broker,
            "variables": dict(launch.variables),
        }
        if launch.count == 1:  # not every cloud tells its machines which one they are
            variables["launch_index"] = 0
        try:
            user_data = self._render(launch.template, form, variables)
        except ValueError as problem:  # unknown template, missing variable
            raise LaunchRefused(str(problem)) from problem
        return LaunchRequest(
            launch_id=launch.launch_id,
            run=self._run,
            pool=launch.pool,
            count=launch.count,
            user_data=user_data,
            attempt=launch.attempt,
            settings=dict(launch.settings),
        )

    def repeatable(
        self, launch: Launch, records: Sequence[Record], form: str, now: float
    ) -> tuple[Launch, LaunchRequest]:
        """``launch`` as it is to be called at ``now``, and its request: as it was before, if
        it was made before.

        Raises CannotRepeat when it would be another, and LaunchRefused as ``request``.
        """
        launch = prepared(launch, records, now)
        request = self.request(launch, form)
        digest = hashlib.sha256(request.user_data.encode()).hexdigest()
        if launch.user_data_digest not in ("", digest):
            if not nothing_was_made(records):
                raise CannotRepeat(
                    "templates or settings changed since its first call, which may have "
                    "made a machine: waiting for that one"
                )
            launch = next_attempt(launch, records, now)
            request = self.request(launch, form)
            digest = hashlib.sha256(request.user_data.encode()).hexdigest()
        return replace(launch, user_data_digest=digest), request


def call_launch(driver: CloudDriver, request: LaunchRequest) -> Answer:
    """Make the call; every way in which it can end is an Answer."""
    try:
        driver.launch(request)
    except InsufficientCapacity as problem:
        return Answer(Outcome.NO_CAPACITY, str(problem))
    except LaunchRefused as problem:
        return Answer(Outcome.REFUSED, str(problem))
    except CredentialsRejected as problem:
        return Answer(Outcome.CREDENTIALS, str(problem))
    except RetryLater as problem:
        return Answer(Outcome.RETRY, str(problem))
    except Exception as problem:
        # A defect of the driver: nobody knows what happened, which is what RETRY means.
        log.exception("launch of %s: the driver failed", request.launch_id)
        return Answer(Outcome.RETRY, f"the driver failed: {type(problem).__name__}")
    return Answer(Outcome.ACCEPTED)


def prepared(launch: Launch, records: Sequence[Record], now: float) -> Launch:
    """``launch`` as it is to be called at ``now``.

    A new attempt, with a new token, begins only when the last answer proved that nothing
    was made and the old token would not outlive the boot.
    """
    if launch.token_expires_at is None:
        return replace(launch, token_expires_at=_expiry(records, now), called_at=now)
    boot = max((record.boot_timeout for record in records), default=0.0)
    if nothing_was_made(records) and launch.token_expires_at < now + boot:
        return next_attempt(launch, records, now)
    return replace(launch, called_at=now)


def next_attempt(launch: Launch, records: Sequence[Record], now: float) -> Launch:
    """The same launch with another token of ours and of the cloud's."""
    return replace(
        launch,
        attempt=launch.attempt + 1,
        token_expires_at=_expiry(records, now),
        user_data_digest="",
        called_at=now,
    )


def nothing_was_made(records: Sequence[Record]) -> bool:
    """Whether the last answer proved that no machine of this launch was made."""
    return bool(records) and all(
        record.state is LAUNCHING and record.retryable for record in records
    )


def _expiry(records: Sequence[Record], now: float) -> float:
    longest = max((r.launch_timeout + r.boot_timeout for r in records), default=600.0)
    return float(int(now + longest + TOKEN_SLACK))


def before_call(records: Sequence[Record], now: float, window: float) -> list[Change]:
    """What to store before the call: if we die in it, the same call is repeated later."""
    changes: list[Change] = []
    for record in records:
        # From here on nobody knows whether something was made, until the cloud answers.
        again: dict[str, Any] = {"attempts": record.attempts + 1, "retryable": False}
        again["next_attempt_at"] = now + _patience(record.attempts, window)
        if record.state is REQUESTED:
            changes.append(move(record, LAUNCHING, now, "asking the cloud", **again))
        elif change := note(record, **again):
            changes.append(change)
    return changes


def after_call(
    records: Sequence[Record],
    answer: Answer,
    now: float,
    window: float,
    hold: float,
    nothing_before: Collection[str],
) -> list[Change]:
    """What the answer of a launch call means for the records that are still LAUNCHING.

    ``nothing_before``: nodes of which it was known, before the call, that nothing was made;
    rejected credentials prove nothing of an earlier call whose reply was lost. ``hold``: for
    how long, s, a cloud is left alone that rejects our credentials; that time does not count
    against ``launch_timeout``.
    """
    changes: list[Change | None] = []
    for record in (record for record in records if record.state is LAUNCHING):
        made = max(record.attempts - 1, 0)
        soon = now + back_off(made, RETRY_FIRST)
        if answer.outcome is Outcome.REFUSED:
            changes.append(move(record, LAUNCH_FAILED, now, answer.reason))
        elif answer.outcome is Outcome.CREDENTIALS:
            deadline = now + hold + record.launch_timeout
            changes.append(
                note(
                    record,
                    next_attempt_at=now + hold,
                    launch_deadline=deadline,
                    reason=f"credentials rejected: {answer.reason}",
                    retryable=record.node_id in nothing_before,
                )
            )
        elif answer.outcome is Outcome.NO_CAPACITY:
            reason = f"no capacity: {answer.reason}"
            changes.append(note(record, next_attempt_at=soon, reason=reason, retryable=True))
        elif answer.outcome is Outcome.RETRY:
            reason = f"to be repeated: {answer.reason}"
            changes.append(note(record, next_attempt_at=soon, reason=reason, retryable=False))
        else:
            later = now + _patience(made, window)
            changes.append(
                note(record, next_attempt_at=later, reason="the cloud accepted", retryable=False)
            )
    return [change for change in changes if change is not None]


def not_callable(records: Sequence[Record], reason: str, now: float) -> list[Change]:
    """The request can't even be built: no machine, unless an earlier call made one."""
    return [
        move(record, LAUNCH_FAILED if record.state is REQUESTED else TERMINATING, now, reason)
        for record in records
        if record.state in (REQUESTED, LAUNCHING)
    ]


def put_off(records: Sequence[Record], reason: str, now: float) -> list[Change]:
    """No call now: what an earlier one made will be listed, or ``launch_timeout`` passes."""
    return [
        change
        for record in records
        if (change := note(record, next_attempt_at=now + LONGEST_BACK_OFF, reason=reason))
    ]


def _patience(attempts: int, window: float) -> float:
    return back_off(attempts, max(UNSEEN_FIRST, window))
