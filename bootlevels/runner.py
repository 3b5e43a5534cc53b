"""Carries out what ``boot_sequence`` says comes next, a level at a time.

Services of a level run in threads, one each; ``service_life`` says what becomes of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from bootlevels.boot_sequence import (
    Finished,
    LevelFailed,
    NextStep,
    ServiceState,
    StartLevel,
    next_boot_step,
    next_termination_step,
)
from bootlevels.inputs import may_be_early
from bootlevels.moments import Failure, Interrupted, Moment, Outcome, Watcher
from bootlevels.plan import ServiceSpec
from bootlevels.service_life import ServiceLife

__all__ = ["Failure", "Interrupted", "Moment", "Outcome", "Runner", "Watcher"]

MAX_THREADS = 64


@dataclass
class Runner:
    """One attempt to boot, repair or end the services of ``life``'s plan."""

    life: ServiceLife

    def boot(self, *, early: bool = False) -> Outcome:
        """Bring every level up; what was verified before is looked at again on the way.

        With ``life.tries`` it is a repair. ``early``: machines of all levels whose launch
        needs nothing of lower levels are asked for at once. Raises Interrupted,
        RecordProblem.
        """
        life = self.life
        self.end_leftovers()
        if early:
            self._request_early()
        outcome = self._levels(
            lambda failed: next_boot_step(
                life.plan, life.record.states(), failed, frozenset(life.well)
            ),
            life.bring_up,
            "repair" if life.tries else "boot",
        )
        if outcome.ok:
            life.record.mark_booted(life.clock())
        states = life.record.states()
        idle = tuple(name for name, s in states.items() if s is ServiceState.REQUESTED)
        repaired = tuple(sorted(life.repaired))
        return Outcome(failures=outcome.failures, repaired=repaired, idle=idle)

    def terminate(self) -> Outcome:
        """Take every level down, highest first. Raises Interrupted and RecordProblem."""
        life = self.life
        self.end_leftovers()
        outcome = self._levels(
            lambda failed: next_termination_step(life.plan, life.record.states(), failed),
            life.bring_down,
            "terminate",
        )
        if outcome.ok:
            life.record.mark_terminated(life.clock())
        return outcome

    def remove(self, names: frozenset[str]) -> Outcome:
        """End the services ``names``, highest level first; the others stay as they are.

        Raises Interrupted and RecordProblem.
        """
        life = self.life
        self.end_leftovers()
        return self._levels(
            lambda failed: next_termination_step(life.plan, life.record.states(), failed, names),
            life.remove,
            "terminate",
        )

    # ---------------------------------------------------------------- levels

    def _levels(
        self,
        next_step: Callable[[frozenset[str]], NextStep],
        work: Callable[[ServiceSpec], None],
        action: str,
    ) -> Outcome:
        # One pool for all levels: threads that have begun cost nothing more.
        with self._threads() as threads:
            return self._through_levels(threads, next_step, work, action)

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that have all ended, whatever happens, when the block is left."""
        threads = ThreadPoolExecutor(MAX_THREADS, "service")
        try:
            yield threads
        finally:
            threads.shutdown(wait=True, cancel_futures=True)

    def _through_levels(
        self,
        threads: ThreadPoolExecutor,
        next_step: Callable[[frozenset[str]], NextStep],
        work: Callable[[ServiceSpec], None],
        action: str,
    ) -> Outcome:
        life = self.life
        while True:
            step = next_step(frozenset(life.failures))
            match step:
                case StartLevel(number, services, description):
                    life.tell_level(number, "starting", action, description)
                    self._together(threads, services, work)
                    if not life.failures.keys() & {service.name for service in services}:
                        life.record.flush()
                        life.tell_level(number, "complete", action)
                case LevelFailed(number, failed):
                    life.tell_level(number, "error", action, f"failed: {', '.join(failed)}")
                    return Outcome(failures=tuple(life.failures.values()))
                case Finished():
                    life.record.flush()
                    return Outcome()

    def _together(
        self,
        threads: ThreadPoolExecutor,
        services: Sequence[ServiceSpec],
        work: Callable[[ServiceSpec], None],
    ) -> None:
        try:
            self._gather([threads.submit(work, service) for service in services])
        except BaseException:
            self.life.stop.set()
            raise
        if self.life.stop.is_set():
            self.life.record.flush()
            raise Interrupted

    def _gather(self, futures: Iterable[Future[None]]) -> None:
        """Wait for all; a first Ctrl-C stops the programs, further ones change nothing."""
        waiting = set(futures)
        broken: BaseException | None = None
        while waiting:
            try:
                done, waiting = wait(waiting, return_when="FIRST_EXCEPTION")
            except KeyboardInterrupt:
                self.life.stop.set()
                continue
            for future in done:
                problem = future.exception()
                if problem is not None and broken is None:
                    # A full disk, or a defect: no sense in going on with the others.
                    broken = problem
                    self.life.stop.set()
        if broken is not None:
            raise broken

    def _request_early(self) -> None:
        """Have machines of the levels above the first launched.

        All intents are on record before the first level starts: at its level's turn no
        service asks for a second machine.
        """
        above = [service for level in self.life.plan.levels[1:] for service in level.services]
        wanted = [service for service in above if may_be_early(service)]
        if wanted:
            with self._threads() as threads:
                self._together(threads, wanted, self.life.request)

    def end_leftovers(self) -> None:
        """End programs of a boot tool that was killed: their work is about to be redone."""
        record = self.life.record
        left = {n: s.running for n, s in record.services().items() if s.running}
        for name, running in left.items():
            if running is not None:
                self.life.steps.end_leftover(name, running)
                record.program_ended(name)
