"""The agent of one node: ``epu-agent``, a nameko service named ``agent-<node id>``.

A thin shell around ``agent.node``: it enrols, serves the RPC methods below, sends
heartbeats, and reports readiness until that is acknowledged. Lives as long as its machine:
brokers and coordinators come and go, it waits for them without limit.
"""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

import argparse
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import eventlet

from agent import bus
from agent.broker_tls import nameko_address
from agent.config import AgentConfig, ConfigError, read_config
from agent.enrolment import (
    NODE_ACCOUNT,
    REFUSED_PAUSE,
    AccountStanding,
    NodeEnded,
    ask_registrar,
    back_off,
    become_a_node,
    standing,
    stored_answer,
)
from agent.messages import EnrolAnswer, Heartbeat, agent_service, beat_key
from agent.node import Node
from agent.program_messages import ProgramStart
from agent.rpc_client import CallFailed, RpcClient
from agent.start_log import CONSOLE_VARIABLE, StartLog, say_on_console
from agent.wire import from_wire, to_wire

log = logging.getLogger("agent.service")  # also when run with -m

#: A beat that nobody took within so many intervals is no news any more.
_BEATS_ALIVE = 3
#: After so many failed beats in a row: does the broker still know our account?
_DOUBT_AFTER = 3
#: How often programs are looked at between beats, s.
_WATCH_EVERY = 1.0
#: Between two reports of where the start is, s: a start that takes no longer makes none.
_STEPS_EVERY = 2.0
#: Between two attempts to reach the broker again, s: a thousand agents do the same.
_RECONNECT_PAUSE = (3.0, 15.0)
#: Exit codes: the files are wrong; start me again (``EX_TEMPFAIL``).
EXIT_CONFIG, EXIT_AGAIN = 2, 75


class Voice:
    """Sends what the node has to say: heartbeats as events, readiness as a call."""

    def __init__(self, node: Node, config: dict[str, Any]) -> None:
        self._node = node
        self._answer = node.answer
        self._url = node.answer.broker.amqp_url(NODE_ACCOUNT)
        self._events = bus.event_publisher(config)
        self._speaking = threading.Lock()
        self._in_doubt = False
        self._reporting: Any = None
        self._telling: Any = None

    def send(self, beat: Heartbeat) -> None:
        """Publish a heartbeat; a lost one is not made up for. Never raises."""
        if not self._speaking.acquire(timeout=1.0):
            return  # another beat is stuck on the wire; the watchdog judges that
        try:
            key = beat_key(beat.pool, beat.node_id)
            expiration = _BEATS_ALIVE * self._answer.role.heartbeat_interval
            sent = self._events.publish(key, to_wire(beat), expiration)
        finally:
            self._speaking.release()
        if not sent and self._events.failures >= _DOUBT_AFTER and not self._in_doubt:
            self._in_doubt = True
            eventlet.spawn_n(self._check_account)

    def beat(self) -> None:
        """One heartbeat, seen and sent now."""
        self.send(self._node.beat())

    def connected(self) -> None:
        """The broker has just taken us (back): say so at once, over a connection as new."""
        with self._speaking:
            self._events.close()
        self.beat()
        if self._reporting is None:
            # Not before now: who hears that we are ready may call us at once.
            self._reporting = eventlet.spawn(self.report_until_ready)
            self._telling = eventlet.spawn(self.tell_steps)

    def report_until_ready(self) -> None:
        """Bring the node up and report until the coordinator acknowledged it. Never raises."""
        report = self._node.bring_up()
        attempt = 0
        while not self._node.ready:
            try:
                with RpcClient(self._url) as client:
                    taken = client.call("registrar", "ready", to_wire(report))
            except CallFailed as problem:
                log.warning("readiness not reported (attempt %d): %s", attempt + 1, problem)
            else:
                if isinstance(taken, dict) and taken.get("accepted"):
                    break
                log.warning("readiness not accepted (attempt %d): %s", attempt + 1, taken)
            eventlet.sleep(back_off(attempt, random.random()))
            attempt += 1
        if report.ok:
            self._node.acknowledged()
            log.info("ready")
            self.beat()

    def tell_steps(self) -> None:
        """Tell where the start is, until the node is ready. A report that is lost is lost."""
        told = None
        with RpcClient(self._url) as client:
            while not self._node.ready:
                eventlet.sleep(_STEPS_EVERY)
                report = self._node.start_report()
                if report is None or report.step == told or self._node.ready:
                    continue
                try:
                    client.call("registrar", "starting", to_wire(report))
                    told = report.step
                except CallFailed as problem:
                    log.debug("where the start is was not reported: %s", problem)

    def close(self) -> None:
        """Stop speaking and drop the connection."""
        for task in (self._reporting, self._telling):
            if task is not None:
                task.kill()
        self._events.close()

    def _check_account(self) -> None:
        """An account that is gone for good (a broker set up anew) needs a new enrolment."""
        try:
            refused = standing(self._answer) is AccountStanding.REFUSED
        finally:
            self._in_doubt = False
        if refused:
            log.error("the broker no longer knows this node: starting anew to enrol again")
            logging.shutdown()
            os._exit(EXIT_AGAIN)


