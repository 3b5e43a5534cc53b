"""Launches on EC2: at most one machine for each index, whatever is lost on the way.

Each call is on record before it is made. A call whose outcome is unknown is repeated, under
its token and with its recorded parameters, until EC2 says what came of it; where the token
can't tell (it is too old, or was used with other parameters), the tags of what exists do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from coordinator.clouds.base import LaunchRequest, MachineState
from coordinator.clouds.ec2_api import Ec2Api
from coordinator.clouds.ec2_calls import Ask, CallState, Exhausted, Resolve, RunCall, next_step
from coordinator.clouds.ec2_errors import Ec2Failure, Meaning, as_error
from coordinator.clouds.ec2_listing import Ec2Instance, as_instance
from coordinator.clouds.ec2_offerings import Market, Offering, Shortages
from coordinator.clouds.ec2_rates import Family
from coordinator.clouds.ec2_record import KnownLaunch, LaunchRecord
from coordinator.clouds.ec2_request import (
    LAUNCH,
    POOL,
    RUN,
    client_token,
    packed_user_data,
    run_parameters,
)
from coordinator.clouds.ec2_settings import Ec2Machine
from coordinator.errors import (
    CredentialsRejected,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)

#: Within so long a launch begins its calls, s.
BUDGET = 60.0
#: EC2 remembers a token for a day after the machine's end; this is as long as we rely on it.
TOKEN_LIFE = 20 * 3600.0
#: A record younger than this may have had a predecessor that was lost, with launches that
#: EC2 still shows or remembers.
YOUNG = 25 * 3600.0


class Launches:
    """Makes launches of one account. Safe for threads.

    ``clock`` is the wall's, epoch s; ``steady`` one that nobody can step, by which
    offerings are skipped.
    """

    def __init__(
        self,
        api: Ec2Api,
        record: LaunchRecord,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._record = record
        self._clock = clock
        self._steady = steady
        self._shortages = Shortages()
        self._lock = threading.Lock()

    def make(self, request: LaunchRequest, machine: Ec2Machine) -> None:
        """What ``CloudDriver.launch`` says."""
        user_data = packed_user_data(request.user_data)
        deadline = time.monotonic() + BUDGET
        with self._record.locked(request.launch_id, deadline):
            one = _OneLaunch(self, self._api, self._record, self._clock, deadline)
            one.make(request, machine, user_data)

    def next_step(
        self, count: int, on_demand: int, calls: Sequence[RunCall], machine: Ec2Machine
    ) -> Ask | Resolve | Exhausted | None:
        """What comes next, as far as EC2 had room lately."""
        return next_step(count, on_demand, calls, machine, self._shortages, self._steady())

    def refused(self, offering: Offering, count: int, reason: str) -> None:
        with self._lock:
            now = self._steady()
            self._shortages = self._shortages.after_refusal(offering, count, reason, now)

    def succeeded(self, offering: Offering, count: int) -> None:
        with self._lock:
            self._shortages = self._shortages.after_success(offering, count)


class _OneLaunch:
    """One pass over one launch, alone with it."""

    def __init__(
        self,
        launches: Launches,
        api: Ec2Api,
        record: LaunchRecord,
        clock: Callable[[], float],
        deadline: float,
    ) -> None:
        self._launches = launches
        self._api = api
        self._record = record
        self._clock = clock
        self._deadline = deadline

    def make(self, request: LaunchRequest, machine: Ec2Machine, user_data: bytes) -> None:
        known = self._known(request, machine)
        if known.run != request.run:
            raise LaunchRefused(f"launch id {request.launch_id} was used by another run")
        if known.done:
            return
        try:
            self._make(request, machine, user_data, known.on_demand)
        except (InsufficientCapacity, CredentialsRejected) as problem:
            # Who hears these asks another cloud, and must not when machines exist.
            states = {call.state for call in self._record.calls(request.launch_id)}
            if states & {CallState.MADE, CallState.ASKED}:
                what = "a part of the launch was made, or may have been"
                raise RetryLater(f"{what}: {problem}") from None
            raise

    def _make(
        self, request: LaunchRequest, machine: Ec2Machine, user_data: bytes, on_demand: int
    ) -> None:
        while True:
            calls = self._record.calls(request.launch_id)
            step = self._launches.next_step(request.count, on_demand, calls, machine)
            if step is None:
                self._record.finish(request.launch_id)
                return
            if isinstance(step, Exhausted):
                raise InsufficientCapacity("; ".join(step.reasons))
            if time.monotonic() > self._deadline:
                raise RetryLater("EC2 has answered slowly; there is more to try")
            if isinstance(step, Resolve):
                self._resolve(request, step.call, user_data)
            else:
                self._ask(request, machine, step, user_data)

    # ---------------------------------------------------------------- at first sight

    def _known(self, request: LaunchRequest, machine: Ec2Machine) -> KnownLaunch:
        known = self._record.launch(request.launch_id)
        if known is not None:
            return known
        now = self._clock()
        found: Sequence[Ec2Instance] = ()
        if now - self._record.began(now) < YOUNG:
            found = self._made_of(request)
        on_demand = self._on_demand(request, machine)
        known = KnownLaunch(run=request.run, on_demand=on_demand, done=False)
        self._record.begin(request.launch_id, known, _calls_of(found, (), now))
        return known

    def _on_demand(self, request: LaunchRequest, machine: Ec2Machine) -> int:
        """How many of the launch are on demand because their pool has too few that are."""
        if not machine.on_demand_base:
            return 0
        filters = [_tag(RUN, request.run), _tag(POOL, request.pool)]
        living = (MachineState.PENDING, MachineState.RUNNING)
        there = sum(
            1
            for one in self._listed(filters)
            if one.market is Market.ON_DEMAND
            and one.instance.state in living
            and (one.instance.run, one.instance.pool) == (request.run, request.pool)
        )
        return min(request.count, max(0, machine.on_demand_base - there))

    # ---------------------------------------------------------------- calls

    def _ask(
        self, request: LaunchRequest, machine: Ec2Machine, step: Ask, user_data: bytes
    ) -> None:
        call = RunCall(
            number=step.number,
            base=step.base,
            count=step.count,
            offering=step.offering,
            state=CallState.ASKED,
            asked_at=self._clock(),
            parameters=run_parameters(request, machine, step.offering, step.base, step.count),
        )
        self._record.write(request.launch_id, call)
        self._send(request, call, user_data, repeated=False)

    def _resolve(self, request: LaunchRequest, call: RunCall, user_data: bytes) -> None:
        if self._clock() - call.asked_at < TOKEN_LIFE:
            self._send(request, call, user_data, repeated=True)
            return
        if not self._adopted(request, call):
            raise LaunchRefused(
                f"what came of call {call.number} of launch {request.launch_id} can't be told "
                "any more: EC2 forgets its token, and shows no machine of it"
            )

    def _send(
        self, request: LaunchRequest, call: RunCall, user_data: bytes, repeated: bool
    ) -> None:
        """Make the call and record what came of it; returns when it is MADE or NOTHING.

        ``repeated``: the call may have been made before, so an error proves less.
        """
        parameters = dict(call.parameters)
        if user_data:
            parameters["UserData"] = user_data
        token = client_token(request.launch_id, call.number)
        try:
            self._api.call(
                Family.RUN, "run_instances", self._deadline, ClientToken=token, **parameters
            )
        except Ec2Failure as failure:
            if failure.meaning is not Meaning.ENDED:
                self._failed(request, call, failure, repeated)
                return
        self._record.write(request.launch_id, replace(call, state=CallState.MADE))
        self._launches.succeeded(call.offering, call.count)

    def _failed(
        self, request: LaunchRequest, call: RunCall, failure: Ec2Failure, repeated: bool
    ) -> None:
        error = as_error(failure)
        definite = failure.meaning in (Meaning.NO_CAPACITY, Meaning.REFUSED)
        mismatch = failure.meaning is Meaning.MISMATCH
        if not definite and not mismatch:
            untouched = failure.meaning is not Meaning.UNCERTAIN
            if untouched and not repeated:
                self._record.write(request.launch_id, replace(call, state=CallState.UNSENT))
            raise error from None
        if repeated or mismatch:
            if self._adopted(request, call):
                return
            if self._clock() - call.asked_at < self._api.account.consistency_window:
                raise RetryLater(f"whether machines were made can't be seen yet: {failure}")
            if mismatch:
                raise LaunchRefused(
                    f"its token was used with other parameters, and nothing is to be seen of it: "
                    f"{failure}"
                )
        self._record.write(request.launch_id, replace(call, state=CallState.NOTHING))
        if failure.meaning is Meaning.REFUSED:
            raise error from None
        self._launches.refused(call.offering, call.count, str(failure))

    # ---------------------------------------------------------------- what exists

    def _adopted(self, request: LaunchRequest, call: RunCall) -> bool:
        """Whether machines of ``call`` exist or did; what exists is on record then."""
        found = self._made_of(request)
        same = [one for one in found if one.base == call.base]
        if not same:
            return False
        made = replace(call, count=same[0].count, state=CallState.MADE)
        known = [*self._record.calls(request.launch_id), made]
        self._record.write(request.launch_id, made, *_calls_of(found, known, self._clock()))
        return True

    def _made_of(self, request: LaunchRequest) -> list[Ec2Instance]:
        """Every machine, ended ones included, tagged with the launch id."""
        listed = self._listed([_tag(LAUNCH, request.launch_id)])
        # EC2 takes * and ? in a filter's value for patterns.
        found = [one for one in listed if one.instance.launch_id == request.launch_id]
        if any(one.instance.run != request.run for one in found):
            raise LaunchRefused(f"launch id {request.launch_id} was used by another run")
        return found

    def _listed(self, filters: Sequence[dict[str, object]]) -> list[Ec2Instance]:
        try:
            listed = [
                as_instance(one, Ec2Machine())
                for one in self._api.instances(filters, self._deadline)
            ]
        except Ec2Failure as failure:
            raise as_error(failure) from None
        return [one for one in listed if one is not None]


def _calls_of(found: Sequence[Ec2Instance], known: Sequence[RunCall], now: float) -> list[RunCall]:
    """Calls that nobody has on record but whose machines exist, under numbers of their own."""
    bases = {call.base for call in known if call.state is CallState.MADE}
    number = max((call.number for call in known), default=0)
    calls: dict[int, RunCall] = {}
    for one in found:
        if one.base in bases or one.base in calls:
            continue
        number += 1
        calls[one.base] = RunCall(
            number=number,
            base=one.base,
            count=one.count,
            offering=Offering(type="", market=one.market),
            state=CallState.MADE,
            asked_at=now,
        )
    return list(calls.values())


def _tag(key: str, *values: str) -> dict[str, object]:
    return {"Name": f"tag:{key}", "Values": list(values)}
