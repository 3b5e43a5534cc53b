"""Who may join, with which nonce, and what happens to accounts of nodes that are gone."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import (
    BrokerAccess,
    BrokerAccount,
    EnrolRequest,
    NodeRole,
    ReadyReport,
    StartStep,
)
from agent.rpc_client import CallTimeout, RemoteError
from agent.wire import to_wire
from coordinator.enrolment_token import TokenRejected, mint
from coordinator.errors import RetryLater
from coordinator.events import EventLog
from coordinator.registrar.enrolment import EnrolmentRefused, NodeEnded, Registrar
from coordinator.registrar.records import Enrolments
from coordinator.store.session import open_store

KEY = b"k" * 32


class Accounts:
    """The broker's accounts, as a dict."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def create_node_account(self, node_id: str, pool: str, work_queues: Any) -> BrokerAccount:
        self.made[node_id] = f"password {len(self.made)}"
        return BrokerAccount(user=f"node-{node_id}", password=self.made[node_id])

    def remove_node_account(self, node_id: str) -> None:
        self.made.pop(node_id, None)

    def list_node_accounts(self) -> list[str]:
        return list(self.made)

    def available(self) -> bool:
        return True


class World:
    """A registrar between an account list and a provisioner's answers."""

    def __init__(self) -> None:
        self.states = {"l-0": "LAUNCHING", "l-1": "LAUNCHING"}
        self.enrolled: list[str] = []
        self.claims: dict[str, tuple[str, str]] = {}
        self.cloud_ids: dict[str, str] = {}
        self.pools: dict[str, dict[str, Any]] = {"p": {"work_queues": ["jobs"]}}
        self.adopting = True
        self.steps: list[tuple[str, str, str]] = []
        self.reported: list[dict[str, Any]] = []
        self.answering = True
        self.accounts = Accounts()
        store = open_store(":memory:")
        self.events = EventLog(store, "registrar", "run", lambda: 50.0)
        access = BrokerAccess(
            host="h",
            port=1,
            vhost="v",
            accounts={
                "admin": BrokerAccount(user="admin", password="secret"),
                "enrol": BrokerAccount(user="enrol", password="public"),
            },
        )
        self.now = 50.0
        self.registrar = Registrar(
            "run",
            access,
            KEY,
            Enrolments(store),
            self.accounts,
            self.events,
            self.call,
            lambda: self.now,
        )

    def call(self, service: str, method: str, *args: Any) -> Any:
        if not self.answering:
            raise CallTimeout("no answer")
        if service == "controller":
            assert method == "pool"
            if args[0] not in self.pools:
                raise RemoteError("NotFound", args[0])
            return {"section": self.pools[args[0]]}
        assert service == "provisioner"
        return getattr(self, method)(*args)

    def node_for_enrolment(self, launch_id: str, index: int) -> dict[str, Any]:
        node_id = f"{launch_id}-{index}"
        if node_id not in self.states:
            raise RemoteError("NotFound", node_id)
        role = to_wire(NodeRole(work_queues=("jobs",)))
        return {
            "node_id": node_id,
            "pool": "p",
            "state": self.states[node_id],
            "role": role,
            "cloud_id": self.cloud_ids.get(node_id),
        }

    def adopt_node(
        self, launch_id: str, index: int, pool: str, wanted: Any, machine: dict[str, str]
    ) -> dict[str, Any]:
        assert list(wanted["role"]["work_queues"]) == ["jobs"] and pool == "p"
        self.states[f"{launch_id}-{index}"] = "BOOTING"
        found = self.node_for_enrolment(launch_id, index)
        return found if self.adopting else {**found, "state": "REJECTED"}

    def node_starting(self, node_id: str, step: str, detail: str) -> None:
        self.steps.append((node_id, step, detail))

    def node_enrolled(self, node_id: str, addresses: list[str], cloud_id: str, told: str) -> None:
        self.enrolled.append(node_id)
        self.claims[node_id] = (cloud_id, told)

    def node_ready(self, report: dict[str, Any]) -> dict[str, Any]:
        self.reported.append(report)
        return {"accepted": self.states[report["node_id"]] == "BOOTING"}

    def live_nodes(self) -> list[dict[str, str]]:
        return [{"node_id": node} for node, state in self.states.items() if state != "TERMINATED"]


