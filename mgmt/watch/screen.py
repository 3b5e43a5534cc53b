"""What ``epu watch`` shows and what keys do to it. PURE.

A screen is made from the last documents of ``management``; nothing is remembered but where
the reader is. Whatever is shown says how old it is: an old picture is never taken for now.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mgmt.pool_words import count_of, reason_of

KEYS = "↑↓ j k choose · enter or → open · esc or ← back · q quit"
UP, DOWN, OPEN, BACK, QUIT, FIRST, LAST = "up", "down", "open", "back", "quit", "first", "last"
#: What a terminal sends → what it means.
KEY_NAMES = {
    "k": UP, "\x1b[A": UP, "\x1bOA": UP, "\x10": UP,
    "j": DOWN, "\x1b[B": DOWN, "\x1bOB": DOWN, "\x0e": DOWN,
    "\r": OPEN, "\n": OPEN, "l": OPEN, "\x1b[C": OPEN, "\x1bOC": OPEN,
    "\x1b": BACK, "h": BACK, "\x1b[D": BACK, "\x1bOD": BACK, "\x7f": BACK,
    "g": FIRST, "\x1b[H": FIRST, "\x1b[1~": FIRST,
    "G": LAST, "\x1b[F": LAST, "\x1b[4~": LAST,
    "q": QUIT, "Q": QUIT, "\x03": QUIT, "\x04": QUIT,
}  # fmt: skip
#: Lines of every view that are no rows: the title, the columns' names, blanks around the list.
_AROUND = 4
#: States of machines that are no more.
_OVER = frozenset({"TERMINATED", "LAUNCH_FAILED", "REJECTED"})
#: Seconds after which what is shown is called old.
OLD = 3.0


@dataclass(frozen=True)
class Place:
    """Where the reader is: the chosen pool by name, one opened or none, lines scrolled."""

    chosen: str = ""
    opened: str = ""
    scrolled: int = 0
    left: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is known: documents of ``management``, their age, s, and why there are no newer ones.

    ``pool`` and ``events`` are of the opened pool.
    """

    run: str
    status: Mapping[str, Any]
    pool: Mapping[str, Any] | None = None
    events: Sequence[Mapping[str, Any]] = ()
    age: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the list. ``chosen``: under the reader's hand."""

    cells: tuple[str, ...]
    chosen: bool = False


