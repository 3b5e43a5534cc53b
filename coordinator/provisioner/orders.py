"""What a person may order of one node. PURE.

An order may be repeated: what it asks for and finds done is no error.
"""

from __future__ import annotations

from coordinator.errors import ConfigProblem, InvalidTransition, Problem, did_you_mean
from coordinator.provisioner.lifecycle import (
    DRAINING,
    RUNNING,
    TERMINATING,
    Change,
    Record,
    drained_by,
    move,
    note,
    unwanted,
)

ORDERS = ("drain", "undrain", "protect", "unprotect", "terminate")


def check_order(order: str, drain_timeout: float | None) -> None:
    """Raise ConfigProblem for what is no order."""
    if order not in ORDERS:
        what = f"there is no order '{order}' ({did_you_mean(order, ORDERS)})"
        raise ConfigProblem([Problem(key="order", what=what)])
    if drain_timeout is not None and not 0 < drain_timeout <= 86400.0:
        what = f"must be above 0 and at most 86400 s, not {drain_timeout:g}"
        raise ConfigProblem([Problem(key="drain_timeout", what=what)])


def ordered(
    record: Record,
    order: str,
    now: float,
    reason: str,
    *,
    enabled: bool,
    drain_timeout: float | None = None,
) -> Change | None:
    """The change that carries out ``order``; None when nothing is left to do.

    ``enabled``: no teardown is under way. ``drain_timeout``: seconds, the node's own unless
    given. Raises InvalidTransition where the node is in no state for it, saying which is.
    """
    ended = record.final or record.state is TERMINATING
    if order == "terminate":
        return unwanted(record, now, reason)
    if ended:
        raise InvalidTransition(f"{record.node_id} is {record.state.value}: it is not kept")
    if order in ("protect", "unprotect"):
        return note(record, protected=order == "protect")
    if order == "undrain":
        return _undrained(record, now, reason, enabled)
    if record.protected:
        raise InvalidTransition(f"{record.node_id} is protected (epu node unprotect first)")
    if record.state not in (RUNNING, DRAINING):
        raise InvalidTransition(
            f"{record.node_id} is {record.state.value}: only who is RUNNING can be drained "
            "(epu node terminate ends it)"
        )
    return drained_by(record, now, drain_timeout or record.drain_timeout, reason)


def _undrained(record: Record, now: float, reason: str, enabled: bool) -> Change | None:
    if record.state is RUNNING:
        return None
    if record.state is not DRAINING:
        raise InvalidTransition(f"{record.node_id} is {record.state.value}: it does not drain")
    if not enabled:
        raise InvalidTransition("a teardown is under way: everything goes")
    # The deadline stays until the agent has confirmed; see Record.
    return move(record, RUNNING, now, reason)