def request(index: int = 0, nonce: str = "n1", launch: str = "l", **more: Any) -> EnrolRequest:
    token = more.pop("token", mint(KEY, "run", launch, 100.0))
    return EnrolRequest(token=token, launch_id=launch, index=index, nonce=nonce, **more)


def ready(node_id: str = "l-0", nonce: str = "n1") -> ReadyReport:
    return ReadyReport(node_id=node_id, ok=True, nonce=nonce)


@pytest.fixture
def world() -> World:
    return World()


def test_a_good_token_gets_a_node_id_a_role_and_an_account_of_its_own(world: World) -> None:
    answer = world.registrar.enrol(request())
    assert answer.node_id == "l-0" and answer.role.work_queues == ("jobs",)
    assert list(answer.broker.accounts) == ["node"], "no other account leaves the coordinator"
    assert answer.broker.accounts["node"].password == world.accounts.made["l-0"]
    assert world.enrolled == ["l-0"]
    assert [event.name for event in world.events.read()] == ["node_started"]


def test_a_lost_reply_locks_nobody_out(world: World) -> None:
    world.registrar.enrol(request())
    again = world.registrar.enrol(request())
    assert again.broker.accounts["node"].password == world.accounts.made["l-0"]
    assert [event.name for event in world.events.read()] == ["node_started"], "said once"


def test_another_nonce_on_a_used_index_is_refused_with_an_event(world: World) -> None:
    world.registrar.enrol(request())
    with pytest.raises(EnrolmentRefused, match="another machine"):
        world.registrar.enrol(request(nonce="stolen"))
    assert world.events.read()[-1].name == "enrolment_refused"


def test_each_index_of_a_launch_has_a_nonce_of_its_own(world: World) -> None:
    world.registrar.enrol(request(0, "n1"))
    assert world.registrar.enrol(request(1, "n2")).node_id == "l-1"


@pytest.mark.parametrize("token", ["", "nonsense", mint(KEY, "run", "other", 100.0)])
def test_a_bad_token_is_rejected_with_an_event_and_no_account(world: World, token: str) -> None:
    with pytest.raises(TokenRejected):
        world.registrar.enrol(request(token=token))
    assert not world.accounts.made
    assert world.events.read()[-1].name == "enrolment_refused"


@pytest.mark.parametrize("state", ["TERMINATING", "TERMINATED", "LAUNCH_FAILED", "REJECTED"])
def test_a_node_that_is_not_wanted_any_more_may_not_join(world: World, state: str) -> None:
    world.states["l-0"] = state
    with pytest.raises(EnrolmentRefused, match="not wanted"):
        world.registrar.enrol(request())
    assert not world.accounts.made


def test_a_node_that_no_record_knows_may_not_join(world: World) -> None:
    with pytest.raises(EnrolmentRefused, match="no such node"):
        world.registrar.enrol(request(index=7))


def test_an_absent_provisioner_is_a_reason_to_come_again(world: World) -> None:
    world.registrar.enrol(request())
    world.answering = False
    with pytest.raises(RetryLater):
        world.registrar.enrol(request())
    with pytest.raises(RetryLater):
        world.registrar.ready(ready())


def test_readiness_is_acknowledged_as_the_provisioner_says(world: World) -> None:
    world.registrar.enrol(request())
    world.states["l-0"] = "BOOTING"
    assert world.registrar.ready(ready())
    world.states["l-0"] = "TERMINATED"
    assert not world.registrar.ready(ready())


