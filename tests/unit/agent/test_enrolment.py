"""Enrolment: the nonce, the waits, what is stored, when it is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import AgentConfig
from agent.enrolment import (
    AccountStanding,
    NodeEnded,
    back_off,
    become_a_node,
    enrol,
    own_nonce,
    stored_answer,
)
from agent.messages import (
    UNASSIGNED,
    BrokerAccess,
    BrokerAccount,
    EnrolAnswer,
    EnrolRequest,
    NodeRole,
)
from agent.private_files import write_private
from agent.rpc_client import BrokerUnreachable, CallTimeout, RemoteError
from agent.start_log import StartLog

ENROL = {"enrol": BrokerAccount(user="enrol", password="public")}
BROKER = BrokerAccess(host="127.0.0.1", port=1, vhost="epu", accounts=ENROL)
NODE = replace(BROKER, accounts={"node": BrokerAccount(user="node-l1-0", password="secret")})
ANSWER = EnrolAnswer(node_id="l1-0", run="run1", pool="workers", broker=NODE, role=NodeRole())

Ask = Callable[[EnrolRequest], EnrolAnswer]


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return AgentConfig(
        run="run1",
        pool="workers",
        launch_id="l1",
        index=0,
        token="t",
        broker=BROKER,
        directory=tmp_path,
        supervisor_socket=tmp_path / "s",
    )


class Script:
    """A registrar that meets each call with the next thing on its list."""

    def __init__(self, *steps: EnrolAnswer | Exception) -> None:
        self.steps: Iterator[EnrolAnswer | Exception] = iter(steps)
        self.requests: list[EnrolRequest] = []
        self.pauses: list[float] = []

    def ask(self, wanted: EnrolRequest) -> EnrolAnswer:
        self.requests.append(wanted)
        step = next(self.steps)
        if isinstance(step, Exception):
            raise step
        return step


def run(config: AgentConfig, script: Script) -> EnrolAnswer:
    return enrol(config, script.ask, script.pauses.append, lambda: 0.0)


def test_the_nonce_is_stored_before_the_registrar_is_asked(config: AgentConfig) -> None:
    path = config.directory / "nonce.json"

    def ask(wanted: EnrolRequest) -> EnrolAnswer:
        assert wanted.nonce in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600
        return ANSWER

    enrol(config, ask, lambda _: None, lambda: 0.0)


def test_every_attempt_and_every_restart_shows_the_same_nonce(config: AgentConfig) -> None:
    first = Script(CallTimeout("lost"), BrokerUnreachable("away"), ANSWER)
    run(config, first)
    second = Script(ANSWER)
    run(config, second)
    assert len({wanted.nonce for wanted in (*first.requests, *second.requests)}) == 1


def test_a_nonce_that_another_node_left_in_the_image_is_not_used(config: AgentConfig) -> None:
    other = own_nonce(replace(config, launch_id="l0"))
    assert own_nonce(config) != other


def test_a_broker_that_is_away_is_asked_again_soon_and_then_slower(config: AgentConfig) -> None:
    script = Script(*[BrokerUnreachable("away")] * 8, ANSWER)
    assert run(config, script) == ANSWER
    assert script.pauses == [0.5, 1, 2, 4, 8, 15, 15, 15]


@pytest.mark.parametrize("refusal", ["TokenRejected", "EnrolmentRefused"])
def test_a_refusal_is_asked_again_slowly(config: AgentConfig, refusal: str) -> None:
    script = Script(RemoteError(refusal, "no"), ANSWER)
    assert run(config, script) == ANSWER
    assert script.pauses == [60.0]


def test_an_answer_for_another_node_is_not_taken(config: AgentConfig) -> None:
    script = Script(replace(ANSWER, node_id="l1-1"), ANSWER)
    assert run(config, script) == ANSWER
    assert len(script.requests) == 2


def test_the_broker_is_kept_where_this_machine_reached_it(config: AgentConfig) -> None:
    elsewhere = replace(config, broker=replace(BROKER, host="10.0.2.2"))
    assert run(elsewhere, Script(ANSWER)).broker.host == "10.0.2.2"
    stored = stored_answer(elsewhere)
    assert stored is not None
    assert (stored.broker.host, stored.broker.port) == ("10.0.2.2", BROKER.port)
    assert stored.broker.accounts == NODE.accounts


def test_the_answer_is_stored_for_our_own_user_only(config: AgentConfig) -> None:
    run(config, Script(ANSWER))
    assert stored_answer(config) == ANSWER
    for name in ("enrolled.json", "broker.json"):
        assert (config.directory / name).stat().st_mode & 0o777 == 0o600


def test_a_restarted_agent_uses_what_it_stored(config: AgentConfig) -> None:
    run(config, Script(ANSWER))
    script = Script()
    checks = iter([AccountStanding.UNREACHABLE, AccountStanding.ACCEPTED])
    found = become_a_node(
        config, script.ask, lambda _: next(checks), script.pauses.append, lambda: 0.0
    )
    assert found == ANSWER
    assert script.pauses == [0.5]


def test_a_refused_account_is_replaced_by_a_new_enrolment(config: AgentConfig) -> None:
    run(config, Script(ANSWER))
    account = {"node": BrokerAccount(user="node-l1-0", password="new")}
    fresh = replace(ANSWER, broker=replace(NODE, accounts=account))
    script = Script(fresh)
    found = become_a_node(
        config, script.ask, lambda _: AccountStanding.REFUSED, script.pauses.append, lambda: 0.0
    )
    assert found == fresh == stored_answer(config)


def test_only_a_machine_that_was_a_node_is_told_that_it_is_at_its_end(config: AgentConfig) -> None:
    """What never was a node has nothing to end, and who refused it may be put right."""
    ended = RemoteError("NodeEnded", "node l1-0 is TERMINATED: not wanted any more")
    script = Script(ended, ANSWER)
    assert run(config, script) == ANSWER
    assert script.pauses == [60.0]
    script, refused = Script(ended), AccountStanding.REFUSED
    with pytest.raises(NodeEnded, match="not wanted"):
        become_a_node(config, script.ask, lambda _: refused, script.pauses.append, lambda: 0.0)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"node_id": 1}'])
def test_a_damaged_file_is_as_none(config: AgentConfig, text: str) -> None:
    write_private(config.directory / "enrolled.json", text)
    assert stored_answer(config) is None


def test_what_another_node_stored_is_not_ours(config: AgentConfig) -> None:
    run(config, Script(ANSWER))
    assert stored_answer(replace(config, index=1)) is None


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_short_and_never_longer_than_the_longest(
    attempt: int, chance: float
) -> None:
    assert 0.5 <= back_off(attempt, chance) <= 30.0


def test_a_private_file_replaces_one_that_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o644)
    (tmp_path / ".x.new").write_text("left by a crash")
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------ the steps of a start


def test_what_came_before_goes_along_with_the_request(config: AgentConfig) -> None:
    start = StartLog(lambda: 7.0)
    start.tell("config", "read")
    script = Script(BrokerUnreachable("no route"), CallTimeout("nobody"), ANSWER)
    enrol(config, script.ask, script.pauses.append, lambda: 0.0, start)
    told = [[step.name for step in wanted.steps] for wanted in script.requests]
    assert told == [["config"], ["config", "broker"], ["config", "broker", "enrolment"]]
    assert "unreachable at amqp://127.0.0.1:1/epu" in script.requests[1].steps[-1].detail
    assert start.latest is not None and "enrolled as l1-0, attempt 3" in start.latest.detail


def test_a_refusal_is_a_step_that_a_console_can_be_read_for(
    config: AgentConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "agent.start_log")
    script = Script(RemoteError("TokenRejected", "the enrolment token has expired"), ANSWER)
    run(config, script)
    lines = [record.getMessage() for record in caplog.records if "start_log" in record.name]
    assert lines[0].startswith("[enrolment] refused: ") and "expired" in lines[0]


def test_steps_are_few_and_short_however_long_a_start_takes() -> None:
    start = StartLog(lambda: 7.0)
    for number in range(100):
        start.tell(f"check {number}", "x" * 5000)
        start.tell("check last", f"failing {number}")
    assert len(start.steps) <= 20
    assert all(len(step.detail) <= 1000 for step in start.steps)
    start.tell("check last", "failing 99")
    assert [step.name for step in start.steps].count("check last") <= 10


def test_an_adopted_machine_takes_the_id_that_it_is_given_and_keeps_it(
    config: AgentConfig,
) -> None:
    adopted = replace(config, index=UNASSIGNED, launch_id="web-a1", token="pool.web.1.9.ab")
    given = replace(ANSWER, node_id="web-a1-4")
    script = Script(replace(ANSWER, node_id="other-0"), given)
    assert run(adopted, script) == given
    assert script.requests[0].index == UNASSIGNED
    assert stored_answer(adopted) == given
    nonce = own_nonce(adopted)
    assert own_nonce(adopted) == nonce
    assert own_nonce(replace(adopted, cloud_id="i-another-machine")) != nonce
