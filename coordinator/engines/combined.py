"""Several engines for one pool. PURE.

The highest wish wins when any engine wants more than there is; fewer only when all want
fewer, and then the highest of those. An engine that holds wants what is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from coordinator.engines.base import Decision, DecisionEngine, EngineParser, PoolView
from coordinator.engines.queue_sight import kept_size


@dataclass(frozen=True)
class Member:
    """One engine of several: its name in the section, itself, its settings."""

    name: str
    engine: DecisionEngine
    settings: Any


@dataclass(frozen=True)
class CombinedSettings:
    """The engines in the order in which they were named."""

    members: tuple[Member, ...]

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that any member follows."""
        named = [getattr(one.settings, "queue", "") for one in self.members]
        named += [queue for one in self.members for queue in getattr(one.settings, "queues", ())]
        return tuple(dict.fromkeys(queue for queue in named if queue))


@dataclass(frozen=True, kw_only=True)
class CombinedSection:
    """``engines``: a section like the pool's own ``engine:`` for each, by a name of its own."""

    engines: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        if not self.engines:
            raise ValueError("engines must name at least one engine")
        if len(self.engines) > 20:
            raise ValueError(f"engines may be at most 20, not {len(self.engines)}")

    def with_engines(self, parse: EngineParser) -> CombinedSettings:
        """The settings with every member parsed; see ``EngineParser``."""
        return CombinedSettings(
            tuple(
                Member(name, *parse(section, f"engines.{name}"))
                for name, section in self.engines.items()
            )
        )


class Combined:
    """See the module's docstring."""

    Settings = CombinedSection

    def decide(self, view: PoolView) -> Decision:
        """The members' wishes as one. A member that raises fails all of it."""
        settings: CombinedSettings = view.settings
        wishes = [(one, _ask(one, view)) for one in settings.members]
        there, keep = len(view.supply), kept_size(view)
        sizes = {
            one.name: max(wish.size, there) if wish.held else wish.size for one, wish in wishes
        }
        highest = max(sizes.values())
        first = next(one.name for one in settings.members if sizes[one.name] == highest)
        leading = next(wish for one, wish in wishes if one.name == first)
        reason = "; ".join(
            f"{one.name} {'holds' if wish.held else f'wants {wish.size}'}: {wish.reason}"
            for one, wish in wishes
        )
        held = all(wish.held for _, wish in wishes)
        return Decision(
            size=keep if held else highest,
            reason=f"{first} leads: {reason}" if len(wishes) > 1 and not held else reason,
            victims=leading.victims,
            # Who wants fewer waits for the others: only those who lead can be discontent.
            stable=highest == there
            and all(wish.stable for one, wish in wishes if sizes[one.name] == highest),
            held=held,
            unique_ids=leading.unique_ids,
            memory={one.name: wish.memory for one, wish in wishes},
            seen={one.name: wish.seen for one, wish in wishes},
        )


def _ask(member: Member, view: PoolView) -> Decision:
    previous = view.previous
    if previous is not None:
        own, seen = previous.memory.get(member.name), previous.seen.get(member.name)
        previous = replace(
            previous,
            memory=own if isinstance(own, dict) else {},
            seen=seen if isinstance(seen, dict) else {},
        )
    return member.engine.decide(replace(view, settings=member.settings, previous=previous))
