"""Engines as they must not be, for tests of who contains them."""

from __future__ import annotations

import itertools
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.engines.base import Decision, PoolView


@dataclass(frozen=True)
class Settings:
    """``how`` it misbehaves; ``flag`` is made as soon as it does."""

    how: str = "well"
    flag: str = ""


class Engine:
    Settings = Settings

    def decide(self, view: PoolView) -> Any:
        settings: Settings = view.settings
        if settings.flag:
            Path(settings.flag).touch()
        answer: Any = getattr(self, settings.how)(view)
        return answer

    def well(self, view: PoolView) -> Decision:
        """Wants one more than there are, and remembers how often it was asked."""
        before = view.previous.memory if view.previous else {}
        return Decision(
            size=len(view.supply) + 1,
            reason=f"asked at {view.now!r}",
            victims=tuple(one.node_id for one in view.instances),
            memory={"asked": before.get("asked", 0) + 1, "figure": 0.1 + 0.2},
        )

    def sleep(self, view: PoolView) -> None:
        time.sleep(3600)

    def regex(self, view: PoolView) -> None:
        """Holds the interpreter's lock in C for longer than anybody lives."""
        re.match(r"(a+)+$", "a" * 64 + "b")

    def power(self, view: PoolView) -> None:
        """One bytecode for ever, which no Python signal handler interrupts."""
        print(9 ** (9**9))

    def loop(self, view: PoolView) -> None:
        for _ in itertools.count():
            try:
                time.monotonic()
            except BaseException:
                continue

    def leave(self, view: PoolView) -> None:
        sys.exit(0)

    def crash(self, view: PoolView) -> None:
        import ctypes

        ctypes.string_at(0)

    def broken(self, view: PoolView) -> None:
        raise LookupError("no such thing")

    def absurd(self, view: PoolView) -> Decision:
        return Decision(size=-1, reason="")

    def large(self, view: PoolView) -> Decision:
        return Decision(size=1, reason="", unique_ids={"x" * 2_000_000: {}})