@pytest.mark.parametrize("nonce", ["", "n2"])
def test_a_node_can_not_report_for_another(world: World, nonce: str) -> None:
    """``n2`` is a sibling's; no nonce at all is what agents of old sent."""
    world.registrar.enrol(request(0, "n1"))
    world.registrar.enrol(request(1, "n2"))
    with pytest.raises(EnrolmentRefused, match="l-0"):
        world.registrar.ready(ready("l-0", nonce))
    assert world.reported == []
    refusal = world.events.read()[-1]
    assert (refusal.name, refusal.node) == ("readiness_refused", "l-0")


def test_nobody_reports_for_a_node_that_never_enrolled(world: World) -> None:
    with pytest.raises(EnrolmentRefused):
        world.registrar.ready(ready())


def test_the_nonce_goes_no_further_than_the_registrar(world: World) -> None:
    world.registrar.enrol(request(nonce="very secret nonce"))
    world.states["l-0"] = "BOOTING"
    report = ready(nonce="very secret nonce")
    assert world.registrar.ready(report)
    assert "very secret nonce" not in str(world.reported) + repr(report)


def test_a_node_older_than_its_token_gets_a_lost_account_again(world: World) -> None:
    """The broker was set up anew: the node comes again, with the nonce that we know."""
    world.registrar.enrol(request())
    world.now = 1e6
    world.accounts.made.clear()
    assert world.registrar.enrol(request()).node_id == "l-0"
    assert list(world.accounts.made) == ["l-0"]


def test_an_expired_token_lets_no_machine_in_that_is_not_known(world: World) -> None:
    world.registrar.enrol(request())
    world.now = 1e6
    for late in (request(1, "n2"), request(0, "stolen")):
        with pytest.raises(TokenRejected, match="expired"):
            world.registrar.enrol(late)


def test_a_known_nonce_does_not_make_a_forged_token_good(world: World) -> None:
    world.registrar.enrol(request())
    with pytest.raises(TokenRejected, match="not for this launch"):
        world.registrar.enrol(request(token="100.forged"))


def test_a_known_node_with_an_old_token_that_is_gone_stays_out_and_is_told_to_stop(
    world: World,
) -> None:
    world.registrar.enrol(request())
    world.now, world.states["l-0"] = 1e6, "TERMINATED"
    for _ in range(2):
        with pytest.raises(NodeEnded, match="not wanted"):
            world.registrar.enrol(request())
    told = [one for one in world.events.read() if one.name == "zombie_told_to_stop"]
    assert [(one.node, one.pool) for one in told] == [("l-0", "p")]


@pytest.mark.parametrize(("state", "nonce"), [("TERMINATING", "n1"), ("TERMINATED", "n2")])
def test_nobody_is_told_to_stop_before_its_end_or_for_another(
    world: World, state: str, nonce: str
) -> None:
    world.registrar.enrol(request())
    world.states["l-0"] = state
    with pytest.raises(EnrolmentRefused) as refusal:
        world.registrar.enrol(request(nonce=nonce))
    assert not isinstance(refusal.value, NodeEnded)


@pytest.mark.parametrize(
    "absurd",
    [
        {"launch": "l" * 73},
        {"nonce": "n" * 257},
        {"token": "t" * 257},
        {"hostname": "h" * 256},
        {"addresses": ("10.0.0.1",) * 33},
        {"addresses": ("1" * 256,)},
        {"agent_version": "v" * 65},
        {"index": -2},
        {"cloud_id": "x" * 256},
        {"steps": (StartStep(name="s"),) * 51},
        {"steps": (StartStep(name="s", detail="x" * 2001),)},
        {"index": 10**100},
    ],
    ids=lambda absurd: next(iter(absurd)),
)
def test_an_absurd_request_is_refused_and_nothing_of_it_is_kept(
    world: World, absurd: dict[str, Any]
) -> None:
    with pytest.raises(EnrolmentRefused, match="absurd"):
        world.registrar.enrol(request(**absurd))
    (event,) = world.events.read()
    assert event.name == "enrolment_refused" and len(str(event)) < 600
    assert not world.accounts.made