@dataclass(frozen=True)
class View:
    """Everything that is drawn: lines, one list, and lines below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    empty: str = "nothing"
    #: Columns that a narrow terminal does without.
    spare: tuple[str, ...] = ()


def split_keys(text: str) -> list[str]:
    """What was typed, key by key: a cursor key is several characters."""
    keys, rest = [], text
    while rest:
        found = max((key for key in KEY_NAMES if rest.startswith(key)), key=len, default=rest[0])
        keys.append(found)
        rest = rest[len(found) :]
    return keys


def pressed(place: Place, key: str, picture: Picture) -> Place:
    """Where the reader is after a key; one without a meaning changes nothing."""
    names = pool_names(picture)
    match KEY_NAMES.get(key):
        case "quit":
            return replace(place, left=True)
        case "up" | "down" as way if place.opened:
            step = 1 if way == DOWN else -1
            most = max(len((picture.pool or {}).get("instances") or ()) - 1, 0)
            return replace(place, scrolled=min(max(place.scrolled + step, 0), most))
        case "up" | "down" as way if names:
            at = names.index(place.chosen) if place.chosen in names else 0
            step = 1 if way == DOWN else -1
            if place.chosen not in names:
                step = 0
            return replace(place, chosen=names[min(max(at + step, 0), len(names) - 1)])
        case "first" | "last" as end if names and not place.opened:
            return replace(place, chosen=names[0 if end == FIRST else -1])
        case "open" if names and not place.opened:
            chosen = place.chosen if place.chosen in names else names[0]
            return replace(place, chosen=chosen, opened=chosen, scrolled=0)
        case "back" if place.opened:
            return replace(place, opened="", scrolled=0)
    return place


def pool_names(picture: Picture) -> list[str]:
    """The pools, in the order in which they are listed."""
    return sorted(str(pool["name"]) for pool in picture.status.get("pools") or ())


def view_of(place: Place, picture: Picture, height: int, width: int = 80) -> View:
    """What is drawn in ``height`` lines of ``width`` characters."""
    if place.opened and picture.pool is not None and picture.pool.get("name") == place.opened:
        return _pool_view(place, picture, height, width)
    return _list_view(place, picture, height, width)


def _list_view(place: Place, picture: Picture, height: int, width: int) -> View:
    pools = sorted(picture.status.get("pools") or (), key=lambda pool: str(pool["name"]))
    names = [str(pool["name"]) for pool in pools]
    chosen = place.chosen if place.chosen in names else (names[0] if names else "")
    at = names.index(chosen) if chosen else 0
    why = f"{chosen}: {reason_of(pools[at])}" if pools else ""
    below = [*_wrapped(why, width), "", KEYS]
    warnings = _warnings(picture, width)
    room = max(height - _AROUND - 1 - len(warnings) - len(below), 1)
    first = max(0, at - room + 1)
    rows = [
        Row(
            (
                str(pool["name"]),
                str(pool.get("state")),
                *(
                    _cell(count_of(pool, key))
                    for key in ("wanted", "running", "pending", "draining")
                ),
                _cell(count_of(pool, "unhealthy")),
                _cell(pool.get("brake")),
                reason_of(pool),
            ),
            chosen=pool["name"] == chosen,
        )
        for pool in pools[first : first + room]
    ]
    columns = ("POOL", "STATE", "WANT", "RUN", "PEND", "DRAIN", "UNHEALTHY", "BRAKE", "REASON")
    return View(
        title=_title(picture),
        above=(_machines(picture),),
        columns=columns,
        rows=tuple(rows),
        warnings=warnings,
        below=tuple(below),
        empty="no pools",
        spare=("BRAKE", "DRAIN", "PEND"),
    )


def _pool_view(place: Place, picture: Picture, height: int, width: int) -> View:
    pool = picture.pool or {}
    readings = ", ".join(
        f"{name} = {reading['value']:g}" for name, reading in sorted(_readings(pool).items())
    )
    cells = {key: _cell(pool.get(key)) for key in ("wanted", "min", "max", "brake")}
    engine = _cell((pool.get("engine") or {}).get("type"))
    above = [
        *_wrapped(f"pool {pool['name']} is {pool.get('state')}: {reason_of(pool)}", width),
        f"engine {engine}, wanted {cells['wanted']} of {cells['min']} to {cells['max']},"
        f" brake {cells['brake']}",
        *_wrapped(f"readings  {readings}" if readings else "", width),
    ]
    told = [
        "  ".join((_clock(event), *(_cell(event.get(key)) for key in ("name", "node", "reason"))))
        for event in picture.events[-6:]
    ]
    instances = list(pool.get("instances") or ())
    warnings = _warnings(picture, width)
    # Nodes first: on a small terminal the history gives way.
    told = told[max(0, len(told) + _AROUND + len(above) + len(warnings) + 5 - height) :]
    room = max(height - _AROUND - len(above) - len(warnings) - len(told) - 2, 1)
    shown = instances[place.scrolled : place.scrolled + room]
    hidden = len(instances) - len(shown)
    rows = [
        Row(
            (
                str(node["node_id"]),
                str(node.get("state")),
                _cell(node.get("health")),
                {True: "busy", False: "idle"}.get(node.get("busy"), "-"),
                _age(node.get("age")),
                _cell(node.get("reason")),
            )
        )
        for node in shown
    ]
    more = [f"{len(instances)} nodes, {hidden} not shown (j k)"] if hidden else []
    return View(
        title=_title(picture),
        above=tuple(above),
        columns=("NODE", "STATE", "HEALTH", "WORK", "AGE", "REASON"),
        rows=tuple(rows),
        warnings=warnings,
        below=(*more, *told, KEYS),
        empty="no nodes",
        spare=("WORK", "HEALTH"),
    )


def changes(before: Mapping[str, str], picture: Picture) -> dict[str, str]:
    """A line for each pool, and for each problem, that says something else than ``before``.

    For readers that are no terminal. The result is to be the next ``before``, merged.
    """
    now = {
        f"pool {pool['name']}": f"{pool['name']}: {pool.get('state')}, "
        f"{pool.get('running')} running of {pool.get('wanted')}, {pool.get('pending')} pending, "
        f"{pool.get('draining')} draining ({pool.get('reason')})"
        for pool in picture.status.get("pools") or ()
    }
    now |= {f"problem {text}": text for text in _warnings(picture)}
    return {key: text for key, text in now.items() if before.get(key) != text}


def _title(picture: Picture) -> str:
    title = f"run {picture.run}"
    if picture.age > OLD:
        title += f" · as it was {_age(picture.age)} ago"
    return title


def _machines(picture: Picture) -> str:
    states = (picture.status.get("progress") or {}).get("states") or {}
    there = sorted((state, n) for state, n in states.items() if n and state not in _OVER)
    counted = ", ".join(f"{n} {state}" for state, n in there)
    return f"machines: {counted or 'none'}"


def _warnings(picture: Picture, width: int = 10_000) -> tuple[str, ...]:
    told = [str(text) for text in picture.status.get("problems") or ()]
    said = (*([picture.problem] if picture.problem else []), *told[:5])
    return tuple(line for text in said for line in _wrapped(text, width))


def _wrapped(text: str, width: int) -> list[str]:
    """At most two lines of it."""
    return textwrap.wrap(
        " ".join(text.split()), max(width, 20), max_lines=2, placeholder=" …",
        break_on_hyphens=False,
    )  # fmt: skip


def _readings(pool: Mapping[str, Any]) -> dict[str, Any]:
    return dict(pool.get("readings") or {})


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else " ".join(str(value).split())


def _age(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return "-"
    whole = max(int(seconds), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def _clock(event: Mapping[str, Any]) -> str:
    return str(event.get("clock") or "")
