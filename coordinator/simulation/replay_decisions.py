"""Recorded decisions, decided once more by the engines and bounds that are here now.

What comes out must be equal to what was stored, to the last bit and word. A difference is a
finding: another version, another engine, or a decision that hung on more than its view.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.wire import MalformedMessage
from coordinator.controller.decision import decide
from coordinator.controller.engine_process import EngineProcess, engine_for
from coordinator.controller.recording import Recording, answer_of, recorded
from coordinator.engines.base import DecisionEngine
from coordinator.pool_spec import PoolSpec, parse_pool, unchecked


@dataclass(frozen=True)
class Difference:
    """One value of a decision (``wish.size``, ``bounds.max`` …) that is another one now."""

    what: str
    then: Any
    now: Any


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One recorded decision and how it compares. ``problem``: why it can't be replayed."""

    pool: str
    at: float
    size: int | None = None
    differences: tuple[Difference, ...] = ()
    problem: str = ""

    @property
    def is_same(self) -> bool:
        return not self.problem and not self.differences


class Replayer:
    """Replays decisions; engines that are not ours have ``deadline`` seconds for each.

    To be closed: such engines run in processes.
    """

    def __init__(self, deadline: float = 5.0) -> None:
        self._deadline = deadline
        self._kept: dict[str, tuple[PoolSpec, DecisionEngine]] = {}

    def replay(self, pool: str, at: float, recording: str) -> Replayed:
        """Decide again what was decided ``at`` a time. Never raises for what was recorded."""
        try:
            found = recorded(recording)
            spec, engine = self._engine(pool, found)
        except MalformedMessage as problem:
            return Replayed(pool=pool, at=at, problem=str(problem))
        except Exception as problem:  # its section may name an engine that is gone, or anything
            return Replayed(pool=pool, at=at, problem=f"its section can't be used now: {problem}")
        decision = decide(engine, found.limits(spec))
        return Replayed(
            pool=pool,
            at=at,
            size=found.answer.get("size"),
            differences=tuple(differences(found.answer, answer_of(decision))),
        )

    def close(self) -> None:
        """End engines' processes."""
        for _, engine in self._kept.values():
            if isinstance(engine, EngineProcess):
                engine.close()
        self._kept.clear()

    def _engine(self, pool: str, found: Recording) -> tuple[PoolSpec, DecisionEngine]:
        key = json.dumps([pool, found.section], sort_keys=True)
        if key not in self._kept:
            spec = parse_pool(pool, found.section, foreign=unchecked)
            self._kept[key] = spec, engine_for(spec, self._deadline)
        spec, engine = self._kept[key]
        if isinstance(engine, EngineProcess):
            engine.load()
        return spec, engine


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """What is not equal in two answers, by dotted names; bounds by their own."""
    yield from _compared("", _by_name(then), _by_name(now))


def _by_name(answer: Mapping[str, Any]) -> dict[str, Any]:
    bounds = {
        str(name): {"size": size, "reason": reason}
        for name, size, reason in answer.get("bounds", ())
    }
    return {**answer, "bounds": bounds}


def _compared(prefix: str, then: Any, now: Any) -> Iterator[Difference]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*then, *now)):
            yield from _compared(f"{prefix}.{key}" if prefix else key, then.get(key), now.get(key))
    elif then != now:
        yield Difference(prefix, then, now)
