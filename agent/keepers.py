"""The way to whoever keeps a pool.

The provisioner remembers which pools have a controller of their own (``provisioner.keepers``),
because every controller claims its pools there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from agent.keeper_names import CONTROLLER, controller_name, controllers
from agent.rpc_client import BrokerUnreachable, CallFailed, RemoteError, UnknownService

#: Seconds for the question who keeps what, of those that a call has.
TABLE_WITHIN = 1.0
_TABLE = ("provisioner", "keepers")
#: What concerns every pool, and what names its pool first.
_OF_ALL = ("freeze", "unfreeze")
_OF_ONE = (
    *("pool", "add_pool", "check_pool", "remove_pool", "reconfigure", "resume", "rollout"),
    *("explain", "recordings", "decisions"),
)


class KeeperCalls:
    """RPC in which ``controller`` means whoever keeps the pool in question.

    ``ask``: an RPC call with a deadline, by default of ``timeout`` seconds. ``call`` is used
    in its place: what names a pool goes to that pool's controller, ``freeze`` and ``unfreeze``
    go to every controller. Everything else passes through. Who keeps what is asked anew each
    time; what was answered last is good enough while the provisioner is silent.
    """

    def __init__(self, ask: Callable[..., Any], timeout: float = 10.0) -> None:
        self._ask = ask
        self._timeout = timeout
        self._known: list[str] | None = None

    def call(
        self, service: str, method: str, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """Like ``ask``. Raises what that raises."""
        if (service, method) == _TABLE:
            return self._dedicated(self._timeout if timeout is None else timeout)
        if service != CONTROLLER or method not in (*_OF_ALL, *_OF_ONE):
            return self._ask(service, method, *args, timeout=timeout, **kwargs)
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        if method in _OF_ALL:
            return self._everybody(method, args, deadline)
        *first, last = self._candidates(str(args[0]), deadline)
        for keeper in first:
            try:
                return self._ask(keeper, method, *args, timeout=_left(deadline), **kwargs)
            except UnknownService:
                continue
        return self._ask(last, method, *args, timeout=_left(deadline), **kwargs)

    def keeper(self, pool: str) -> str:
        """The service that keeps ``pool``, or would if it were added."""
        return self._candidates(pool, time.monotonic() + self._timeout)[0]

    def _dedicated(self, timeout: float) -> list[str]:
        """The pools that have a controller of their own. Raises what ``ask`` raises."""
        try:
            self._known = sorted(map(str, self._ask(*_TABLE, timeout=timeout)))
        except BrokerUnreachable:
            raise
        except CallFailed:
            if self._known is None:
                raise
        return list(self._known)

    def _table(self, deadline: float) -> list[str] | None:
        """The same within a part of the time; None where it can't be known."""
        try:
            return self._dedicated(min(TABLE_WITHIN, _left(deadline) / 3))
        except BrokerUnreachable:
            raise
        except RemoteError:
            return []  # a provisioner of before there were any: all is the shared one's
        except CallFailed:
            return None

    def _candidates(self, pool: str, deadline: float) -> tuple[str, ...]:
        dedicated = self._table(deadline)
        if dedicated is None:
            # Who asks in vain for a pool's own controller knows it in milliseconds.
            return (controller_name(pool), CONTROLLER)
        return (controller_name(pool if pool in dedicated else ""),)

    def _everybody(self, method: str, args: tuple[Any, ...], deadline: float) -> Any:
        """Ask all controllers there are, each within a fair share of the time.

        Who is silent keeps nobody from being asked, and is an error in the end.
        """
        names = controllers(self._table(deadline) or ())
        answer: Any = None
        problem: CallFailed | None = None
        for at, name in enumerate(names):
            try:
                share = _left(deadline) / (len(names) - at)
                answer = self._ask(name, method, *args, timeout=share)
            except CallFailed as silent:
                # Where every pool has its own controller, nobody need serve the shared name.
                if len(names) == 1 or name != CONTROLLER or not isinstance(silent, UnknownService):
                    problem = silent
        if problem is not None:
            raise problem
        return answer


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.05)
