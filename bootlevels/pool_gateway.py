"""The way from the boot tool to a run's coordinator: pools are handed over by RPC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.keepers import KeeperCalls
from agent.rpc_client import BrokerUnreachable, CallFailed, CallTimeout, RemoteError, RpcClient
from agent.rpc_client import UnknownService as NobodyAnswers
from bootlevels.checks import ACCOUNT, Look, read_accounts
from bootlevels.plan import PoolCheck
from coordinator.pool_spec import parse_pool, unchecked

#: Seconds one call may take.
CALL_TIMEOUT = 5.0
#: Seconds without an answer until a coordinator that never answered is given up …
FIRST_PATIENCE = 5.0
#: … and until one that did answer before is (its broker or itself may be restarting).
LATER_PATIENCE = 60.0

#: Keys of a pool that people set while it lives and no plan takes back.
_BY_HAND = frozenset({"override", "hold"})
#: A pool that is to lose its last worker: a schedule's bounds would win over its own. A hold
#: stays, that is a person's word.
NOBODY: Mapping[str, Any] = {
    "min": 0,
    "max": 0,
    "retain_failed": 0,
    "schedule": None,
}

_UNREACHABLE = (BrokerUnreachable, CallTimeout, NobodyAnswers)


class CoordinatorProblem(Exception):
    """The coordinator refused, has no such thing (``not_found``), or (``unreachable``) could
    not be asked."""

    def __init__(self, text: str, *, unreachable: bool = False, not_found: bool = False) -> None:
        self.unreachable = unreachable
        self.not_found = not_found
        super().__init__(text)


def pool_look(status: Mapping[str, Any], verify: PoolCheck) -> Look:
    """What a pool's status, as the controller answers it, means for its service."""
    running, wanted = status.get("running") or 0, status.get("wanted")
    state = str(status.get("state", ""))
    detail = f"{running} of {'?' if wanted is None else wanted} running"
    if wanted is None and status.get("decided_age", 0.0) is None:
        detail = "its controller has not looked at it yet"
    if pending := status.get("pending"):
        detail += f", {pending} on the way"
    # Who shrinks has all that it wants, and more.
    more = wanted is not None and (
        running > wanted or (running == wanted and bool(status.get("draining")))
    )
    shrinking = state == "PENDING" and more and not status.get("unhealthy")
    if (verify is PoolCheck.LAUNCH_ONE and running) or (
        verify is PoolCheck.STABLE and (state == "STABLE" or shrinking)
    ):
        return Look(ok=True, detail=detail)
    if state in ("FAILED", "HELD"):
        detail += f"; {state}: {status.get('reason', '')}"
    # What failed may still mend itself (a cloud that is full), but nobody waits for it long.
    return Look(ok=False, detail=detail, patience=LATER_PATIENCE if state == "FAILED" else None)


def coordinator_url(accounts: Path) -> str:
    """The AMQP URL of the coordinator's account, password and all. Raises CoordinatorProblem."""
    try:
        return read_accounts(accounts).amqp_url(ACCOUNT)
    except KeyError:
        raise CoordinatorProblem(f"{accounts} holds no account '{ACCOUNT}'") from None
    except (OSError, ValueError) as problem:
        raise CoordinatorProblem(
            f"the broker's accounts can't be read: {problem}", unreachable=True
        ) from None


