"""The machine as its agent sees it: one object behind the nameko shell.

Knows nothing of nameko or the broker, so it is tested with a real supervisord alone.
"""

from __future__ import annotations

import logging
import platform
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

from agent.blotting import blotted, secret_values
from agent.busy import BusyState
from agent.busy_probe import BusyProbe
from agent.config import AgentConfig
from agent.drain import Drain, Means, Step, workers_running
from agent.enrolment import BROKER_FILE, own_nonce
from agent.heartbeat import Facts, Pulse, looks_different, next_beat
from agent.hooks import Aside, run_hook
from agent.host_probe import HostProbe
from agent.messages import (
    DrainAnswer,
    EnrolAnswer,
    Heartbeat,
    Hook,
    ProcessState,
    ReadyReport,
    StartReport,
)
from agent.node_logs import system_logs, tail_of
from agent.node_sensors import NodeSensors
from agent.private_files import read_json, write_private_json
from agent.process_probe import ProcessProbe, SupervisorRefused, SupervisorUnreachable
from agent.program_launcher import search_path
from agent.program_runs import ProgramRuns
from agent.programs import (
    NodePlace,
    ProgramProblem,
    busy_files,
    node_environment,
    role_names,
    worker_names,
    write_programs,
)
from agent.readiness import PROGRAM_GRACE, Surroundings, Verdict, await_checks, await_programs
from agent.start_log import StartLog
from agent.wire import to_wire

log = logging.getLogger(__name__)

READY_FILE = "ready.json"
#: A node that stops waits so many seconds beyond its drain's time for its workers' end.
_STOP_GRACE = 10.0
#: Lines that ``logs`` gives at most.
MAX_LOG_LINES = 2000


