"""Keep N workers, some of them with variables of their own. PURE.

The original's default engine (``npreserving``). It needs no sensor reading at all, so it
goes on replacing machines that are gone while the sensors service is away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.engines.base import Decision, PoolView

#: More workers than anybody has; a typing error rather than a wish.
MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class NPreservingSettings:
    """``preserve_n`` workers in all; ``unique_instances`` maps an id to its variables.

    Each unique id is exactly one worker, launched (and replaced) with its own variables.
    Raises ValueError for a negative N and for more ids than N.
    """

    preserve_n: int = 0
    unique_instances: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.preserve_n <= MOST:
            raise ValueError(f"preserve_n must be between 0 and {MOST}, not {self.preserve_n}")
        if len(self.unique_instances) > self.preserve_n:
            raise ValueError(
                f"unique_instances names {len(self.unique_instances)} workers, which is more "
                f"than preserve_n ({self.preserve_n})"
            )


class NPreserving:
    """Wants ``preserve_n`` workers, whatever happens."""

    Settings = NPreservingSettings

    def decide(self, view: PoolView) -> Decision:
        """The wanted size is the setting; content when exactly that many are there."""
        settings: NPreservingSettings = view.settings
        wanted = settings.preserve_n
        there = len(view.supply)
        reason = f"preserve_n is {wanted}"
        if there != wanted:
            reason += f", {there} usable or on the way"
        return Decision(
            size=wanted,
            reason=reason,
            stable=there == wanted and not view.pending,
            unique_ids={name: dict(own) for name, own in settings.unique_instances.items()},
        )
