"""The machines: what is really there, and what a listing shows of it.

A change shows in listings after ``Lag.seconds`` and only when ``Lag.listings`` listings
were made since; with ``backwards`` each listing draws its own lag up to these, so that one
may be older than the one before. Nothing here knows of HTTP.
"""

from __future__ import annotations

import base64
import binascii
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tests.hard_ec2.account import Account
from tests.hard_ec2.machine import (
    PENDING,
    RUNNING,
    SHUTTING_DOWN,
    TERMINATED,
    Machine,
    Moment,
    before,
    element,
    matches,
    state_element,
    timestamp,
)
from tests.hard_ec2.query import ApiError, Query

USER_DATA_LIMIT = 16_384
#: A filter takes so many values, a call so many ids and a page so many machines.
FILTER_VALUES, IDS, PAGE = 200, 1000, 1000


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How far listings are behind. ``blink``: share of live machines that one omits."""

    seconds: float = 0.0
    listings: int = 0
    backwards: bool = False
    blink: float = 0.0


class Boots(Protocol):
    """What really boots for the machines of the world.

    Both are called inside the world's lock and return at once.
    """

    def launch(self, machines: Sequence[Machine]) -> None:
        """The machines of one call, in the order of their launch indexes, are to boot."""

    def end(self, machine: Machine) -> None:
        """The machine is to end. Called once for each."""

    def console(self, machine: Machine) -> str:
        """What the machine said so far."""

    def dead(self) -> Sequence[str]:
        """Ids of machines that ended by themselves, as far as is known now."""


class NoBoots:
    """Machines that exist only here."""

    def launch(self, machines: Sequence[Machine]) -> None: ...

    def end(self, machine: Machine) -> None: ...

    def console(self, machine: Machine) -> str:
        return machine.console

    def dead(self) -> Sequence[str]:
        return ()


@dataclass
class _Launch:
    fingerprint: tuple[tuple[str, str], ...]
    machines: list[Machine]


class World:
    """The machines of one account. Every method may raise ApiError; safe for threads.

    ``boots`` makes real machines of them. ``honours_tokens`` off shows what repeats do
    without idempotency; ``refuses_ended_tokens`` answers a token whose machines are gone with
    IdempotentInstanceTerminated, which EC2's documentation names, too.
    """

    def __init__(self, account: Account, clock: Callable[[], float], seed: int) -> None:
        self.account = account
        self.lag = Lag()
        self.boot_time = 0.0
        self.shutdown_time = 0.0
        self.gone_listed_for = 3600.0
        self.honours_tokens = True
        self.refuses_ended_tokens = False
        self.boots: Boots = NoBoots()
        self.listings = 0
        self.lock = threading.RLock()
        self._clock = clock
        self.chance = random.Random(seed)
        self._machines: dict[str, Machine] = {}
        self._launches: dict[str, _Launch] = {}
        self._pages: dict[str, list[tuple[Machine, tuple[int, str]]]] = {}

    # ---------------------------------------------------------------- for tests

    @property
    def machines(self) -> list[Machine]:
        """What really runs now, oldest first."""
        with self.lock:
            return [machine for machine in self._machines.values() if machine.alive]

    @property
    def history(self) -> list[Machine]:
        """Every machine that ever was, oldest first."""
        with self.lock:
            return list(self._machines.values())

    def vanish(self, cloud_id: str, code: str = "Server.InternalError", why: str = "") -> None:
        """The machine ends by itself: its host failed, or its spot price was exceeded."""
        with self.lock:
            machine = self._machines[cloud_id]
            if machine.alive:
                self._end(machine, (code, f"{code}: {why or 'the machine ended by itself'}"))

    # ---------------------------------------------------------------- RunInstances

    def check_launch(self, query: Query) -> int:
        """How many machines are asked for. Refuses what no repeat would make right."""
        least, most = query.number("MinCount"), query.number("MaxCount")
        if least < 1 or most < least:
            raise ApiError("InvalidParameterValue", "MinCount and MaxCount do not fit")
        if len(query.text("ClientToken")) > 64:
            what = "Length exceeds maximum of 64 ASCII characters for ClientToken"
            raise ApiError("InvalidParameterValue", what)
        _user_data(query)
        return most

    def run_instances(self, query: Query) -> dict[str, object]:
        """All machines of the request or none, once for each ClientToken."""
        count = self.check_launch(query)
        token = query.text("ClientToken")
        with self.lock:
            known = self._launches.get(token) if token and self.honours_tokens else None
            if known is not None:
                return self._repeated(known, query)
            machines = self._create(query, count)
            if token:
                self._launches[token] = _Launch(query.fingerprint(), machines)
            return self._reservation([(machine, PENDING) for machine in machines])

    def _repeated(self, known: _Launch, query: Query) -> dict[str, object]:
        if known.fingerprint != query.fingerprint():
            what = "The parameters do not match those of an earlier request with this token."
            raise ApiError("IdempotentParameterMismatch", what)
        if self.refuses_ended_tokens and not any(one.alive for one in known.machines):
            what = "The instances that were launched with this client token are terminated."
            raise ApiError("IdempotentInstanceTerminated", what)
        now = Moment(self._clock(), self.listings + 1)
        shown = [(one, self._state(one, now) or TERMINATED) for one in known.machines]
        return self._reservation(shown)

    def _create(self, query: Query, count: int) -> list[Machine]:
        account = self.account
        account.check_image(query.text("ImageId"))
        account.check_key(query.text("KeyName"))
        groups = account.groups_of(query)
        subnet, zone = account.place_of(query)
        kind = query.text("InstanceType", "m1.small")
        account.check_type(kind, zone)
        spot = query.text("InstanceMarketOptions.MarketType") == "spot"
        live = [(one.instance_type, one.spot) for one in self._machines.values() if one.alive]
        account.check_room(count, kind, zone, spot, live)
        if query.text("DryRun").lower() == "true":
            what = "Request would have succeeded, but DryRun flag is set."
            raise ApiError("DryRunOperation", what, 412)
        account.take_room(count, kind, zone)
        options = {
            "httpTokens": query.text("MetadataOptions.HttpTokens", "optional"),
            "httpEndpoint": query.text("MetadataOptions.HttpEndpoint", "enabled"),
            "httpPutResponseHopLimit": query.text("MetadataOptions.HttpPutResponseHopLimit", "1"),
        }
        number = len(self._machines)
        reservation, now = f"r-{number + 1:017x}", Moment(self._clock(), self.listings)
        machines = []
        for index in range(count):
            number += 1
            machine = Machine(
                cloud_id=f"i-{number:017x}",
                reservation=reservation,
                token=query.text("ClientToken"),
                index=index,
                created=now,
                instance_type=kind,
                image=query.text("ImageId"),
                zone=zone,
                subnet=subnet,
                spot=spot,
                key=query.text("KeyName"),
                groups=groups,
                metadata_options=options,
                tags=query.tags("instance"),
                user_data=_user_data(query),
                address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
            )
            self._machines[machine.cloud_id] = machine
            machines.append(machine)
        self.boots.launch(machines)
        return machines

    # ---------------------------------------------------------------- DescribeInstances

    def describe_instances(self, query: Query) -> dict[str, object]:
        """One page. A first page counts as a listing; later ones show the same moment."""
        size, asked = query.number("MaxResults", 0), query.texts("InstanceId")
        if size and asked:
            what = "The parameter instancesSet cannot be used with the parameter maxResults"
            raise ApiError("InvalidParameterCombination", what)
        if size and not 5 <= size <= PAGE:
            what = f"Value ( {size} ) for parameter maxResults is invalid. Expecting 5 to {PAGE}."
            raise ApiError("InvalidParameterValue", what)
        with self.lock:
            following = query.text("NextToken")
            if following:
                rest = self._pages.pop(following, None)
                if rest is None:
                    raise ApiError("InvalidNextToken", f"The token '{following}' is invalid")
            else:
                rest = self._listing(asked, query.filters())
            page, rest = (rest[:size], rest[size:]) if size else (rest, [])
            token = None
            if rest:
                token = f"page-{self.listings}-{len(rest)}"
                self._pages[token] = rest
        return {"reservationSet": self._reservations(page), "nextToken": token}

    def _listing(
        self, asked: Sequence[str], filters: dict[str, list[str]]
    ) -> list[tuple[Machine, tuple[int, str]]]:
        if sum(len(values) for values in filters.values()) > FILTER_VALUES:
            what = (
                f"The maximum number of filter values specified on a single call is {FILTER_VALUES}"
            )
            raise ApiError("FilterLimitExceeded", what)
        for cloud_id in self.boots.dead():
            self.vanish(cloud_id, "Client.InstanceInitiatedShutdown")
        self.listings += 1
        moment = self._moment_shown()
        known = self._known(asked, moment) if asked else self._machines.values()
        shown = []
        for machine in known:
            state = self._state(machine, moment)
            if state is None or not all(
                matches(machine, state, name, values) for name, values in filters.items()
            ):
                continue
            if self.lag.blink and machine.alive and self.chance.random() < self.lag.blink:
                continue
            shown.append((machine, state))
        return shown

    def _moment_shown(self) -> Moment:
        seconds, listings = self.lag.seconds, self.lag.listings
        if self.lag.backwards:
            seconds = self.chance.uniform(0, seconds)
            listings = self.chance.randint(0, listings)
        return Moment(self._clock() - seconds, self.listings - listings)

    def _state(self, machine: Machine, moment: Moment) -> tuple[int, str] | None:
        if not before(machine.created, moment):
            return None
        if machine.ended is not None and before(machine.ended, moment):
            since = moment.at - machine.ended.at
            if since < self.shutdown_time:
                return SHUTTING_DOWN
            return TERMINATED if since - self.shutdown_time < self.gone_listed_for else None
        return PENDING if moment.at - machine.created.at < self.boot_time else RUNNING

    def _known(self, ids: Sequence[str], moment: Moment) -> list[Machine]:
        """The machines with these ids, all of which must show. Raises as EC2 does."""
        if len(ids) > IDS:
            raise ApiError("InvalidParameterValue", f"More than {IDS} instance ids")
        for one in ids:
            if not one.startswith("i-") or len(one) not in (10, 19):
                raise ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{one}"')
        found = [self._machines.get(one) for one in ids]
        hidden = [
            one
            for one, machine in zip(ids, found, strict=True)
            if machine is None or self._state(machine, moment) is None
        ]
        if hidden:
            plural = len(hidden) > 1
            what = f"The instance ID{'s' if plural else ''} '{', '.join(hidden)}' do"
            raise ApiError(
                "InvalidInstanceID.NotFound", f"{what}{'' if plural else 'es'} not exist"
            )
        return [machine for machine in found if machine is not None]

    # ---------------------------------------------------------------- the other calls

    def terminate_instances(self, query: Query) -> dict[str, object]:
        """All of the named, or none when one of them does not show."""
        with self.lock:
            moment = replace(self._moment_shown(), listings=self.listings + 1 - self.lag.listings)
            changes = []
            for machine in self._known(query.texts("InstanceId"), moment):
                was = self._state(machine, moment) or TERMINATED
                reason = ("Client.UserInitiatedShutdown", "User initiated shutdown")
                if machine.alive:
                    self._end(machine, reason)
                now = SHUTTING_DOWN if was != TERMINATED else TERMINATED
                changes.append(
                    {
                        "instanceId": machine.cloud_id,
                        "currentState": state_element(now),
                        "previousState": state_element(was),
                    }
                )
        return {"instancesSet": changes}

    def create_tags(self, query: Query) -> dict[str, object]:
        with self.lock:
            moment = Moment(self._clock(), self.listings + 1)
            for machine in self._known(query.texts("ResourceId"), moment):
                machine.tags.update({t.text("Key"): t.text("Value") for t in query.sections("Tag")})
        return {"return": True}

    def console_output(self, query: Query) -> dict[str, object]:
        with self.lock:
            moment = Moment(self._clock(), self.listings + 1)
            [machine] = self._known([query.text("InstanceId")], moment)
        text = self.boots.console(machine)
        said = base64.b64encode(text.encode()).decode() if text else None
        return {
            "instanceId": machine.cloud_id,
            "timestamp": timestamp(self._clock()),
            "output": said,
        }

    # ---------------------------------------------------------------- inside

    def _end(self, machine: Machine, reason: tuple[str, str]) -> None:
        machine.ended, machine.reason = Moment(self._clock(), self.listings), reason
        self.account.take_room(-1, machine.instance_type, machine.zone)
        self.boots.end(machine)

    def _reservations(
        self, shown: Sequence[tuple[Machine, tuple[int, str]]]
    ) -> list[dict[str, object]]:
        grouped: dict[str, list[tuple[Machine, tuple[int, str]]]] = {}
        for machine, state in shown:
            grouped.setdefault(machine.reservation, []).append((machine, state))
        return [self._reservation(members) for members in grouped.values()]

    def _reservation(self, shown: Sequence[tuple[Machine, tuple[int, str]]]) -> dict[str, object]:
        return {
            "reservationId": shown[0][0].reservation,
            "ownerId": "123456789012",
            "groupSet": [],
            "instancesSet": [element(machine, state) for machine, state in shown],
        }


def _user_data(query: Query) -> bytes:
    try:
        data = base64.b64decode(query.text("UserData"), validate=True)
    except binascii.Error:
        what = "Invalid BASE64 encoding of user data."
        raise ApiError("InvalidParameterValue", what) from None
    if len(data) > USER_DATA_LIMIT:
        what = f"User data is limited to {USER_DATA_LIMIT} bytes"
        raise ApiError("InvalidParameterValue", what)
    return data
