"""The ``ec2`` cloud: machines of Amazon EC2, or of what speaks its API, through boto3."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coordinator.clouds.base import CloudInstance, LaunchRequest
from coordinator.clouds.ec2_api import Ec2Api
from coordinator.clouds.ec2_checks import Ec2Checks
from coordinator.clouds.ec2_errors import Ec2Failure, Meaning, as_error
from coordinator.clouds.ec2_launch import Launches
from coordinator.clouds.ec2_listing import as_instance
from coordinator.clouds.ec2_rates import Family
from coordinator.clouds.ec2_record import LaunchRecord
from coordinator.clouds.ec2_request import LAUNCH, RUN
from coordinator.clouds.ec2_settings import (
    ACCOUNT_KEYS,
    MACHINE_KEYS,
    Ec2Account,
    Ec2Machine,
    read_account,
    read_machine,
)
from coordinator.errors import ConfigProblem, LaunchRefused, Problem, RetryLater, did_you_mean

#: A listing begins its last page, and a termination its last call, within so long, s.
LIST_BUDGET = 14.0
TERMINATE_BUDGET = 28.0
#: EC2 takes 200 values in all filters of a call together; the run is one.
FILTER_VALUES = 199
#: Machines of one TerminateInstances call; with more, EC2 may time out.
TERMINATE_CHUNK = 200
_CONSOLE_CHARACTERS = 16_384
#: The region in whose name requests are signed for an endpoint that has none.
_ANY_REGION = "us-east-1"
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,32}\Z")
_INSTANCE_IDS = re.compile(r"i-[0-9a-zA-Z]+")


class Ec2Cloud:
    """Machines of one account in one region (see ``ec2_settings`` for the keys).

    Promises: at most one machine for an index of a launch id, for ever, from any process
    that shares ``state_dir``; from others for as long as EC2 remembers client tokens (a day
    after the machine's end) as long as both try the same offerings in the same order. All
    machines of one RunInstances call or none; a launch is one call, except that machines on
    demand and of spot, or the parts of a batch that is split, take one each (their index is
    then ``epu:index-base`` plus AmiLaunchIndex). A machine that shuts itself down is
    terminated. What EC2 throttles is asked for less often; nothing is retried inside.

    Assumes: listings lag by at most ``consistency_window``; ended machines are listed, as
    GONE, while EC2 shows them, about an hour. It lists by the tag ``epu:run`` and ends
    what it is told to end. Credentials are never written or shown. Safe for threads.
    """

    batches = True
    user_data_form = "cloud-init"

    def __init__(
        self, account: Ec2Account, region: str, settings: Mapping[str, str], state_dir: Path
    ) -> None:
        """``settings``: the machines' keys that hold where a request has none."""
        self.account = account
        self.consistency_window = account.consistency_window
        self._settings = dict(settings)
        self._machine = read_machine(settings, os.environ)
        self._api = Ec2Api(account, region)
        self._launches = Launches(self._api, LaunchRecord(state_dir), time.time)

    def __repr__(self) -> str:
        return f"Ec2Cloud({self.account!r})"

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> Ec2Cloud:
        """Keys of Ec2Account and Ec2Machine, as text. Raises ConfigProblem; asks nobody."""
        problems: list[Problem] = []
        machine = {key: value for key, value in settings.items() if key in MACHINE_KEYS}
        account = Ec2Account()
        try:
            account = read_account(settings, os.environ)
        except ConfigProblem as wrong:
            problems += wrong.problems
        try:
            read_machine(machine, os.environ)
        except ConfigProblem as wrong:
            problems += wrong.problems
        region = account.region or _region_around(account)
        if not region and not problems:
            remedy = "write region: us-east-1, or set AWS_REGION"
            problems.append(Problem(key="region", what="is missing", remedy=remedy))
        if problems:
            raise ConfigProblem(problems)
        return cls(account, region, machine, state_dir)

    # ---------------------------------------------------------------- the driver

    def launch(self, request: LaunchRequest) -> None:
        """Start the machines of ``request`` unless its launch id was used before."""
        try:
            machine = self._wanted(request.settings)
        except ConfigProblem as wrong:
            raise LaunchRefused("; ".join(map(str, wrong.problems))) from None
        if not machine.image or not machine.candidates:
            missing = "image" if not machine.image else "type"
            raise LaunchRefused(f"the setting '{missing}' is missing: what is to be launched?")
        self._launches.make(request, machine)

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """Machines tagged with ``run``; one call for each page of a thousand."""
        filters = [{"Name": f"tag:{RUN}", "Values": [run]}]
        deadline = time.monotonic() + LIST_BUDGET
        if launch_ids is None:
            return list(self._listed(run, filters, deadline))
        found: list[CloudInstance] = []
        wanted = set(launch_ids)
        for some in _in_chunks(sorted(wanted), FILTER_VALUES):
            of_launches = {"Name": f"tag:{LAUNCH}", "Values": list(some)}
            found += self._listed(run, [*filters, of_launches], deadline)
        return [one for one in found if one.launch_id in wanted]

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """End these machines. One that is unknown, or must not be ended, stops no other.

        Raises RetryLater when some could not be ended.
        """
        deadline = time.monotonic() + TERMINATE_BUDGET
        known = [cloud_id for cloud_id in cloud_ids if _INSTANCE_ID.match(cloud_id)]
        problems: dict[str, None] = {}
        for some in _in_chunks(list(dict.fromkeys(known)), TERMINATE_CHUNK):
            self._terminate(some, deadline, problems)
        if problems:
            raise RetryLater("; ".join(problems))

    def console_output(self, cloud_id: str) -> str | None:
        """What the machine printed lately; None when EC2 has nothing."""
        if not _INSTANCE_ID.match(cloud_id):
            return None
        deadline = time.monotonic() + LIST_BUDGET
        latest: dict[str, Any] = {"Latest": True}  # not every type can say that
        while True:
            try:
                answer = self._api.call(
                    Family.OTHER, "get_console_output", deadline, InstanceId=cloud_id, **latest
                )
            except Ec2Failure as failure:
                if failure.meaning is Meaning.UNKNOWN_INSTANCE:
                    return None
                if failure.meaning is Meaning.REFUSED and latest:
                    latest = {}
                    continue
                raise _not_refused(failure) from None
            return str(answer.get("Output") or "")[-_CONSOLE_CHARACTERS:] or None

    def check_machine(self, settings: Mapping[str, str]) -> None:
        """Raises ConfigProblem for settings that no machine can have. Asks nobody."""
        self._wanted(settings)

    def problems_of(self, settings: Mapping[str, str]) -> list[str]:
        """What machines with ``settings`` would lack here, each with the command that makes it.

        Launches nothing. Raises what drivers raise.
        """
        try:
            machine = self._wanted(settings)
        except ConfigProblem as wrong:
            return [str(problem) for problem in wrong.problems]
        try:
            return Ec2Checks(self._api, machine).problems()
        except Ec2Failure as failure:
            raise _not_refused(failure) from None

    # ---------------------------------------------------------------- inside

    def _wanted(self, own: Mapping[str, str]) -> Ec2Machine:
        """The cloud's settings with a request's ``own`` over them. Raises ConfigProblem."""
        if not own:
            return self._machine
        unknown = sorted(own.keys() - MACHINE_KEYS)
        if unknown:
            what = "belongs to the cloud" if unknown[0] in ACCOUNT_KEYS else "unknown key"
            remedy = did_you_mean(unknown[0], MACHINE_KEYS)
            raise ConfigProblem([Problem(key=unknown[0], what=what, remedy=remedy)])
        # Two ways to say the same: the nearer one replaces the other.
        one_way, other = {"candidates"}, {"type", "zones", "subnets"}
        dropped = (other if own.keys() & one_way else set()) | (
            one_way if own.keys() & other else set()
        )
        below = {key: value for key, value in self._settings.items() if key not in dropped}
        return read_machine({**below, **own}, os.environ)

    def _listed(
        self, run: str, filters: Sequence[Mapping[str, Any]], deadline: float
    ) -> Iterable[CloudInstance]:
        private = self.account.address == "private"
        try:
            for one in self._api.instances(filters, deadline):
                found = as_instance(one, self._machine, private)
                # EC2 takes * and ? in a filter's value for patterns.
                if found is not None and found.instance.run == run:
                    yield found.instance
        except Ec2Failure as failure:
            raise _not_refused(failure) from None

    def _terminate(
        self, cloud_ids: Sequence[str], deadline: float, problems: dict[str, None]
    ) -> None:
        if not cloud_ids:
            return
        try:
            self._api.call(
                Family.TERMINATE, "terminate_instances", deadline, InstanceIds=list(cloud_ids)
            )
        except Ec2Failure as failure:
            if failure.meaning not in (Meaning.UNKNOWN_INSTANCE, Meaning.REFUSED):
                raise as_error(failure) from None
            named = set(_INSTANCE_IDS.findall(str(failure))) & set(cloud_ids)
            if failure.meaning is Meaning.UNKNOWN_INSTANCE and named:
                # Gone, or not visible yet: then it is listed later and ended then.
                rest = [cloud_id for cloud_id in cloud_ids if cloud_id not in named]
                self._terminate(rest, deadline, problems)
            elif len(cloud_ids) > 1:
                half = len(cloud_ids) // 2
                self._terminate(cloud_ids[:half], deadline, problems)
                self._terminate(cloud_ids[half:], deadline, problems)
            elif failure.meaning is Meaning.REFUSED:
                problems[f"{cloud_ids[0]} can't be ended: {failure}"] = None


def _region_around(account: Ec2Account) -> str:
    """The region that holds when the settings name none."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if os.environ.get(name):
            return os.environ[name]
    if account.endpoint:
        return _ANY_REGION
    import botocore.session

    try:
        session = botocore.session.Session(profile=account.profile or None)
        return str(session.get_config_variable("region") or "")
    except botocore.exceptions.BotoCoreError as problem:  # no such profile, a broken file
        raise ConfigProblem([Problem(key="profile", what=str(problem))]) from None


def _not_refused(failure: Ec2Failure) -> Exception:
    """The failure of a call that launches nothing: nothing of it is for ever."""
    error = as_error(failure)
    return RetryLater(str(error)) if isinstance(error, LaunchRefused) else error


def _in_chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
