"""Asking the components of a running system, and what to do when one does not answer.

``Call`` is ``(service, method, *args, timeout=…) -> plain JSON values``: an
``RpcClient.call`` in the command line, a ``ClientPool.call`` in the ``management`` service,
a function over dicts in a test.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent import rpc_client
from agent.rpc_client import CallFailed, RemoteError, UnknownService
from coordinator import errors

Call = Callable[..., Any]

#: Seconds for the one component that an answer can't do without; below the eight of a caller.
SINGLE_TIMEOUT = 6.5
#: Seconds for each of several components, asked one after the other, so that all of them
#: being silent still leaves an answer within the eight seconds of a caller.
SHARED_TIMEOUT = 1.5
#: … and for one of very many, s.
LEAST_SHARE = 0.05


def ask(call: Call, service: str, method: str, *args: Any, timeout: float = SINGLE_TIMEOUT) -> Any:
    """``service.method(*args)``; an error of the other side comes back as its own class.

    Raises the EpuError that the service raised, or a CallFailed when there is no answer.
    """
    try:
        return call(service, method, *args, timeout=timeout)
    except RemoteError as problem:
        raise as_named(problem) from None


def as_named(problem: RemoteError) -> Exception:
    """The remote error as the class of that name from our own tree, if there is one."""
    if problem.exc_type == "MethodNotFound":
        what = f"what runs there is older than this command: it has no '{problem.value}'"
        return errors.EpuError(f"{what} (restart the coordinator)")
    for module, tree in ((errors, errors.EpuError), (rpc_client, CallFailed)):
        found = getattr(module, problem.exc_type, None)
        if isinstance(found, type) and issubclass(found, tree) and found is not RemoteError:
            return found(problem.value)
    return problem


@dataclass(frozen=True)
class Gathered:
    """What several components answered, and for each silent one the reason."""

    answers: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def gather(
    call: Call,
    questions: Sequence[tuple[str, str, Sequence[Any]]],
    already_missing: Mapping[str, str] | None = None,
    may_be_absent: Collection[str] = (),
) -> Gathered:
    """Ask each ``(service, method, args)``; the answers are keyed ``service.method``.

    A component that failed once is not asked again. Never raises for a silent or failing
    component: it is named in ``missing``; not so those of ``may_be_absent`` that nobody
    serves.
    """
    answers: dict[str, Any] = {}
    missing = dict(already_missing or {})
    absent: set[str] = set()
    deadline = time.monotonic() + SINGLE_TIMEOUT
    for at, (service, method, args) in enumerate(questions):
        if service in missing or service in absent:
            continue
        # Many may be silent, and all that they take is one caller's time.
        share = max(deadline - time.monotonic(), 0.0) / (len(questions) - at)
        try:
            answers[f"{service}.{method}"] = ask(
                call, service, method, *args, timeout=min(SHARED_TIMEOUT, max(share, LEAST_SHARE))
            )
        except (CallFailed, errors.EpuError) as problem:
            if isinstance(problem, UnknownService) and service in may_be_absent:
                absent.add(service)
            else:
                missing[service] = str(problem)
    return Gathered(answers, missing)
