"""What lies in the temporary directory after machines that died: only that is removed."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.clouds.socket_directories import SETTLED, abandoned, remove

MARK = "0123456789abcdef01234567"


@pytest.fixture
def top() -> Iterator[Path]:
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as place:
        yield Path(place)


@pytest.fixture
def directory(top: Path) -> Callable[..., Path]:
    def make(name: str = f"epu-{MARK}") -> Path:
        path = top / name
        path.mkdir(mode=0o700)
        return path

    return make


def listener(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path / "s"))
    found.listen(1)
    return found


def removed(top: Path, age: float = SETTLED * 2) -> list[str]:
    now = max((path.stat().st_mtime for path in top.iterdir()), default=0.0) + age
    found = list(abandoned(now, top))
    for path in found:
        remove(path)
    return [path.name for path in found]


def test_an_empty_one_and_one_whose_socket_nobody_has_go(top, directory):
    directory()
    other = directory("epu-ab12cd3_")
    listener(other).close()
    assert removed(top) == [f"epu-{MARK}", "epu-ab12cd3_"]
    assert list(top.iterdir()) == []


def test_one_in_which_somebody_listens_stays(top, directory):
    with listener(directory()):
        assert removed(top) == []


def test_one_that_is_just_being_started_stays(top, directory):
    directory()
    assert removed(top, age=10.0) == []


@pytest.mark.parametrize("name", ["epu-teardown-ab12cd3_", "epu-", "epu-x", f"epu-{MARK}0"])
def test_what_is_called_otherwise_stays(top, directory, name):
    directory(name)
    assert removed(top) == []


def test_what_holds_anything_else_or_is_open_to_others_stays(top, directory):
    (directory("epu-aaaaaaaa") / "s").write_text("a file")
    (directory("epu-bbbbbbbb") / "data").write_text("somebody's")
    directory("epu-cccccccc").chmod(0o755)
    (top / "epu-dddddddd").symlink_to(top)
    assert removed(top) == []
