"""How a machine becomes a node: it shows its token, and is given an account and a role.

The nonce is made and stored *before* the first call. The registrar binds the node's index
to it, so a lost reply, a crash in mid-enrolment and a restarted agent all get a working
account again, while somebody else who saw the user-data does not.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agent.broker_link import back_off as back_off
from agent.config import ENROL_ACCOUNT, AgentConfig
from agent.messages import BrokerAccess, EnrolAnswer, EnrolRequest, agent_service
from agent.private_files import read_json, write_private_json
from agent.rpc_client import BrokerUnreachable, CallFailed, RemoteError, RpcClient
from agent.start_log import StartLog
from agent.wire import MalformedMessage, from_wire, to_wire

log = logging.getLogger(__name__)

NONCE_FILE = "nonce.json"
ANSWER_FILE = "enrolled.json"
BROKER_FILE = "broker.json"
#: Key of the account in the BrokerAccess of a node.
NODE_ACCOUNT = "node"

#: Seconds between calls when the registrar said no: a person has to look first.
REFUSED_PAUSE = 60.0
#: Errors of the registrar that the same request will meet again.
REFUSALS = frozenset({"TokenRejected", "EnrolmentRefused", "NodeEnded"})
#: The one of a node that had an account: its cloud calls its machine gone.
_ENDED = "NodeEnded"

Ask = Callable[[EnrolRequest], EnrolAnswer]


class NodeEnded(Exception):
    """The coordinator wants this node no more: whatever still runs on it is to end."""


class AccountStanding(Enum):
    """What the broker thinks of an account."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


# ------------------------------------------------------------------ what is stored


def own_nonce(config: AgentConfig) -> str:
    """This machine's nonce: the stored one, else a new one, stored before it is used.

    A nonce stored by another node (an image made from a node that ran) is not ours.
    """
    path = config.directory / NONCE_FILE
    found = read_json(path)
    if (
        isinstance(found, dict)
        and found.get("node_id") == config.node_id
        and isinstance(found.get("nonce"), str)
    ):
        return str(found["nonce"])
    nonce = secrets.token_urlsafe(32)
    write_private_json(path, {"node_id": config.node_id, "nonce": nonce})
    return nonce


def stored_answer(config: AgentConfig) -> EnrolAnswer | None:
    """The answer of an earlier enrolment of this very node, or None."""
    try:
        answer = from_wire(EnrolAnswer, read_json(config.directory / ANSWER_FILE))
    except MalformedMessage:
        return None
    ours = config.is_mine(answer.node_id) and answer.run == config.run
    return answer if ours and NODE_ACCOUNT in answer.broker.accounts else None


def store_answer(directory: Path, answer: EnrolAnswer) -> None:
    """Keep the answer for the agent's next start, and the account for its programs."""
    write_private_json(directory / BROKER_FILE, to_wire(answer.broker))
    write_private_json(directory / ANSWER_FILE, to_wire(answer))


# ------------------------------------------------------------------ enrolling


def request(config: AgentConfig) -> EnrolRequest:
    """The request of this node; the same one however often it is made."""
    hostname = socket.gethostname()
    return EnrolRequest(
        token=config.token,
        launch_id=config.launch_id,
        index=config.index,
        nonce=own_nonce(config),
        hostname=hostname,
        addresses=own_addresses(config.broker),
        agent_version=_own_version(),
        cloud_id=config.cloud_id,
    )


def ask_registrar(broker: BrokerAccess, timeout: float = 10.0) -> Ask:
    """One call of ``registrar.enrol`` with the ``enrol`` account, as a function."""

    def ask(wanted: EnrolRequest) -> EnrolAnswer:
        with closing(RpcClient(broker.amqp_url(ENROL_ACCOUNT), timeout=timeout)) as client:
            answer = client.call("registrar", "enrol", to_wire(wanted))
        return from_wire(EnrolAnswer, answer)

    return ask


