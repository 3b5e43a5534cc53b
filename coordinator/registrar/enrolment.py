"""What the context broker of old did: who may join, with which account, and who is ready.

The plain object behind the registrar service.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from agent.messages import (
    BASE_POOL,
    FINAL_STATES,
    UNASSIGNED,
    BrokerAccess,
    BrokerAccount,
    EnrolAnswer,
    EnrolRequest,
    InstanceState,
    NodeRole,
    ReadyReport,
    StartReport,
)
from agent.rpc_client import CallFailed
from agent.wire import from_wire, to_wire
from coordinator.enrolment_token import (
    Terms,
    TokenKind,
    TokenRejected,
    check,
    check_signature,
)
from coordinator.errors import EpuError, NotFound, RetryLater
from coordinator.events import EventLog
from coordinator.registrar.records import Enrolments
from coordinator.registrar.refusals import (
    NODE_ID_LIMIT,
    SECRET_LIMIT,
    Refusals,
    absurd_step,
    absurdity,
)
from coordinator.registrar.tokens import Tokens, worker_terms

log = logging.getLogger(__name__)

#: What is known of a node is kept so long after its account was removed, s.
KEPT_FOR = 7 * 86400.0

#: Who comes too late gets no role: it would begin with work that its end cuts off.
_GONE = frozenset(state.value for state in FINAL_STATES) | {
    InstanceState.TERMINATING.value,
    InstanceState.BOOT_FAILED.value,
}


class EnrolmentRefused(EpuError):
    """This machine may not join, now or later: its node is gone or belongs to another."""


class NodeEnded(EnrolmentRefused):
    """The machine was this node, which is at its end: its agent is to end what runs there."""


class NoSuchNode(EnrolmentRefused):
    """Nobody wants a node of that name, or a pool of that name is not kept."""


@dataclass(frozen=True, kw_only=True)
class _Newcomer:
    """Who a machine is that enrols. ``cloud_id`` empty: nobody knows yet what its cloud says."""

    node_id: str
    pool: str
    role: NodeRole
    state: str = ""
    cloud_id: str = ""


class Accounts(Protocol):
    """``broker_accounts.BrokerAccounts``, as far as it is needed here."""

    def create_node_account(
        self, node_id: str, pool: str, work_queues: tuple[str, ...]
    ) -> BrokerAccount: ...

    def remove_node_account(self, node_id: str) -> None: ...

    def available(self) -> bool: ...


class Registrar:
    """See the module. ``call`` is an RPC with a deadline."""

    def __init__(
        self,
        run: str,
        access: BrokerAccess,
        key: bytes,
        enrolments: Enrolments,
        accounts: Accounts,
        events: EventLog,
        call: Callable[..., Any],
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._access = access
        self._key = key
        self._enrolments = enrolments
        self._accounts = accounts
        self.events = events
        self._call = call
        self._clock = clock
        self._refusals = Refusals()
        self._tokens = Tokens(run, access, key)

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        """Give a new machine its node id, role and broker account.

        The same nonce may come again and gets a working account again: a lost reply locks
        nobody out. Raises TokenRejected, EnrolmentRefused (final), RetryLater.
        """
        now = self._clock()
        absurd = absurdity(request)
        if absurd:
            self._tell_refusal("enrolment_refused", "", f"an absurd request: {absurd}", now)
            raise EnrolmentRefused(f"an absurd request: {absurd}")
        nonce = _hashed(request.nonce)
        terms = self._check_token(request, nonce, now)
        if terms.kind is TokenKind.POOL:
            newcomer = self._adopted(request, nonce, terms, now)
        elif terms.kind is TokenKind.BASE:
            newcomer = self._base_node(request)
        else:
            newcomer = self._worker(request.launch_id, request.index)
        node_id, pool = newcomer.node_id, newcomer.pool
        if newcomer.state in _GONE:
            self._turn_away(newcomer, nonce, now)
        if request.cloud_id and newcomer.cloud_id not in ("", request.cloud_id):
            reason = (
                f"its cloud calls it {request.cloud_id}, and the machine of this node is"
                f" {newcomer.cloud_id}"
            )
            self._refuse(node_id, reason, now, pool)
        if not self._enrolments.claim(node_id, nonce, now, terms.kind.value):
            self._refuse(node_id, "another machine has already enrolled as this node", now, pool)
        role = newcomer.role
        account = self._accounts.create_node_account(node_id, pool, role.work_queues)
        self._enrolments.account_made(node_id)  # a sweep may have come between
        if terms.kind is not TokenKind.BASE:
            told = "; ".join(f"{step.name}: {step.detail}" for step in request.steps)
            self._provisioner(
                "node_enrolled", node_id, list(request.addresses), request.cloud_id, told
            )
        if self._enrolments.answered(node_id) == 1:
            as_what = {TokenKind.POOL: "adopted, ", TokenKind.BASE: "a base node, "}
            self.events.append(
                "node_started",
                pool="" if terms.kind is TokenKind.BASE else pool,
                node=node_id,
                reason=f"{as_what.get(terms.kind, '')}enrolled from"
                f" {request.hostname or 'an unnamed host'}",
            )
        return EnrolAnswer(
            node_id=node_id,
            run=self._run,
            pool=pool,
            broker=BrokerAccess(
                host=self._access.host,
                port=self._access.port,
                vhost=self._access.vhost,
                accounts={"node": account},
                shared=self._access.shared,
                tls=self._access.tls,
                ca=self._access.ca,
            ),
            role=role,
        )

    def _worker(self, launch_id: str, index: int) -> _Newcomer:
        return _newcomer(self._provisioner("node_for_enrolment", launch_id, index))

    def _adopted(self, request: EnrolRequest, nonce: str, terms: Terms, now: float) -> _Newcomer:
        """A machine that a person booted: it gets an index, and a record of its own."""
        launch_id, pool = request.launch_id, terms.pool
        index = self._enrolments.adopt(launch_id, nonce, terms.uses, now)
        if index is None:
            reason = f"its token is used up: {terms.uses} machines have joined with it"
            self._refuse(launch_id, reason, now, pool)
        with suppress(NoSuchNode):
            return self._worker(launch_id, index)
        try:
            kept = self._ask("controller", "pool", pool)
        except NoSuchNode:
            raise EnrolmentRefused(f"there is no pool '{pool}' any more") from None
        machine = {"cloud_id": request.cloud_id, "hostname": request.hostname}
        wanted = worker_terms(pool, kept["section"])
        known = self._provisioner("adopt_node", launch_id, index, pool, wanted, machine)
        return _newcomer(known)

    def _base_node(self, request: EnrolRequest) -> _Newcomer:
        """A machine of the levels: a node with an account, and no worker of any pool."""
        try:
            known = self._worker(request.launch_id, request.index)
        except NoSuchNode:
            node_id = f"{request.launch_id}-{request.index}"
            return _Newcomer(node_id=node_id, pool=BASE_POOL, role=NodeRole())
        raise EnrolmentRefused(f"node {known.node_id} is a worker, and this token is for none")

    def starting(self, report: StartReport) -> None:
        """Pass on where an enrolled node is in its start. Raises EnrolmentRefused, RetryLater."""
        if absurd_step(report.step):
            raise EnrolmentRefused("an absurd report: its step is too long")
        if self._bound_kind(report.node_id, report.nonce, "start_refused") is TokenKind.BASE:
            return
        step = report.step
        self._provisioner("node_starting", report.node_id, step.name, step.detail)

    def ready(self, report: ReadyReport) -> bool:
        """Pass a readiness report on; True once the provisioner has committed it.

        Only from the machine that enrolled as this node: every node may call this method.
        Raises EnrolmentRefused, RetryLater.
        """
        kind = self._bound_kind(report.node_id, report.nonce, "readiness_refused")
        if kind is TokenKind.BASE:
            name = "node_ready" if report.ok else "node_ready_failed"
            reason = "a base node verified itself" if report.ok else report.step
            self.events.append(name, node=report.node_id, reason=reason)
            return True
        answer = self._provisioner("node_ready", to_wire(replace(report, nonce="")))
        return bool(answer["accepted"])

    def pool_token(self, pool: str, lifetime: float, uses: int) -> dict[str, Any]:
        """A token with which machines that people boot join ``pool``; see ``Tokens.for_pool``.

        Raises NotFound for a pool that is not kept, ConfigProblem, RetryLater.
        """
        try:
            self._ask("controller", "pool", pool)
        except NoSuchNode:
            raise NotFound(f"no pool '{pool}'") from None
        made = self._tokens.for_pool(pool, lifetime, uses, self._clock())
        self._tell_made(made)
        return made

    def base_token(self, launch_id: str, lifetime: float) -> dict[str, Any]:
        """A token for machines of the levels, which join no pool; see ``Tokens.for_base``.

        Raises ConfigProblem.
        """
        made = self._tokens.for_base(launch_id, lifetime, self._clock())
        self._tell_made(made)
        return made

    def dismiss(self, node_id: str) -> None:
        """Remove the account of a base node whose machine is gone. Others are not touched."""
        if self._enrolments.kind_of(node_id) == TokenKind.BASE.value:
            self._accounts.remove_node_account(node_id)
            self._enrolments.account_removed(node_id, self._clock())

    def _tell_made(self, made: Mapping[str, Any]) -> None:
        pool = str(made["pool"]) if made["kind"] == TokenKind.POOL.value else ""
        told = {key: made[key] for key in ("launch_id", "expires_at", "uses") if key in made}
        reason = f"machines with it become {made['launch_id']}-0 …"
        self.events.append("token_created", pool=pool, reason=reason, kind=made["kind"], **told)

    def sweep(self) -> list[str]:
        """Remove the accounts of nodes that are no more; their ids.

        Compares what we gave with what the provisioner wants, so that a removal that was
        missed is made up. Other users of the broker are not ours, whatever they are called.
        """
        self._enrolments.forget(self._clock() - KEPT_FOR)
        given = self._enrolments.with_accounts()
        if not given:
            return []
        try:
            live = {node["node_id"] for node in self._provisioner("live_nodes")}
        except RetryLater as problem:
            log.info("accounts not swept: %s", problem)
            return []
        removed = []
        for node_id in (node_id for node_id in given if node_id not in live):
            try:
                self._accounts.remove_node_account(node_id)
            except RetryLater as problem:
                log.info("account of %s not removed: %s", node_id, problem)
                break
            self._enrolments.account_removed(node_id, self._clock())
            removed.append(node_id)
        return removed

    def status(self) -> Mapping[str, Any]:
        """For ``epu status``: whether accounts can be made now."""
        return {"accounts": "shared" if self._access.shared else "own", **self._availability()}

    def _availability(self) -> dict[str, bool]:
        return {"accounts_available": self._accounts.available()}

    def _check_token(self, request: EnrolRequest, nonce: str, now: float) -> Terms:
        """Whoever enrolled before comes again with an old token; newcomers need a fresh one."""
        launch_id = request.launch_id
        node_id = f"{launch_id}-{request.index}"
        try:
            terms = check_signature(self._key, request.token, self._run, launch_id)
            adopted = terms.kind is TokenKind.POOL
            if adopted != (request.index == UNASSIGNED):
                raise TokenRejected("the enrolment token is not for a machine with this index")
            if adopted:
                known = self._enrolments.adopted_as(launch_id, nonce) is not None
            else:
                known = self._enrolments.is_bound(node_id, nonce)
            if not known:
                check(self._key, request.token, self._run, launch_id, now)
        except TokenRejected as problem:
            self._tell_refusal("enrolment_refused", node_id, str(problem), now, subject=launch_id)
            raise
        return terms

    def _bound_kind(self, node_id: str, nonce: str, refusal: str) -> TokenKind:
        """The kind of the node that a report comes from; only its own machine may report."""
        if len(node_id) > NODE_ID_LIMIT or len(nonce) > SECRET_LIMIT:
            raise EnrolmentRefused("an absurd report: its node id or nonce is too long")
        if not self._enrolments.is_bound(node_id, _hashed(nonce)):
            reason = "the report is not from the machine that enrolled as this node"
            self._tell_refusal(refusal, node_id, reason, self._clock())
            raise EnrolmentRefused(f"node {node_id}: {reason}")
        return TokenKind(self._enrolments.kind_of(node_id))

    def _turn_away(self, known: _Newcomer, nonce: str, now: float) -> NoReturn:
        """Who comes too late. One that was this node, and whose machine should be gone, has lost
        its account and nobody can call it: it is told to stop here (``provisioner.zombies``).
        """
        why = f"node {known.node_id} is {known.state}: not wanted any more"
        ended = known.state == InstanceState.TERMINATED.value
        if not (ended and self._enrolments.is_bound(known.node_id, nonce)):
            raise EnrolmentRefused(why)
        reason = "it asks for its account, and its machine should be gone: it is told to stop;"
        reason += " whether the machine runs, and costs, see in the cloud"
        self._tell_refusal("zombie_told_to_stop", known.node_id, reason, now, pool=known.pool)
        raise NodeEnded(why)

    def _refuse(self, node_id: str, reason: str, now: float, pool: str) -> NoReturn:
        self._tell_refusal("enrolment_refused", node_id, reason, now, pool=pool)
        raise EnrolmentRefused(f"node {node_id}: {reason}")

    def _tell_refusal(
        self, name: str, node: str, reason: str, now: float, *, pool: str = "", subject: str = ""
    ) -> None:
        """An event, unless ``subject`` (default: the node) or too many others had theirs."""
        if self._refusals.worth_telling(subject or f"{name} {node}", now):
            self.events.append(name, pool=pool, node=node, reason=reason)

    def _provisioner(self, method: str, *args: Any) -> Any:
        return self._ask("provisioner", method, *args)

    def _ask(self, service: str, method: str, *args: Any) -> Any:
        """Raises NoSuchNode where the other side knows of none, else RetryLater."""
        try:
            return self._call(service, method, *args)
        except CallFailed as problem:
            if getattr(problem, "exc_type", "") == "NotFound":
                raise NoSuchNode(f"no such node is wanted: {problem}") from None
            raise RetryLater(f"the {service} did not answer: {problem}") from None


def _newcomer(known: Mapping[str, Any]) -> _Newcomer:
    return _Newcomer(
        node_id=str(known["node_id"]),
        pool=str(known["pool"]),
        role=from_wire(NodeRole, known["role"]),
        state=str(known["state"]),
        cloud_id=str(known.get("cloud_id") or ""),
    )


def _hashed(nonce: str) -> str:
    return hashlib.sha256(nonce.encode(errors="replace")).hexdigest()
