"""Back-off of a pool's launches after machines that failed to launch or to boot. PURE.

5 s, doubling to 30 min, forgotten after 3 h without a failure. The deadline is an absolute
time and is stored, so a restart does not forget it. A *wave* is everything that was wanted
before the failure was seen: ten machines of one refused launch are one wave, and double the
delay once. The first machine whose *boot* failed is replaced at once (a bad machine happens);
from the second wave on, boot failures wait like the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.messages import InstanceState, InstanceView

FIRST_DELAY = 5.0
LONGEST_DELAY = 1800.0
FORGET_AFTER = 3 * 3600.0


@dataclass(frozen=True, kw_only=True)
class BackOff:
    """``failures``: nodes that failed; ``waves``: how often the delay doubled.

    ``until``: no launch before this time; ``last_failure``: when the last one failed;
    ``wave_until``: a node wanted later than this belongs to a new wave. Epoch seconds.
    """

    failures: int = 0
    waves: int = 0
    until: float = 0.0
    last_failure: float = 0.0
    wave_until: float = 0.0
    reason: str = ""

    def seconds_left(self, now: float) -> float:
        """How long launches still wait, 0 when they need not."""
        # The second bound keeps a clock that jumped back from stretching the wait.
        return min(max(0.0, self.until - now), LONGEST_DELAY)

    @property
    def words(self) -> str:
        """How many failed, and what of the last one is known."""
        return f"{self.failures} failed (the last: {self.reason})"

    def lasts(self, supply: Iterable[InstanceView]) -> bool:
        """Whether nobody in ``supply`` came to run since the last failure."""
        return self.failures > 0 and not any(
            one.state is InstanceState.RUNNING and one.state_since > self.last_failure
            for one in supply
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "failures": self.failures,
            "waves": self.waves,
            "until": self.until,
            "last_failure": self.last_failure,
            "wave_until": self.wave_until,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BackOff:
        """The reverse of ``to_dict``."""
        return cls(
            failures=int(data.get("failures", 0)),
            waves=int(data.get("waves", 0)),
            until=float(data.get("until", 0.0)),
            last_failure=float(data.get("last_failure", 0.0)),
            wave_until=float(data.get("wave_until", 0.0)),
            reason=str(data.get("reason", "")),
        )


def delay_after(waves: int) -> float:
    """Seconds to wait after so many waves of failures: 5, 10, 20 … 1800."""
    if waves <= 0:
        return 0.0
    return min(FIRST_DELAY * 2.0 ** min(waves - 1, 20), LONGEST_DELAY)


def forgotten(backoff: BackOff, now: float) -> BackOff:
    """A fresh back-off when the last failure is long ago."""
    if backoff.failures and now - backoff.last_failure >= FORGET_AFTER:
        return BackOff()
    return backoff


def after_failures(
    backoff: BackOff, failed: Sequence[InstanceView], newest_wanted: float, now: float
) -> BackOff:
    """``backoff`` after ``failed`` (each node is given once in its life).

    ``newest_wanted``: when the newest of the pool's instances was wanted.
    """
    if not failed:
        return backoff
    failed_at = min(now, max(instance.state_since for instance in failed))
    if failed_at - backoff.last_failure >= FORGET_AFTER:
        backoff = BackOff()
    reason = _reason(failed)
    counted = replace(
        backoff,
        failures=backoff.failures + len(failed),
        last_failure=max(failed_at, backoff.last_failure),
        reason=reason,
    )
    if backoff.waves and all(instance.wanted_at <= backoff.wave_until for instance in failed):
        return counted
    waves = backoff.waves + 1
    delay = delay_after(waves)
    if waves == 1 and not any(_was_refused(instance) for instance in failed):
        delay = 0.0
    return replace(
        counted,
        waves=waves,
        until=max(backoff.until, failed_at + delay),
        wave_until=max(newest_wanted, backoff.wave_until),
    )


def _was_refused(instance: InstanceView) -> bool:
    """The launch itself failed, as against a machine that came and did not boot."""
    return instance.state in (InstanceState.LAUNCH_FAILED, InstanceState.REJECTED)


def _reason(failed: Sequence[InstanceView]) -> str:
    """The newest failure in words."""
    newest = max(failed, key=lambda instance: (instance.state_since, instance.node_id))
    detail = f": {newest.reason}" if newest.reason else ""
    return f"{newest.node_id} {newest.state.value}{detail}"[:300]
