"""The history of a run from wherever it can be had: its components, or else their log files.

A component that is down is named, and what it wrote is read from its log files where those
are on this machine. So a system whose broker is dead, or that was torn down, still tells
what happened to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.keeper_names import controller_name
from agent.messages import Event
from agent.rpc_client import BrokerUnreachable, CallFailed
from agent.wire import from_wire
from coordinator.errors import EpuError
from mgmt.answers import Call, ask
from mgmt.event_files import FileEvents, component_logs, distinct, read_event_files
from mgmt.history import SOURCES, events, fits, newest_of
from mgmt.keepers import dedicated_pools

_OWN_CONTROLLERS = f"logs/{controller_name('*')}.log"


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which events are wanted; None passes everything. ``limit``: the newest so many."""

    since: float | None = None
    pool: str | None = None
    node: str | None = None
    name: str | None = None
    limit: int = 200

    @property
    def words(self) -> tuple[float | None, str | None, str | None, str | None, int]:
        """As the ``management`` service takes them."""
        return (self.since, self.pool, self.node, self.name, self.limit)

    def fit(self, found: Iterable[Event]) -> list[Event]:
        """Those that pass."""
        return [one for one in found if fits(one, self.since, self.pool, self.node, self.name)]


@dataclass(frozen=True)
class LogPlace:
    """Where the logs of a run are on this machine; None where they are not here."""

    state_dir: Path | None = None
    run_directory: Path | None = None

    def of(self, source: str) -> list[Path]:
        """The log files of one source, oldest first."""
        return [log for place in self._coordinators() for log in component_logs(place, source)]

    def own_controllers(self) -> list[str]:
        """The names of controllers of single pools that have logged here."""
        logs = (log for place in self._coordinators() for log in place.glob(_OWN_CONTROLLERS))
        return sorted({log.stem for log in logs})

    def _coordinators(self) -> list[Path]:
        """The directories of ``epu serve``: there may be several in a run's."""
        more = self.run_directory.glob("*/supervisord.conf") if self.run_directory else ()
        found = [self.state_dir] if self.state_dir else []
        return found + sorted({conf.parent for conf in more} - set(found))

    def of_command(self) -> list[Path]:
        """The logs that commands of this machine wrote, such as a teardown's."""
        found = self.run_directory / "logs" / "teardown.log" if self.run_directory else None
        return [found] if found is not None and found.is_file() else []


def ask_events(
    call: Call, filters: Filters, after: Mapping[str, int] | None, timeout: float
) -> dict[str, Any]:
    """The answer of ``management``, or of the components themselves when it is down.

    Raises BrokerUnreachable, and what else ``ask`` raises when nobody at all answers.
    """
    try:
        found: dict[str, Any] = ask(
            call, "management", "events", *filters.words, after, timeout=timeout
        )
    except BrokerUnreachable:
        raise
    except CallFailed as problem:
        found = events(call, *filters.words, after, dedicated_pools(call))
        if found["missing"].keys() >= set(SOURCES):
            raise
        found["missing"]["management"] = str(problem)
    return found


def with_files(document: dict[str, Any], filters: Filters, place: LogPlace) -> dict[str, Any]:
    """``document``, completed from the log files of components that did not answer.

    ``from_files`` names those; they stay under ``missing``, as a log may end before the
    crash does. ``broken``: lines of the files that can't be read.
    """
    read: dict[str, FileEvents] = {}
    missing = dict(document["missing"])
    for source in document["missing"]:
        if paths := place.of(source):
            try:
                read[source] = read_event_files(paths)
            except (OSError, EpuError) as problem:
                missing[source] += f"; its log can't be read: {problem}"
    if commands := place.of_command():
        read["teardown"] = read_event_files(commands)
    told = [from_wire(Event, each) for each in document["events"]]
    from_files = filters.fit(event for each in read.values() for event in each.events)
    both = newest_of(distinct([*told, *from_files]), filters.limit)
    return {
        **document,
        **both,
        "omitted": document["omitted"] + both["omitted"],
        "missing": missing,
        "from_files": sorted(set(read) & set(missing)),
        "broken": [line for each in read.values() for line in each.broken],
    }


def all_from_files(why: str, filters: Filters, place: LogPlace) -> dict[str, Any]:
    """The history when nobody can be asked: ``why`` is the reason for each source."""
    sources = (*SOURCES, *place.own_controllers())
    nothing = {"events": [], "omitted": 0, "missing": dict.fromkeys(sources, why), "cursor": {}}
    return with_files(nothing, filters, place)


def of_files(paths: Iterable[Path], filters: Filters) -> dict[str, Any]:
    """The history that any log files hold. Raises NotFound, OSError."""
    found = read_event_files(paths)
    return {
        **newest_of(filters.fit(distinct(found.events)), filters.limit),
        "missing": {},
        "cursor": {},
        "from_files": [],
        "broken": found.broken,
    }