class Node:
    """Programs, readiness, heartbeats and drains of one node."""

    def __init__(
        self,
        config: AgentConfig,
        answer: EnrolAnswer,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        start: StartLog | None = None,
    ) -> None:
        self.answer = answer
        self._start = start or StartLog(clock)
        self.role = answer.role
        self.pulse = Pulse(boot_id=uuid.uuid4().hex)
        self._clock = clock
        self._sleep = sleep
        self._started_at = clock()
        self._nonce = own_nonce(config)
        self._place = NodePlace(
            directory=config.directory, broker_file=config.directory / BROKER_FILE
        )
        self._workers = worker_names(self.role)
        self._names = role_names(self.role)
        self._probe = ProcessProbe(config.supervisor_socket)
        self._host = HostProbe(config.directory)
        self._program_environment = environment = {"PATH": search_path(), **self._environment()}
        variables = [secret_values(one.environment) for one in self.role.programs.values()]
        passwords = [one.password for one in answer.broker.accounts.values()]
        self._secrets = (config.token, self._nonce, *passwords, *chain.from_iterable(variables))
        self._sensors = NodeSensors(self.role.sensors, config.directory, environment)
        self._busy = BusyProbe(
            self.role.busy_source,
            busy_files(self.role, self._place),
            config.directory,
            environment,
            self.role.heartbeat_interval,
            sleep=sleep,
        )
        self._drain = Drain(
            config.directory,
            self._workers,
            self._probe,
            Means(drain=self.role.drain, on_drain=self.role.on_drain),
            Aside(config.directory, environment, sleep),
            is_idle=self._is_idle,
            drain_timeout=self.role.drain_timeout,
        )
        #: Programs that the boot tool has run here.
        self.program_runs = ProgramRuns(config.directory, environment, sleep)
        self._ready_file = config.directory / READY_FILE
        self._programs_added = False
        self._stopping = False
        self._last_beat: Heartbeat | None = None
        #: The coordinator acknowledged our readiness, in this life of the agent or before.
        self.ready = read_json(self._ready_file) is not None

    # -------------------------------------------------------------- bringing up

    def bring_up(self) -> ReadyReport:
        """Start the programs, wait until all of the role passes; the report to send.

        Takes as long as the role's own deadlines allow. A node that was ready before (the
        agent was restarted) is not verified again: its workers may be stopped by a drain.
        """
        self._sensors.start()
        verdict = self._start_programs()
        if verdict.ok and not self.ready:
            around = Surroundings(
                directory=self._place.directory,
                environment=self._program_environment,
                clock=time.monotonic,
                sleep=self._sleep,
                tell=self._start.tell,
            )
            slowest = max((p.start_seconds for p in self.role.programs.values()), default=0)
            timeout = PROGRAM_GRACE + 4 * slowest
            verdict = await_programs(self._names, self.processes, timeout, around)
            if verdict.ok:
                verdict = await_checks(self.role.checks, around)
            if verdict.ok and self.role.on_ready is not None:
                verdict = self._run_on_ready(self.role.on_ready)
        if not verdict.ok:
            verdict = replace(verdict, problem=self._blotted(verdict.problem))
            log.error("not ready: %s: %s", verdict.step, verdict.problem)
            self._start.tell(verdict.step, f"failed: {verdict.problem}")
        else:
            self._start.tell("ready", "verified; not acknowledged yet")
        return ReadyReport(
            node_id=self.answer.node_id,
            nonce=self._nonce,
            ok=verdict.ok,
            outputs=dict(self.role.outputs) if verdict.ok else {},
            step=verdict.step,
            problem=verdict.problem,
            boot_id=self.pulse.boot_id,
        )

    def _run_on_ready(self, hook: Hook) -> Verdict:
        self._start.tell("on_ready", "runs")
        end = run_hook(hook, self._place.directory, self._program_environment, sleep=self._sleep)
        if end.ok:
            self._start.tell("on_ready", "ended well")
            return Verdict(ok=True)
        if hook.default == "continue":
            problem = self._blotted(end.problem)
            self._start.tell("on_ready", f"failed, and the role says to continue: {problem}")
            return Verdict(ok=True)
        return Verdict(ok=False, step="on_ready", problem=end.problem)

    def start_report(self) -> StartReport | None:
        """Where the start of this node is; None when it has not begun."""
        step = self._start.latest
        if step is None:
            return None
        return StartReport(node_id=self.answer.node_id, nonce=self._nonce, step=step)

    def acknowledged(self) -> None:
        """The coordinator accepted that this node is ready; beats repeat it from now on."""
        if self.ready:
            return
        self.ready = True
        try:
            write_private_json(self._ready_file, {"boot_id": self.pulse.boot_id})
        except OSError as problem:  # a restarted agent then verifies the node once more
            log.error("can't store that this node is ready: %s", problem)

    def _start_programs(self, timeout: float = 60.0) -> Verdict:
        """Write the programs' files and let supervisord take them in."""
        try:
            write_programs(self.role, self._place, self._environment())
        except (ProgramProblem, OSError) as problem:
            return Verdict(ok=False, step="programs", problem=str(problem))
        self._start.tell("programs", f"written: {', '.join(self.role.programs) or 'none'}")
        deadline = time.monotonic() + timeout
        while True:
            try:
                changed = self._probe.add_new_programs()
            except SupervisorUnreachable as problem:
                self._start.tell("supervisord", f"does not answer: {problem}")
                # Normal for a moment: supervisord starts its programs before it listens.
                if time.monotonic() > deadline:
                    return Verdict(ok=False, step="programs", problem=str(problem))
                self._sleep(0.2)
            except SupervisorRefused as problem:
                return Verdict(ok=False, step="programs", problem=str(problem))
            else:
                if changed:
                    log.warning("programs that run as they were before: %s", ", ".join(changed))
                self._start.tell("supervisord", "answers, and has taken in the programs")
                self._programs_added = True
                self._advance(self.processes())
                return Verdict(ok=True)

    def _environment(self) -> dict[str, str]:
        answer = self.answer
        return node_environment(self._place, answer.node_id, answer.run, answer.pool)

    # -------------------------------------------------------------- looking

    def processes(self) -> tuple[ProcessState, ...] | None:
        """Process states; None when supervisord does not answer."""
        try:
            return tuple(self._harmless(process) for process in self._probe.states())
        except (SupervisorUnreachable, SupervisorRefused) as problem:
            log.debug("%s", problem)
            return None

    def _harmless(self, process: ProcessState) -> ProcessState:
        if not process.stderr_tail and not process.problem:
            return process
        tail, problem = self._blotted(process.stderr_tail), self._blotted(process.problem)
        return replace(process, stderr_tail=tail, problem=problem)

    def _blotted(self, text: str) -> str:
        return blotted(text, self._secrets)

    def beat(self) -> Heartbeat:
        """Look at everything, move a drain on, make the next heartbeat."""
        processes = self.processes()
        step = self._advance(processes)
        sensed = self._sensors.sight()
        figures = self._host.figures(processes or ())
        self._busy.note_cpu(figures.get("cpu_percent"))
        facts = Facts(
            now=self._clock(),
            ready=self.ready,
            draining=self._drain.draining,
            drained=self._drained(step),
            processes=processes,
            busy=self._look_busy(processes),
            figures={**figures, **sensed.figures},
            figure_ages=sensed.ages,
            sensor_problems=sensed.problems,
        )
        before = self.pulse
        self.pulse, beat = next_beat(
            before, facts, self.answer.node_id, self.answer.pool, self._names
        )
        self._last_beat = beat
        if self.pulse.supervisor_lost and not before.supervisor_lost:
            log.error("the node's supervisord does not answer")
        return beat

    def has_news(self) -> bool:
        """Whether programs are otherwise than the last beat said: worth a beat at once."""
        return looks_different(self._last_beat, self.processes())

    def describe(self) -> dict[str, Any]:
        """All about this node for people, as plain JSON values."""
        processes, sensed = self.processes(), self._sensors.sight()
        busy = self._look_busy(processes)
        return {
            "node_id": self.answer.node_id,
            "run": self.answer.run,
            "pool": self.answer.pool,
            "boot_id": self.pulse.boot_id,
            "sequence": self.pulse.sequence,
            "uptime": self._clock() - self._started_at,
            "ready": self.ready,
            "steps": to_wire(self._start.steps),
            "duty": self._drain.duty.value,
            "busy": busy.busy,
            "busy_for": busy.spell,
            "busy_problem": busy.problem,
            "jobs": busy.jobs,
            "directory": str(self._place.directory),
            "host": platform.node(),
            "python": sys.version.split()[0],
            "supervisor_ok": processes is not None,
            "processes": to_wire(processes or ()),
            "figures": {**self._host.figures(processes or ()), **sensed.figures},
            "figure_ages": dict(sensed.ages),
            "sensor_problems": dict(sensed.problems),
            "outputs": dict(self.role.outputs),
        }

    def logs(self, program: str, lines: int = 100) -> str:
        """The last lines of a program's stdout and stderr, of each of its copies.

        ``cloud-init``, ``supervisord`` and ``console`` are there too, where this node has
        such logs; "" gives everything. Raises ValueError for what this node does not have,
        naming what it has; SupervisorUnreachable.
        """
        count = max(1, min(lines, MAX_LOG_LINES))
        files = system_logs(self._place.directory)
        if program in files:
            return "\n".join(tail_of(program, path, count) for path in files[program])
        names = [process.name for process in self._probe.states()]
        wanted = [name for name in names if program in ("", name, name.partition(":")[0])]
        if program and not wanted:
            there = ", ".join((*names, *files))
            raise ValueError(f"no program '{program}' here; there are: {there}")
        shown = [self._probe.tail(name, count) for name in wanted]
        if not program:
            shown += [tail_of(name, path, count) for name in files for path in files[name]]
        return "\n".join(filter(None, shown))

    def _look_busy(self, processes: tuple[ProcessState, ...] | None) -> BusyState:
        return self._busy.look(workers_running(self._workers, processes))

    def _is_idle(self, since: float) -> bool:
        return self._busy.look(None, since).busy is False

    # -------------------------------------------------------------- draining, stopping

    def drain(self, within: float | None = None) -> DrainAnswer:
        """Drain from now on, within so many seconds (default: the role's ``drain_timeout``);
        asked again, how far it is.
        """
        self._drain.ask(within)
        return self._drain_answer()

    def cancel_drain(self) -> DrainAnswer:
        """Take up work again."""
        self._drain.cancel()
        return self._drain_answer()

    def stop(self) -> None:
        """End all programs, then supervisord, and with it this agent. Returns at once.

        Workers have what is left of a drain's time, or their ``drain_timeout``, to finish the
        job in hand.
        """
        self._drain.ask()
        if not self._stopping:
            self._stopping = True
            threading.Thread(target=self._stop, daemon=True).start()

    def end(self) -> None:
        """As ``stop``, of a node that is not served; returns when its supervisord was told.

        That one has the programs which an earlier life of the agent added.
        """
        self._drain.ask()
        self._programs_added = True
        self._stop()

    def _stop(self) -> None:
        self._sensors.stop()
        self.program_runs.end_all()
        end = time.monotonic() + self._drain.seconds_left + _STOP_GRACE
        while self._programs_added and time.monotonic() < end:
            if self._drained(self._advance(self.processes())):
                break
            self._sleep(0.2)
        try:
            self._probe.shut_down()
        except (SupervisorUnreachable, SupervisorRefused) as problem:
            log.error("can't stop: %s", problem)
        self._stopping = False

    def _drain_answer(self) -> DrainAnswer:
        step = self._advance(self.processes())
        processes = self.processes()  # what a stop that takes no time has done already
        step = self._advance(processes)
        return DrainAnswer(
            node_id=self.answer.node_id,
            draining=self._drain.draining,
            drained=self._drained(step),
            busy=self._look_busy(processes).busy,
            detail=step.detail,
        )

    def _drained(self, step: Step) -> bool:
        return step.drained and self._drain.draining and self._programs_added

    def _advance(self, processes: tuple[ProcessState, ...] | None) -> Step:
        try:
            return self._drain.advance(processes)
        except (SupervisorUnreachable, SupervisorRefused) as problem:
            log.warning("drain: %s", problem)
            return Step(duty=self._drain.duty, detail=str(problem))