class PoolGateway:
    """Talks to the coordinator whose broker ``accounts`` describes. Not for several threads."""

    def __init__(self, accounts: Path) -> None:
        self._client = RpcClient(coordinator_url(accounts), timeout=CALL_TIMEOUT)
        self._keepers = KeeperCalls(self._client.call, CALL_TIMEOUT)
        self._answered = False

    def __enter__(self) -> PoolGateway:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def add_pool(self, name: str, section: Mapping[str, Any]) -> bool:
        """Hand the pool over, or change it to ``section``. Whether it was new."""
        if self._kept(name):
            self.change_pool(name, section)
            return False
        answer = self._call("controller", "add_pool", name, dict(section))
        return bool(answer.get("added")) if isinstance(answer, Mapping) else False

    def check_pool(self, name: str, section: Mapping[str, Any]) -> None:
        """Raise CoordinatorProblem when the pool would be refused; changes nothing."""
        self._call("controller", "check_pool", name, dict(section))

    def change_pool(self, name: str, section: Mapping[str, Any]) -> None:
        """Make a pool that is kept already as ``section`` says.

        What people ordered for a while, by hand, stays.
        """
        kept = self._call("controller", "pool", name).get("section") or {}
        changes = {key: value for key, value in section.items() if kept.get(key) != value}
        changes |= dict.fromkeys(kept.keys() - section.keys() - _BY_HAND)
        if changes:
            self._call("controller", "reconfigure", name, changes)

    def shrink_pool(self, name: str) -> float:
        """Have all workers of the pool drained; a pool that is not kept has none.

        Returns how long they may take for their jobs, seconds.
        """
        if not self._kept(name):
            return 0.0
        section = self._call("controller", "reconfigure", name, dict(NOBODY))["section"]
        return parse_pool(name, section, foreign=unchecked).role.drain_timeout

    def remove_pool(self, name: str) -> None:
        """Take the pool back; whoever works in it stays. Again is harmless."""
        if self._kept(name):
            self._call("controller", "remove_pool", name)

    def look_gone(self, name: str) -> Look:
        """Whether the pool called ``name`` has no node left, and none is on its way."""
        try:
            # In this order: a launch that was ordered and is not answered has no node yet.
            ordered = name in self._call(self._keeper(name), "status")["pending_batches"]
            left = [n for n in self._call("provisioner", "live_nodes") if n["pool"] == name]
            held = self._held(name) if left else ""
        except CoordinatorProblem as problem:
            patience = LATER_PATIENCE if problem.unreachable else FIRST_PATIENCE
            return Look(
                ok=False, detail=str(problem), patience=patience, unreachable=problem.unreachable
            )
        return Look(ok=not left and not ordered, detail=f"{len(left)} nodes left{held}")

    def _held(self, name: str) -> str:
        pool = self._kept(name) or {}
        return f"; HELD: {pool['reason']}" if pool.get("state") == "HELD" else ""

    def _kept(self, name: str) -> Mapping[str, Any] | None:
        """The pool's status; None for one that is not kept."""
        try:
            found: Mapping[str, Any] = self._call("controller", "pool", name)
        except CoordinatorProblem as problem:
            if problem.not_found:
                return None
            raise
        return found

    def _keeper(self, pool: str) -> str:
        try:
            return self._keepers.keeper(pool)
        except BrokerUnreachable as problem:
            raise CoordinatorProblem(str(problem), unreachable=True) from None

    def look(self, name: str, verify: PoolCheck) -> Look:
        """How far the pool is, as ``2 of 3 running``."""
        try:
            status = self._call("controller", "pool", name)
        except CoordinatorProblem as problem:
            patience = LATER_PATIENCE if self._answered else FIRST_PATIENCE
            return Look(
                ok=False,
                detail=str(problem),
                patience=patience if problem.unreachable else FIRST_PATIENCE,
                unreachable=problem.unreachable,
            )
        return pool_look(status, verify)

    def live_nodes(self) -> list[str]:
        """Ids of the nodes that the provisioner still has. Raises CoordinatorProblem."""
        answer = self._call("provisioner", "live_nodes")
        return [str(node["node_id"]) for node in answer]

    def _call(self, service: str, method: str, *args: Any) -> Any:
        try:
            answer = self._keepers.call(service, method, *args)
        except RemoteError as refused:
            self._answered = True
            text = f"the {service} refused: {refused.value or refused}"
            not_found = refused.exc_type == "NotFound"
            raise CoordinatorProblem(text, not_found=not_found) from None
        except _UNREACHABLE as problem:
            raise CoordinatorProblem(str(problem), unreachable=True) from None
        except CallFailed as problem:
            raise CoordinatorProblem(str(problem)) from None
        self._answered = True
        return answer
