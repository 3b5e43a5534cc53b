"""Simulated machines with their agents and workers: they boot, beat, work, drain, and fail.

What an agent says and how it drains is production code (``agent.heartbeat``, ``agent.drain``);
supervisord, the worker and its jobs are simulated.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from agent.busy import SILENT, BusyState
from agent.drain import Duty, next_step
from agent.heartbeat import Facts, Pulse, next_beat
from agent.messages import DrainAnswer, Heartbeat, NodeRole, ProcessState, ReadyReport
from agent.rpc_client import CallTimeout, UnknownService
from agent.wire import to_wire
from coordinator.clouds.in_memory import SimulatedMachine
from coordinator.simulation.event_queue import EventQueue
from coordinator.simulation.jobs import Job, JobQueue

#: An agent asks again after so many seconds.
ASK_AGAIN = 5.0
#: From enrolment to the end of verification, s.
VERIFIES_IN = 2.0
#: The broker notices a lost connection that nobody closed after so many seconds.
CONNECTION_LOST_AFTER = 60.0
_WORKERS = ("worker",)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What becomes of a machine that boots: ``how`` is ok, fails (it says so) or mute."""

    boots_in: float
    how: str = "ok"
    clock_wrong_by: float = 0.0


@dataclass(eq=False)
class SimulatedAgent:
    """One machine as seen from inside. ``surroundings`` is the world it lives in.

    ``undead``: its cloud says that it is gone, and it goes on; ``denied``: that cloud does not
    end it either. ``mute``: the agent hangs, its
    worker goes on. ``cut_off_since``: nothing it sends arrives, its worker's neither.
    ``ill_since``: when something of all that began.
    """

    node_id: str
    pool: str
    machine: SimulatedMachine
    cloud: str
    fate: Fate
    surroundings: Surroundings
    rng: random.Random
    role: NodeRole = field(default_factory=NodeRole)
    undead: bool = False
    denied: bool = False
    dead: bool = False
    ill_since: float | None = None
    mute: bool = False
    cut_off_since: float | None = None
    supervisor_down: bool = False
    side_state: str = "RUNNING"
    worker_state: str = ""
    enrolled: bool = False
    ready: bool = False
    duty: Duty = Duty.WORK
    job: Job | None = None
    unacknowledged: list[Job] = field(default_factory=list)
    pulse: Pulse = field(default_factory=lambda: Pulse(boot_id=""))
    lives: int = 0

    # ---------------------------------------------------------------- being there

    @property
    def alive(self) -> bool:
        """Whether the machine runs, whatever its cloud says."""
        return not self.dead and (self.machine.alive or self.undead)

    @property
    def connected(self) -> bool:
        """Whether what it sends can reach the broker."""
        return self.alive and self.cut_off_since is None and not self.surroundings.broker_away()

    @property
    def has_agent_queue(self) -> bool:
        """Whether the broker (still) has the queue of its agent."""
        since = self.cut_off_since
        now = self.surroundings.queue.now
        lost = since is not None and now - since >= CONNECTION_LOST_AFTER
        return self.alive and self.enrolled and not lost

    def switched_on(self) -> None:
        """The machine was made; its agent speaks when it has booted."""
        self._start_agent()
        self._later(self.fate.boots_in, "boots", self._enrol)

    def restart_agent(self) -> None:
        """The agent's process is killed and started again; worker and duty stay."""
        self._start_agent()
        self._recover()
        if self.enrolled:
            self._later(1.0, "agent again", self._beat_on)

    def fall_ill(self) -> None:
        """Something is wrong with it from now on, whoever knows."""
        self.ill_since = self.ill_since or self.surroundings.queue.now

    def _recover(self) -> None:
        down = self.mute or self.supervisor_down or self.cut_off_since is not None
        if not down and self.worker_state != "FATAL" and self.side_state == "RUNNING":
            self.ill_since = None

    def end(self, noticed_in: float) -> None:
        """The machine is no more; the broker notices in so many seconds."""
        self.fall_ill()
        self.dead, self.undead = True, False
        self.surroundings.queue.after(
            noticed_in, f"{self.node_id} lost", lambda: self.surroundings.connection_lost(self)
        )

    def cut_off(self) -> None:
        """The machine's network is gone."""
        self.fall_ill()
        since = self.cut_off_since = self.surroundings.queue.now
        self._later(
            CONNECTION_LOST_AFTER,
            "connection lost",
            lambda: (
                self.surroundings.connection_lost(self) if self.cut_off_since == since else None
            ),
        )

    def reconnect(self) -> None:
        """The network is back: it says so at once."""
        self.cut_off_since = None
        self._recover()
        queue = self.surroundings.jobs_of(self.pool)
        while self.unacknowledged and queue is not None:
            queue.finish(self.unacknowledged.pop(), self.node_id)
        if self.enrolled:
            self.beat_now()
        self.work()

    # ---------------------------------------------------------------- joining

    def _enrol(self) -> None:
        if self.fate.how == "mute":
            return

        def known(answer: Any) -> None:
            if self.enrolled or not isinstance(answer, dict):
                return
            self.role = self.surroundings.role_of(answer)
            self.surroundings.ask(
                self, "node_enrolled", [self.node_id, ["10.0.0.1"], ""], lambda _: None
            )
            self.enrolled = True
            self._later(0.0, "beats", self._beat_on)
            self._later(VERIFIES_IN, "verified", self._verified)

        self._introduce(known)
        if not self.enrolled:
            self._later(ASK_AGAIN, "enrols", self._enrol)

    def _introduce(self, known: Callable[[Any], None]) -> None:
        """Ask who it is."""
        launch_id, index = self.machine.request.launch_id, self.machine.index
        self.surroundings.ask(self, "node_for_enrolment", [launch_id, index], known)

    def _verified(self) -> None:
        if self.fate.how == "ok":
            if not self.worker_state:
                self.worker_state = "RUNNING"
            self.work()
        self._report()

    def _report(self) -> None:
        """Say that it is ready, or why not, until that is accepted."""
        if self.ready:
            return
        ok = self.fate.how == "ok"
        problem = "" if ok else "simulated: the program does not start"
        report = ReadyReport(node_id=self.node_id, ok=ok, problem=problem)

        def answered(answer: Any) -> None:
            if isinstance(answer, dict) and answer.get("accepted") and not self.ready:
                self.ready = True
                if ok:
                    self.beat_now()

        self.surroundings.ask(self, "node_ready", [report], answered)
        if not self.ready:
            self._later(ASK_AGAIN, "reports", self._report)

    # ---------------------------------------------------------------- beating

    def _start_agent(self) -> None:
        self.lives += 1
        self.mute = False
        self.pulse = Pulse(boot_id=f"{self.node_id}/{self.lives}")

    def _beat_on(self) -> None:
        """One beat, and the next in an interval, for as long as this agent lives."""
        life = self.lives
        self.beat_now()

        def again() -> None:
            if self.lives == life:
                self._beat_on()

        self._later(self.role.heartbeat_interval, "beats", again)

    def beat_now(self) -> None:
        """Publish a beat, if it can."""
        if self.mute or not self.alive:
            return
        beat = self.beat()
        if self.connected:
            self.surroundings.publish(beat)

    def beat(self) -> Heartbeat:
        """Look at everything and make a heartbeat."""
        drained = self._advance()
        facts = Facts(
            now=self.surroundings.queue.now + self.fate.clock_wrong_by,
            ready=self.ready and self.fate.how == "ok",
            draining=self.duty is Duty.DRAIN,
            drained=drained,
            processes=self._processes(),
            busy=BusyState(busy=self.busy) if self.role.busy_file else SILENT,
            figures={"cpu_percent": 95.0 if self.busy else 5.0},
        )
        self.pulse, beat = next_beat(self.pulse, facts, self.node_id, self.pool, ("worker",))
        return beat

    @property
    def busy(self) -> bool:
        """Whether its worker has a job in hand."""
        return self.job is not None and self.alive

    def _processes(self) -> tuple[ProcessState, ...] | None:
        if self.supervisor_down:
            return None
        states = [("side", self.side_state)]
        if self.worker_state:
            states.append(("worker", self.worker_state))
        return tuple(ProcessState(name=name, state=state) for name, state in states)

    # ---------------------------------------------------------------- working, draining

    def work(self) -> None:
        """Take the next job, if the worker may and there is one."""
        if self.job is not None or self.worker_state != "RUNNING" or not self.connected:
            return
        queue = self.surroundings.jobs_of(self.pool)
        job = queue.take(self.node_id) if queue is not None else None
        if queue is None or job is None:
            return
        self.job = job
        self._later(job.seconds, "job done", lambda: self._finished(queue, job))

    def _finished(self, queue: JobQueue, job: Job) -> None:
        if self.job is not job:
            return
        self.job = None
        if self.cut_off_since is not None:
            self.unacknowledged.append(job)  # the connection may yet outlive this
        elif self.connected:
            queue.finish(job, self.node_id)
        else:
            job.done += 1
        if self.worker_state == "STOPPING":
            self.worker_state = "STOPPED"
        self.work()

    def drop_job(self) -> None:
        """The worker loses its job: the broker gives it to another."""
        self.job = None
        queue = self.surroundings.jobs_of(self.pool)
        if queue is not None:
            queue.give_back(self.node_id)

    def fail_worker(self) -> None:
        """The worker program fails for good."""
        self.worker_state = "FATAL"
        self.drop_job()

    def mend(self) -> None:
        """A person makes everything on it run again."""
        self.supervisor_down = False
        self.side_state = "RUNNING"
        if self.worker_state == "FATAL":
            self.worker_state = "RUNNING"
        if self.mute:
            self.restart_agent()
        self._recover()
        self.work()

    def serve(self, method: str, *args: Any) -> Any:
        """Answer a call. Raises UnknownService or CallTimeout."""
        if not self.has_agent_queue:
            raise UnknownService(f"nobody serves agent-{self.node_id}")
        if self.mute or self.cut_off_since is not None:
            raise CallTimeout(f"agent-{self.node_id}.{method}: no answer")
        if method == "beat_now":
            beat = self.beat()
            self.surroundings.publish(beat)
            return to_wire(beat)
        if method == "stop":
            self._stop()
            return None
        if method == "drain":
            self.duty = Duty.DRAIN
        elif self.duty is Duty.DRAIN:
            self.duty = Duty.RETURN
        self._advance()
        drained = self._advance()
        draining = self.duty is Duty.DRAIN
        answer = DrainAnswer(node_id=self.node_id, draining=draining, drained=drained)
        return to_wire(answer)

    def _stop(self) -> None:
        """Let the worker finish, then end everything of ours on the machine."""
        self.duty = Duty.DRAIN
        if self._advance() or not self.worker_state:
            self.end(0.1)
        else:
            self._later(1.0, "stops", self._stop)

    def _advance(self) -> bool:
        """Do what the duty demands; whether the node has drained."""
        duty = self.duty
        step = next_step(duty, _WORKERS, self._processes())
        for _ in step.stop:
            self.worker_state = "STOPPING" if self.job is not None else "STOPPED"
            job, patience = self.job, self.role.drain_timeout
            if job is not None:
                self._later(patience, "worker killed", partial(self._killed, job))
        for _ in step.start:
            self.worker_state = "RUNNING"
        self.duty = step.duty
        if step.start:
            self.work()
        return step.drained and duty is Duty.DRAIN and bool(self.worker_state)

    def _killed(self, job: Job) -> None:
        if self.job is job and self.worker_state == "STOPPING":
            self.worker_state = "STOPPED"
            self.drop_job()

    def _later(self, seconds: float, label: str, action: Callable[[], None]) -> None:
        """``action`` in so many seconds, if the machine still runs then."""
        self.surroundings.queue.after(
            seconds, f"{self.node_id} {label}", lambda: action() if self.alive else None
        )


class Surroundings(Protocol):
    """What an agent can do in its world. The world says how."""

    queue: EventQueue

    def broker_away(self) -> bool:
        """Whether nobody can reach the broker."""
        ...

    def ask(
        self,
        agent: SimulatedAgent,
        method: str,
        args: list[Any],
        then: Callable[[Any], None],
    ) -> None:
        """Ask the provisioner by way of the registrar; ``then`` gets the answer, if one comes."""
        ...

    def role_of(self, known: dict[str, Any]) -> NodeRole:
        """The role in an answer of ``node_for_enrolment``."""
        ...

    def publish(self, beat: Heartbeat) -> None:
        """Send a beat to whoever listens."""
        ...

    def jobs_of(self, pool: str) -> JobQueue | None:
        """The queue that feeds the workers of a pool."""
        ...

    def connection_lost(self, agent: SimulatedAgent) -> None:
        """The broker notices that a machine's connections are gone."""
        ...
