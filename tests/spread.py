"""How tests are spread over processes: whole files, those that wait beside those that compute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

#: Tests with pools of their own in one system, which is started once in each process that sees
#: one of them: a broker and five services each time.
SHARE_A_SYSTEM = "tests/e2e/calm/"
SHARED = "the shared system"
#: Whole systems and real processes: they wait for most of their time.
WAITING = ("tests/e2e/", "tests/integration/", SHARED)
#: The longest of these, a minute and more.
LONGEST = (
    SHARED,
    "tests/e2e/test_crashes.py",
    "tests/integration/test_provisioner_killed.py",
    "tests/integration/samples/test_webapp.py",
    "tests/e2e/test_bad_input.py",
    "tests/integration/test_boot_interrupted.py",
)
#: What computes for long.
COMPUTING = ("tests/interrupted/", "tests/simulation/")
#: The share of files that only compute which is kept for the end, when no long file may begin.
KEPT_FOR_THE_END = 0.3


def scope_of(nodeid: str) -> str:
    """What runs together: a file's tests, or those of several that share a system."""
    file = nodeid.split("::", 1)[0]
    return SHARED if file.startswith(SHARE_A_SYSTEM) else file


def mixed(nodeids: Iterable[str]) -> list[str]:
    """Scopes in the order in which they begin: waiting ones and computing ones by turns."""
    scopes = list(dict.fromkeys(scope_of(nodeid) for nodeid in nodeids))
    waiting = [scope for scope in LONGEST if scope in scopes]
    waiting += [one for one in scopes if one.startswith(WAITING) and one not in waiting]
    others = [scope for scope in scopes if scope not in waiting]
    others.sort(key=lambda scope: not scope.startswith(COMPUTING))
    per_turn = round((1 - KEPT_FOR_THE_END) * len(others) / max(len(waiting), 1))
    order: list[str] = []
    for turn, scope in enumerate(waiting):
        order += [scope, *others[turn * per_turn : (turn + 1) * per_turn]]
    return order + others[len(waiting) * per_turn :]


def turned(directory: Path, number: int, of: int) -> list[str]:
    """What is in ``directory``, beginning elsewhere in each of ``of`` processes.

    In a fresh clone nothing is compiled: who comes to a file first does it for all. If all began
    at the same one, each would do it for itself (15 s of processor time more, with four).
    """
    found = [one for one in directory.iterdir() if one.is_dir() or one.name.startswith("test_")]
    for large in ("unit", "coordinator"):
        inner = next(one for one in found if one.name == large)
        found.remove(inner)
        found += [one for one in inner.iterdir() if one.is_dir() or one.name.startswith("test_")]
    paths = sorted(str(one) for one in found if not one.name.startswith("__"))
    first = number * len(paths) // of
    return paths[first:] + paths[:first]


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """``items`` by their scopes as ``mixed`` has them, in the same order wherever one began."""
    by_file = sorted(items, key=lambda item: item.nodeid.split("::", 1)[0])
    place = {scope: number for number, scope in enumerate(mixed(one.nodeid for one in by_file))}
    return sorted(by_file, key=lambda item: place[scope_of(item.nodeid)])


class Spread(LoadFileScheduling):  # type: ignore[misc]
    """As ``--dist loadfile``, in the order of the collection.

    By the number of its tests, as is usual, the longest file comes last, when nothing else is
    left to be done beside it.
    """

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
