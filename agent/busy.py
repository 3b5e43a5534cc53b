"""Whether a node's workers have work in hand, judged from what its busy source says. PURE.

What is not known is never idle: a source that fails, is not there, or says something else gives
``busy`` None with a problem, which everybody who could end the node takes for busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.node_role import BusySource


@dataclass(frozen=True, kw_only=True)
class BusyState:
    """``busy`` None: not known, ``problem`` says why. ``spell``: seconds since it became so,
    where the source tells; ``jobs``: in hand, likewise.
    """

    busy: bool | None
    jobs: int | None = None
    spell: float | None = None
    problem: str = ""


IDLE = BusyState(busy=False, jobs=0)
#: The role names no source.
SILENT = BusyState(busy=None)


def unknown(problem: str) -> BusyState:
    """Not known, and so not idle."""
    return BusyState(busy=None, problem=problem)


@dataclass(frozen=True, kw_only=True)
class SeenFile:
    """One busy file. ``age``: seconds since it was changed, None when it is not there."""

    name: str
    age: float | None
    text: str = ""


def by_files(source: BusySource, files: Sequence[SeenFile]) -> BusyState:
    """What the busy files of all workers say together."""
    there = [file for file in files if file.age is not None]
    if source.means == "exists":
        ages = [file.age for file in there if file.age is not None]
        return BusyState(busy=True, spell=max(ages)) if ages else BusyState(busy=False)
    if source.means == "fresh":
        if any(file.age is not None and file.age <= source.max_age for file in there):
            return BusyState(busy=True)
        absent = next((file.name for file in files if file.age is None), "")
        return unknown(f"{absent} is not there yet") if absent else BusyState(busy=False)
    states = [_by_content(source, file) for file in files]
    busy = [state for state in states if state.busy]
    if busy:
        jobs = [1 if state.jobs is None else state.jobs for state in busy]
        return BusyState(busy=True, jobs=sum(jobs), spell=max(state.spell or 0.0 for state in busy))
    in_doubt = next((state for state in states if state.busy is None), None)
    if in_doubt is not None:
        return in_doubt
    if not states:
        return unknown("no worker has a busy file")
    return BusyState(busy=False, jobs=0, spell=min(state.spell or 0.0 for state in states))


def _by_content(source: BusySource, file: SeenFile) -> BusyState:
    if file.age is None:
        return unknown(f"{file.name} is not there yet")
    if source.max_age and file.age > source.max_age:
        return unknown(f"{file.name} was not written for {file.age:.0f} s")
    said = by_words(file.name, file.text)
    return BusyState(busy=said.busy, jobs=said.jobs, spell=file.age, problem=said.problem)


def by_words(name: str, text: str) -> BusyState:
    """``busy``, ``busy 3`` (jobs in hand) or ``idle``; anything else says nothing."""
    words = text.split()[:2]
    if words[:1] == ["idle"]:
        return IDLE
    if words[:1] == ["busy"]:
        count = words[1] if len(words) > 1 else ""
        return BusyState(busy=True, jobs=int(count[:6]) if count.isdecimal() else None)
    return unknown(f"{name} says neither 'busy' nor 'idle'")


def by_exit(code: int | None, tail: str) -> BusyState:
    """0 busy, 1 idle; None: it did not end in time."""
    if code == 0:
        return BusyState(busy=True)
    if code == 1:
        return BusyState(busy=False)
    last = (tail.strip().splitlines() or [""])[-1][:200]
    what = "did not end in time" if code is None else f"ended with {code}, neither 0 nor 1"
    return unknown(f"the busy program {what}" + (f": {last}" if last else ""))


def by_cpu(source: BusySource, readings: Sequence[tuple[float, float]], now: float) -> BusyState:
    """``readings``: (time, percent), oldest first, one of them older than ``over`` seconds."""
    limit = source.cpu or 0.0
    recent = [percent for at, percent in readings if now - at <= source.over]
    if any(not percent < limit for percent in recent):
        return BusyState(busy=True)
    if not recent or not readings or now - readings[0][0] < source.over:
        return unknown(f"the CPU has not been measured for {source.over:g} s yet")
    return BusyState(busy=False)


@dataclass(frozen=True, kw_only=True)
class Spell:
    """Since when (the caller's clock) the node is what ``busy`` says."""

    busy: bool | None
    since: float


def spell_after(spell: Spell | None, state: BusyState, now: float) -> Spell:
    """The spell after ``state`` was seen: the same goes on, or another begins."""
    since = now if state.spell is None else now - state.spell
    if spell is None or spell.busy is not state.busy:
        return Spell(busy=state.busy, since=since)
    return spell if state.spell is None else Spell(busy=state.busy, since=since)
