"""Which pools a controller may keep: its claims at the provisioner.

A controller of one pool is heard of there before it keeps anything, so that nobody else
takes its pool; one that had been the shared controller's it takes over, as it was set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from agent.keeper_names import CONTROLLER, controller_name
from agent.rpc_client import CallFailed, RemoteError, UnknownService
from coordinator.controller.kept_pool import KeptPool
from coordinator.errors import ConfigProblem, Problem

log = logging.getLogger(__name__)

#: A pool's own controller says so often, in seconds, that it is there: the provisioner may
#: have lost its store.
TELL_EVERY = 30.0
_WITHIN = 3.0


class Claims:
    """The claims of one life of a controller. ``own_pool``: "" for the shared one."""

    def __init__(self, call: Callable[..., Any], owner: str, own_pool: str) -> None:
        self._call = call
        #: Of this life: a claim that is delivered twice is one, a restart's is another.
        self._owner = owner
        self._own_pool = own_pool
        self._told_at: float | None = None
        self._taken_over = not own_pool

    @property
    def known(self) -> bool:
        """Whether the provisioner has heard of us; nobody asks that of a shared controller."""
        return not self._own_pool or self._told_at is not None

    def due(self, now: float) -> bool:
        """Whether there is something to do though no pool is kept."""
        if not self._own_pool:
            return False
        return self._told_at is None or not self._taken_over or now - self._told_at >= TELL_EVERY

    def check(self, name: str) -> None:
        """Raise ConfigProblem for a pool that another controller is there for."""
        if self._own_pool:
            if name != self._own_pool:
                what = f"this controller keeps the pool {self._own_pool} alone"
                raise ConfigProblem([Problem(key=name, what=what)])
            return
        try:
            dedicated = self._call("provisioner", "keepers", timeout=_WITHIN)
        except CallFailed as problem:
            # It refuses the claim as soon as it answers again; until then nothing is done.
            log.info("who has a controller of its own is not known: %s", problem)
            return
        if name in dedicated:
            own = controller_name(name)
            what = f"the pool has a controller of its own, {own}"
            remedy = f"ask {own}, or end it (epu serve --stop) to have the pool kept here"
            raise ConfigProblem([Problem(key=name, what=what, remedy=remedy)])

    def claim(self, pools: Mapping[str, KeptPool], now: float) -> list[str]:
        """Claim what is not claimed yet; the names of pools that are another's.

        Raises CallFailed.
        """
        wanted = [name for name, pool in pools.items() if pool.epoch is None]
        if not wanted and not self.due(now):
            return []
        more = (self._own_pool,) if self._own_pool else ()
        claimed = self._call("provisioner", "claim_epoch", wanted, self._owner, *more)
        self._told_at = now
        for name, epoch in claimed.items():
            if name in pools:
                pools[name].epoch = int(epoch)
                pools[name].superseded = False
        return [name for name in wanted if name not in claimed]

    def take_over(self, keep: Callable[[str, Mapping[str, Any]], object]) -> None:
        """Have what the shared controller may keep of our pool; until it answered once.

        It is kept here before it is taken there, and whoever dies in between goes on: the
        shared controller decides nothing for it any more.
        """
        if self._taken_over or self._told_at is None:
            return
        try:
            there = self._call(CONTROLLER, "pool", self._own_pool, timeout=_WITHIN)
            keep(self._own_pool, there["section"])
            self._call(CONTROLLER, "remove_pool", self._own_pool, timeout=_WITHIN)
            log.info("took the pool %s over from the shared controller", self._own_pool)
        except UnknownService:
            pass  # there is no shared controller
        except ConfigProblem as problem:
            log.warning("the shared controller's pool can't be kept here: %s", problem)
        except RemoteError as problem:
            if problem.exc_type != "NotFound":
                log.warning("the pool is not taken over: %s", problem)
        except CallFailed as problem:
            log.info("the shared controller can't be asked for our pool: %s", problem)
            return
        self._taken_over = True
