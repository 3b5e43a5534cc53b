"""Can nodes get broker accounts now? While they can't, no boot is to blame for its slowness.

The registrar makes accounts over the broker's management API. While that is away (or the
registrar itself) a machine that boots can't enrol, whatever it does: ``boot_timeout`` stands
still for it, and nothing is launched that could only wait and cost.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from agent.rpc_client import CallFailed
from coordinator.provisioner.cloud_calls import Tools
from coordinator.provisioner.lifecycle import REQUESTED, note
from coordinator.provisioner.steps import resumed

log = logging.getLogger(__name__)

#: The registrar has so long to answer, s: longer than it waits for the management API.
STATUS_TIMEOUT = 12.0
#: A registrar that does not answer for so long, s, makes no accounts; a restart is faster.
SILENT_FOR = 30.0

_FLAG = "accounts_away"


class AccountsWatch:
    """``away``: since when (epoch s) and why no accounts can be made; None while they can.

    Stored, so that a restart in mid-outage fails no boot before it has asked. ``heard_since``:
    since when, in this life, the registrar answers without a gap; infinity while it doesn't.
    What nodes report comes by way of it.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._silent_since: float | None = None
        self.heard_since = tools.clock()
        self.away: dict[str, Any] | None = tools.records.flag(_FLAG)

    def step(self) -> bool:
        """Ask the registrar, note what changed; whether the clouds' loops should look again."""
        now, deaf = self._tools.clock(), self.heard_since == math.inf
        problem = self._problem(now)
        if problem:
            if self.away is None:
                self._set({"since": now, "reason": problem})
                self._tools.events.append(
                    "accounts_away",
                    reason=f"{problem}: launches hold and boot_timeout stands still",
                )
            self._hold_launches(problem)
            return False
        if self.away is None or problem is None:
            return deaf and problem == ""
        since = float(self.away["since"])
        # Before the flag goes: a crash in between gives the boots the time once more.
        self._tools.commit(resumed(self._tools.records.live(), since, now))
        self._set(None)
        reason = f"after {now - since:.0f} s, by which deadlines of boots were put off"
        self._tools.events.append("accounts_back", reason=reason)
        return True

    def _problem(self, now: float) -> str | None:
        """Why no accounts can be made; empty when they can, None when nobody can say yet."""
        try:
            found = self._tools.call("registrar", "status", timeout=STATUS_TIMEOUT)
            available = bool(found["accounts_available"])
        except (CallFailed, KeyError, TypeError) as problem:
            log.info("the registrar does not say whether it can make accounts: %s", problem)
            if self._silent_since is None:
                self._silent_since = now
            self.heard_since = math.inf
            silent = now - self._silent_since
            return "the registrar does not answer" if silent >= SILENT_FOR else None
        self._silent_since = None
        self.heard_since = min(self.heard_since, self._tools.clock())
        return "" if available else "the broker's management API makes no accounts"

    def _hold_launches(self, problem: str) -> None:
        """Say in each record that waits what it waits for."""
        reason = f"held until nodes can get accounts: {problem}"
        waiting = (one for one in self._tools.records.live() if one.state is REQUESTED)
        self._tools.commit([note(record, reason=reason) for record in waiting])

    def _set(self, away: dict[str, Any] | None) -> None:
        self.away = away
        self._tools.records.set_flag(_FLAG, away)
