"""The teardown of a booted run: its record, its coordinator and its clouds put together."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.keepers import KeeperCalls
from agent.rpc_client import CallFailed, RpcClient
from coordinator.errors import EpuError
from mgmt.answers import Call, ask
from mgmt.exit_codes import NoSuchRun
from mgmt.run_clouds import end_machines, list_run, worker_clouds
from mgmt.run_locator import (
    NoCoordinator,
    coordinator_attributes,
    open_run,
    state_dir_of,
    system_of,
)
from mgmt.teardown import Teardown
from mgmt.teardown_record import Listing, Step

if TYPE_CHECKING:
    from bootlevels.api import Run
    from bootlevels.runner import Moment


@dataclass(frozen=True)
class BootedLevels:
    """The levels of a run, as ``teardown.Base``."""

    run: Run
    say: Callable[[str], None]

    def services(self) -> list[str]:
        """Names of what is not ended, lowest level first."""
        from bootlevels.boot_sequence import ENDED_STATES

        return [
            service.spec.name
            for service in self.run.services()
            if service.record.state not in ENDED_STATES
        ]

    def terminate(self, leave_workers: bool) -> None:
        """End all levels, highest first. Raises EpuError; KeyboardInterrupt when interrupted."""
        from bootlevels.runner import Interrupted

        try:
            # Whether workers are gone has been found out before, by better witnesses.
            outcome = self.run.terminate(
                leave_workers=leave_workers, workers_confirmed=True, watch=self._watch
            )
        except Interrupted:
            raise KeyboardInterrupt from None
        if not outcome.ok:
            failed = "; ".join(f"{each.service}: {each.text}" for each in outcome.failures)
            raise EpuError(f"not all services could be ended: {failed}")

    def workers_are_gone(self) -> None:
        """The clouds list none: the run's name may be booted again."""
        self.run.workers_are_gone()

    def _watch(self, moment: Moment) -> None:
        if moment.scope == "service" and moment.phase in ("complete", "error"):
            self.say(f"  {moment.service}: {moment.text}")


@contextmanager
def open_teardown(run_name: str, say: Callable[[str], None]) -> Iterator[Teardown]:
    """A Teardown of the run called ``run_name``, at any stage of its life.

    SIGTERM and SIGHUP interrupt it as Ctrl-C does, so that programs which end services are
    ended and the record is right. Raises NoSuchRun.
    """
    run = open_run(run_name)
    client = _client(run)
    call = KeeperCalls(client.call).call if client is not None else None
    try:
        with _signals_interrupt():
            yield Teardown(
                run=run.name,
                directory=run.directory,
                base=BootedLevels(run, say),
                list_clouds=lambda: clouds_of(run, call),
                end_machines=lambda listing: end_listed(run, listing),
                call=call,
                say=say,
            )
    finally:
        if client is not None:
            client.close()


def clouds_of(run: Run, call: Call | None = None) -> Listing:
    """What the clouds in which the run's coordinator starts workers list of it.

    ``call`` reaches that coordinator, which may be on another machine.
    """
    state_dir = state_dir_of(run)
    if state_dir is None:
        return _of_another_machine(run, call)
    clouds = worker_clouds(state_dir)
    if clouds is None:
        missing = f"{state_dir / 'config.yaml'}, which names them, is gone"
        return Listing(problems={"of the coordinator": missing})
    return list_run(clouds, run.name, state_dir)


def _of_another_machine(run: Run, call: Call | None) -> Listing:
    """Which clouds they are is known there alone: its provisioner's word is needed for them.

    Once the levels are being ended it was given, and it is nobody's any more; until services
    are booted again, for then there may be another provisioner.
    """
    booted = "accounts" in (coordinator_attributes(run) or {})
    if not booted or run.info.terminated_at is not None or _levels_are_ending(run):
        return Listing()
    try:
        if call is not None:
            ask(call, "provisioner", "progress", timeout=5.0)
            return Listing()
        why = "its broker can't be reached"
    except (CallFailed, EpuError) as problem:
        why = str(problem)
    what = f"it is on a machine of its own and does not answer ({why}), so its clouds are not known"
    return Listing(problems={"of the coordinator": what})


def _levels_are_ending(run: Run) -> bool:
    try:
        steps = json.loads((run.directory / "teardown.json").read_text())["steps"]
        began = float(steps[Step.END_LEVELS.value]["began"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    booted = max((one.record.booted_at or 0.0 for one in run.services()), default=0.0)
    return Step.RECEIPT.value not in steps and booted <= began


def end_listed(run: Run, listing: Listing) -> None:
    """Have the clouds end the machines that they listed; a refusal shows in the next listing."""
    state_dir = state_dir_of(run)
    clouds = worker_clouds(state_dir) if state_dir is not None else None
    if state_dir is not None and clouds is not None:
        end_machines(clouds, listing, state_dir)


def _client(run: Run) -> RpcClient | None:
    """A client of the run's coordinator; None when there is nobody to be asked."""
    try:
        return RpcClient(system_of(run).amqp_url())
    except (NoCoordinator, NoSuchRun):
        return None


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