def enrol(
    config: AgentConfig,
    ask: Ask,
    sleep: Callable[[float], None],
    chance: Callable[[], float],
    start: StartLog | None = None,
) -> EnrolAnswer:
    """Ask until there is an answer, for ever; stores and returns it. ``start`` is told.

    An absent broker or registrar is waited for with jittered back-off (1 → 30 s); a refusal
    is logged and asked again each 60 s, because a person may put it right (a clock, a
    restored registrar) and a node that gave up would only be restarted by its supervisor.
    Raises NodeEnded where this machine was a node and is at its end.
    """
    start = start or StartLog()
    wanted = request(config)
    attempt = 0
    said = ""
    while True:
        try:
            answer = ask(replace(wanted, steps=start.steps))
        except CallFailed as problem:
            refused = isinstance(problem, RemoteError) and problem.exc_type in REFUSALS
            trouble = str(problem)
            ended = isinstance(problem, RemoteError) and problem.exc_type == _ENDED
            if ended and stored_answer(config) is not None:
                raise NodeEnded(trouble) from problem
            start.tell(*_step_of(problem, config.broker, refused))
        except MalformedMessage as problem:
            refused, trouble = True, f"the registrar's answer can't be read: {problem}"
        else:
            if config.is_mine(answer.node_id) and NODE_ACCOUNT in answer.broker.accounts:
                answer = _where_we_reached_it(answer, config.broker)
                store_answer(config.directory, answer)
                start.tell("enrolment", f"enrolled as {answer.node_id}, attempt {attempt + 1}")
                log.info("enrolled as %s in pool %s", answer.node_id, answer.pool)
                return answer
            refused = True
            trouble = f"the registrar answered for '{answer.node_id}' or gave no node account"
        if refused or trouble != said:
            log.warning("not enrolled (attempt %d): %s", attempt + 1, trouble)
            said = trouble
        sleep(REFUSED_PAUSE * (1 + chance() / 4) if refused else back_off(attempt, chance()))
        attempt += 1


def _step_of(problem: CallFailed, broker: BrokerAccess, refused: bool) -> tuple[str, str]:
    """The step of a start that a failed attempt to enrol stands for: its name, its detail."""
    if not isinstance(problem, BrokerUnreachable):
        return "enrolment", f"{'refused' if refused else 'no answer'}: {problem}"
    where, cause = broker.public_url, problem.__cause__
    kind = type(cause).__name__
    if kind == "AccessRefused":
        return "broker", f"login refused at {where}: {problem}"
    if kind.startswith("SSL"):
        return "broker", f"TLS refused at {where}: {problem}"
    return "broker", f"unreachable at {where}: {problem}"


def _where_we_reached_it(answer: EnrolAnswer, reached: BrokerAccess) -> EnrolAnswer:
    """The answer with the broker's address as this machine knows it.

    The registrar tells its own; a machine in a network of its own may have another for the
    same broker, and the one by which it has just asked is right.
    """
    broker = replace(answer.broker, host=reached.host, port=reached.port)
    return replace(answer, broker=broker)


# ------------------------------------------------------------------ a stored account


def standing(answer: EnrolAnswer, timeout: float = 5.0) -> AccountStanding:
    """Whether the broker still knows the account of ``answer``.

    Only a refused *login* counts as REFUSED; a refused right says that the login was good.
    """
    url = answer.broker.amqp_url(NODE_ACCOUNT)
    try:
        with RpcClient(url, timeout=timeout) as client:
            # Nobody serves this name yet; what matters is how far the call comes.
            client.call(agent_service(answer.node_id), "describe")
    except BrokerUnreachable as problem:
        cause = problem.__cause__
        if type(cause).__name__ != "AccessRefused":
            return AccountStanding.UNREACHABLE
        login = "login was refused" in str(cause).lower()
        return AccountStanding.REFUSED if login else AccountStanding.ACCEPTED
    except CallFailed:
        return AccountStanding.ACCEPTED
    return AccountStanding.ACCEPTED


def become_a_node(
    config: AgentConfig,
    ask: Ask,
    check: Callable[[EnrolAnswer], AccountStanding],
    sleep: Callable[[float], None],
    chance: Callable[[], float],
    start: StartLog | None = None,
) -> EnrolAnswer:
    """The stored enrolment if the broker accepts its account, else a new one.

    Returns only when this node has an account that works; waits for ever. Raises NodeEnded.
    """
    answer = stored_answer(config)
    attempt = 0
    while answer is not None:
        found = check(answer)
        if found is AccountStanding.ACCEPTED:
            store_answer(config.directory, answer)  # a crash may have left out broker.json
            return answer
        if found is AccountStanding.REFUSED:
            log.warning("the broker no longer accepts the account of this node: enrolling again")
            break
        if attempt % 10 == 0:
            log.warning("waiting for the broker at %s", answer.broker.public_url)
        sleep(back_off(attempt, chance()))
        attempt += 1
    return enrol(config, ask, sleep, chance, start)


# ------------------------------------------------------------------ who we are


def own_addresses(broker: BrokerAccess) -> tuple[str, ...]:
    """The address this machine uses towards its broker; empty when it has no route.

    Connecting a datagram socket sends nothing: it only asks the routing table.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((broker.host, broker.port))
            return (str(probe.getsockname()[0]),)
    except OSError:
        return ()


def _own_version() -> str:
    try:
        return version("epu")
    except PackageNotFoundError:
        return "unknown"