# ------------------------------------------------------------------ the service


class AgentMethods:
    """What can be asked of an agent; ``service_class`` gives it its name."""

    voice = bus.Part(lambda config: config["AGENT_VOICE"])
    node = bus.Part(lambda config: config["AGENT_NODE"])

    @bus.agent_rpc
    def describe(self) -> dict[str, Any]:
        """All about the node, for people."""
        found: dict[str, Any] = self.node.describe()
        return found

    @bus.agent_rpc
    def beat_now(self) -> Any:
        """A sign of life: the Heartbeat, which is published as well."""
        beat = self.node.beat()
        eventlet.spawn_n(self.voice.send, beat)
        return to_wire(beat)

    @bus.agent_rpc
    def logs(self, program: str, lines: int = 100) -> str:
        """The last lines of a program's stdout and stderr (``agent`` is one, too)."""
        text: str = self.node.logs(program, lines)
        return text

    @bus.agent_rpc
    def drain(self, drain_timeout: float | None = None) -> Any:
        """Finish the work in hand and take no more; to be asked until ``drained``.

        The caller owns the deadline: a worker that is not done so many seconds from now
        (default: ``drain_timeout`` of the role, from the first question) is killed.
        """
        return to_wire(self.node.drain(drain_timeout))

    @bus.agent_rpc
    def cancel_drain(self) -> Any:
        """Take up work again."""
        return to_wire(self.node.cancel_drain())

    @bus.agent_rpc
    def stop(self) -> None:
        """End all programs of the node, its supervisord, and this agent."""
        self.node.stop()

    # Programs for the boot tool: see agent.program_runs. Each may be repeated.

    @bus.agent_rpc
    def stage_program(self, run_id: str, owner: str, offset: int, content: str) -> int:
        """Take a piece (base64) of the files of a program run; how many bytes there are now."""
        size: int = self.node.program_runs.stage(run_id, owner, offset, content)
        return size

    @bus.agent_rpc
    def start_program(self, run_id: str, start: dict[str, Any]) -> Any:
        """Start a program run (ProgramStart), once; its ProgramStatus."""
        return to_wire(self.node.program_runs.start(run_id, from_wire(ProgramStart, start)))

    @bus.agent_rpc
    def follow_program(self, run_id: str, offset: int | None = None) -> Any:
        """The ProgramStatus of a program run, with its output from ``offset`` on."""
        return to_wire(self.node.program_runs.status(run_id, offset))

    @bus.agent_rpc
    def read_program_file(self, run_id: str, name: str, offset: int = 0) -> Any:
        """A FilePiece of what lies beside a program; None when there is no such file."""
        return to_wire(self.node.program_runs.read(run_id, name, offset))

    @bus.agent_rpc
    def end_program(self, run_id: str) -> Any:
        """End a program run, its whole process group, for good; its ProgramStatus."""
        return to_wire(self.node.program_runs.end(run_id))

    @bus.agent_rpc
    def remove_program(self, run_id: str) -> None:
        """End a program run and remove its files."""
        self.node.program_runs.remove(run_id)

    @bus.every(seconds=lambda config: config["BEAT_INTERVAL"])
    def beat_each_interval(self) -> None:
        self.voice.beat()

    @bus.every(seconds=_WATCH_EVERY)
    def beat_when_programs_change(self) -> None:
        """A failed program, and one that is well again, is seen now and not with the next beat."""
        if self.node.role.heartbeat_interval > _WATCH_EVERY and self.node.has_news():
            self.voice.beat()

    @bus.at_connection
    def beat_when_connected(self) -> None:
        self.voice.connected()