def test_refusals_of_one_launch_are_told_once_a_minute(world: World) -> None:
    def refuse() -> int:
        for _ in range(5):
            with pytest.raises(TokenRejected):
                world.registrar.enrol(request(token="nonsense"))
        return len(world.events.read())

    assert refuse() == 1
    world.now += 61
    assert refuse() == 2


def test_whoever_makes_up_launches_can_not_fill_the_history(world: World) -> None:
    for number in range(500):
        with pytest.raises(TokenRejected):
            world.registrar.enrol(request(launch=f"x{number}", token="nonsense"))
    assert len(world.events.read()) < 50
    world.now += 61
    with pytest.raises(TokenRejected):
        world.registrar.enrol(request(token="nonsense"))
    assert world.events.read()[-1].node == "l-0", "others are told of again"


def test_accounts_that_are_not_ours_are_left_alone(world: World) -> None:
    """A broker's other users may be called node-…, too: node-exporter."""
    world.registrar.enrol(request())
    world.accounts.made |= {"exporter": "theirs"}
    world.states["l-0"] = "TERMINATED"
    assert world.registrar.sweep() == ["l-0"]
    assert list(world.accounts.made) == ["exporter"]


def test_an_account_is_removed_once(world: World) -> None:
    world.registrar.enrol(request())
    world.states["l-0"] = "TERMINATED"
    assert world.registrar.sweep() == ["l-0"]
    assert world.registrar.sweep() == []


def test_an_account_made_while_its_node_was_given_up_is_removed_by_the_next_sweep(
    world: World,
) -> None:
    make = world.accounts.create_node_account

    def swept_meanwhile(*given: Any) -> BrokerAccount:
        world.states["l-0"] = "TERMINATED"
        world.registrar.sweep()
        return make(*given)

    world.accounts.create_node_account = swept_meanwhile  # type: ignore[method-assign]
    world.registrar.enrol(request())
    assert world.registrar.sweep() == ["l-0"]
    assert not world.accounts.made


def test_enrolments_of_nodes_long_gone_are_forgotten(world: World) -> None:
    world.registrar.enrol(request(0, "n1"))
    world.registrar.enrol(request(1, "n2"))
    world.states["l-0"] = "TERMINATED"
    world.registrar.sweep()
    world.now += 6 * 86400
    world.registrar.sweep()
    assert enrolled(world) == ["l-0", "l-1"]
    world.now += 2 * 86400
    world.registrar.sweep()
    assert enrolled(world) == ["l-1"]


def enrolled(world: World) -> list[str]:
    with world.registrar._enrolments._store.connect() as connection:
        rows = connection.exec_driver_sql("select node_id from enrolments order by node_id")
        return list(rows.scalars())


def test_accounts_of_nodes_that_are_gone_are_removed(world: World) -> None:
    world.registrar.enrol(request(0, "n1"))
    world.registrar.enrol(request(1, "n2"))
    world.states["l-0"] = "TERMINATED"
    assert world.registrar.sweep() == ["l-0"]
    assert list(world.accounts.made) == ["l-1"]


def test_nobody_loses_an_account_while_the_provisioner_cannot_be_asked(world: World) -> None:
    world.registrar.enrol(request())
    world.answering = False
    assert world.registrar.sweep() == []
    assert list(world.accounts.made) == ["l-0"]


def test_the_nonce_itself_is_not_stored(world: World) -> None:
    world.registrar.enrol(request(nonce="very secret nonce"))
    store = world.registrar._enrolments._store
    with store.connect() as connection:
        rows = connection.exec_driver_sql("select * from enrolments").all()
    assert rows and "very secret nonce" not in str(rows)
