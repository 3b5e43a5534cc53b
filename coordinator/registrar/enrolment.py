"""What the context broker of old did: who may join, with which account, and who is ready.

The plain object behind the registrar service.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from agent.messages import (
    FINAL_STATES,
    BrokerAccess,
    BrokerAccount,
    EnrolAnswer,
    EnrolRequest,
    InstanceState,
    NodeRole,
    ReadyReport,
)
from agent.rpc_client import CallFailed
from agent.wire import from_wire, to_wire
from coordinator.enrolment_token import TokenRejected, check, check_signature
from coordinator.errors import EpuError, RetryLater
from coordinator.events import EventLog
from coordinator.registrar.records import Enrolments
from coordinator.registrar.refusals import (
    NODE_ID_LIMIT,
    SECRET_LIMIT,
    Refusals,
    absurdity,
)

log = logging.getLogger(__name__)

#: What is known of a node is kept so long after its account was removed, s.
KEPT_FOR = 7 * 86400.0

_GONE = frozenset(state.value for state in FINAL_STATES) | {InstanceState.TERMINATING.value}


class EnrolmentRefused(EpuError):
    """This machine may not join, now or later: its node is gone or belongs to another."""


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
        self._check_token(request, nonce, now)
        known = self._provisioner("node_for_enrolment", request.launch_id, request.index)
        node_id = str(known["node_id"])
        if known["state"] in _GONE:
            raise EnrolmentRefused(f"node {node_id} is {known['state']}: not wanted any more")
        if not self._enrolments.claim(node_id, nonce, now):
            reason = "another machine has already enrolled as this node"
            self._tell_refusal("enrolment_refused", node_id, reason, now, pool=known["pool"])
            raise EnrolmentRefused(f"node {node_id}: {reason}")
        role = from_wire(NodeRole, known["role"])
        account = self._accounts.create_node_account(node_id, known["pool"], role.work_queues)
        self._enrolments.account_made(node_id)  # a sweep may have come between
        self._provisioner("node_enrolled", node_id, list(request.addresses))
        if self._enrolments.answered(node_id) == 1:
            self.events.append(
                "node_started",
                pool=known["pool"],
                node=node_id,
                reason=f"enrolled from {request.hostname or 'an unnamed host'}",
            )
        return EnrolAnswer(
            node_id=node_id,
            run=self._run,
            pool=str(known["pool"]),
            broker=BrokerAccess(
                host=self._access.host,
                port=self._access.port,
                vhost=self._access.vhost,
                accounts={"node": account},
                shared=self._access.shared,
            ),
            role=role,
        )

    def ready(self, report: ReadyReport) -> bool:
        """Pass a readiness report on; True once the provisioner has committed it.

        Only from the machine that enrolled as this node: every node may call this method.
        Raises EnrolmentRefused, RetryLater.
        """
        if len(report.node_id) > NODE_ID_LIMIT or len(report.nonce) > SECRET_LIMIT:
            raise EnrolmentRefused("an absurd report: its node id or nonce is too long")
        if not self._enrolments.is_bound(report.node_id, _hashed(report.nonce)):
            reason = "the report is not from the machine that enrolled as this node"
            self._tell_refusal("readiness_refused", report.node_id, reason, self._clock())
            raise EnrolmentRefused(f"node {report.node_id}: {reason}")
        answer = self._provisioner("node_ready", to_wire(replace(report, nonce="")))
        return bool(answer["accepted"])

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

    def _check_token(self, request: EnrolRequest, nonce: str, now: float) -> None:
        """Whoever enrolled before comes again with an old token; newcomers need a fresh one."""
        node_id = f"{request.launch_id}-{request.index}"
        try:
            if self._enrolments.is_bound(node_id, nonce):
                check_signature(self._key, request.token, self._run, request.launch_id)
            else:
                check(self._key, request.token, self._run, request.launch_id, now)
        except TokenRejected as problem:
            subject = request.launch_id
            self._tell_refusal("enrolment_refused", node_id, str(problem), now, subject=subject)
            raise

    def _tell_refusal(
        self, name: str, node: str, reason: str, now: float, *, pool: str = "", subject: str = ""
    ) -> None:
        """An event, unless ``subject`` (default: the node) or too many others had theirs."""
        if self._refusals.worth_telling(subject or f"{name} {node}", now):
            self.events.append(name, pool=pool, node=node, reason=reason)

    def _provisioner(self, method: str, *args: Any) -> Any:
        try:
            return self._call("provisioner", method, *args)
        except CallFailed as problem:
            if getattr(problem, "exc_type", "") == "NotFound":
                raise EnrolmentRefused(f"no such node is wanted: {problem}") from None
            raise RetryLater(f"the provisioner did not answer: {problem}") from None


def _hashed(nonce: str) -> str:
    return hashlib.sha256(nonce.encode(errors="replace")).hexdigest()