def service_class(answer: EnrolAnswer) -> type:
    """The nameko service of one node: its name is only known once the node has enrolled."""
    return type("Agent", (AgentMethods,), {"name": agent_service(answer.node_id)})


def service_config(node: Node) -> dict[str, Any]:
    """The nameko config of that service. Holds the account: never print it."""
    config: dict[str, Any] = {
        **nameko_address(node.answer.broker, NODE_ACCOUNT),
        "BEAT_INTERVAL": node.role.heartbeat_interval,
        "RECONNECT_PAUSE": _RECONNECT_PAUSE,
        "HEARTBEAT": round(min(max(2 * node.role.heartbeat_interval, 5), 20)),
        "AGENT_NODE": node,
    }
    config["AGENT_VOICE"] = Voice(node, config)
    return config


def main() -> None:
    """The ``epu-agent`` command. Ends the process: 2 for unusable files, else when stopped."""
    parser = argparse.ArgumentParser(prog="epu-agent", description="The EPU agent of a node.")
    parser.add_argument("--config", type=Path, required=True, help="user-data file (JSON)")
    parser.add_argument(
        "--instance-data",
        type=Path,
        default=Path("instance-data.json"),
        help="instance data (JSON: launch_index); a machine with a pool's token needs none",
    )
    parser.add_argument("--dir", type=Path, required=True, help="the node's directory")
    options = parser.parse_args()
    bus.set_up_logging(os.environ.get("EPU_LOG_LEVEL", "INFO"))
    console = os.environ.get(CONSOLE_VARIABLE, "")
    try:
        config = read_config(
            options.config,
            options.instance_data,
            options.dir.resolve(),
            os.environ,
        )
    except ConfigError as problem:
        if console:
            say_on_console(console, f"epu-agent: {problem}")
        sys.exit(_say(problem))
    sleep: Callable[[float], None] = time.sleep
    start = StartLog(console=console)
    start.tell("config", f"read: run {config.run}, launch {config.launch_id}")
    ask = ask_registrar(config.broker)
    try:
        answer = become_a_node(config, ask, standing, sleep, random.random, start)
    except NodeEnded as problem:
        _end_node(config, problem)
    node = Node(config, answer, start=start)
    code = bus.run_service(service_class(answer), service_config(node))
    logging.shutdown()
    os._exit(code)  # no waiting for a connection to a broker that is gone


def _end_node(config: AgentConfig, why: NodeEnded) -> NoReturn:
    """End everything that runs on a node which is not wanted any more, this process included."""
    log.error("%s: everything on this node ends", why)
    answer = stored_answer(config)
    if answer is not None:
        Node(config, answer).end()
        time.sleep(REFUSED_PAUSE)  # its supervisord ends us; else we ask again, and not at once
    logging.shutdown()
    os._exit(EXIT_AGAIN)


def _say(problem: ConfigError) -> int:
    print(f"epu-agent: {problem}", file=sys.stderr)
    return EXIT_CONFIG


if __name__ == "__main__":
    main()
