"""The one program in user-data: what it says when a machine can't be what it is to be."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from userdata_templates import bring_up


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bring_up, "HOME", tmp_path)
    return tmp_path


def test_one_process_at_a_time_is_at_work_on_a_machine(home: Path) -> None:
    held = bring_up.lock()
    assert held is not None and bring_up.lock() is None
    os.close(held)
    again = bring_up.lock()
    assert again is not None
    os.close(again)


def test_who_comes_second_becomes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = bring_up.lock()
    assert held is not None
    bring_up.run({"python": "/nowhere", "needs": {}, "install": None})
    assert capsys.readouterr().out == "epu: runs already\n"
    os.close(held)


def test_an_image_without_the_agent_is_said_at_once() -> None:
    with pytest.raises(SystemExit, match="this image has no /nowhere/python: bake epu in"):
        bring_up.prepare({"python": "/nowhere/python", "needs": {}, "install": None})


def test_what_a_machine_has_is_not_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(bring_up, "add_package", asked.append)
    needs = {"coreutils": "ls", "no-such-package": "no-such-program"}
    bring_up.prepare({"python": sys.executable, "needs": needs, "install": None})
    assert asked == ["no-such-package"]


# ------------------------------------------------------------------ wheelhouses by http


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing, and fails the first ``failures`` requests as an overloaded server does."""

    failures = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if Quiet.failures > 0:
            Quiet.failures -= 1
            self.send_error(503)
        else:
            super().do_GET()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``served(wheels, lie=False)``: the URL of a wheelhouse with these files."""
    place = tmp_path / "served"
    place.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(place)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def of(wheels: dict[str, bytes], lie: bool = False) -> str:
        about = {n: {"sha256": hashlib.sha256(c).hexdigest()} for n, c in wheels.items()}
        (place / "manifest.json").write_text(json.dumps({"wheels": about}))
        for name, content in wheels.items():
            (place / name).write_bytes(content + b"!" * lie)
        return f"http://127.0.0.1:{server.server_port}"

    yield of
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("end", ["", "/"])
def test_wheels_are_fetched_and_a_server_in_trouble_is_asked_again(
    end: str, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(bring_up.time, "sleep", pauses.append)
    url = served({"a-1-py3-none-any.whl": b"a", "b-1-py3-none-any.whl": b"b"})
    Quiet.failures = 2
    bring_up.copy_wheels(url + end, "", tmp_path / "wheels")
    assert {path.name: path.read_bytes() for path in (tmp_path / "wheels").iterdir()} == {
        "a-1-py3-none-any.whl": b"a",
        "b-1-py3-none-any.whl": b"b",
    }
    assert len(pauses) == 2 and sum(pauses) > 0


def test_a_wheel_that_is_not_what_the_manifest_says_is_refused(served: Any, tmp_path: Path) -> None:
    url = served({"a-1-py3-none-any.whl": b"a"}, lie=True)
    with pytest.raises(SystemExit, match=r"a-1-py3-none-any.whl of http.*is not what its manifest"):
        bring_up.copy_wheels(url, "", tmp_path / "wheels")
    assert not list((tmp_path / "wheels").iterdir())


def test_a_manifest_that_is_not_the_one_that_was_pinned_is_refused(
    served: Any, tmp_path: Path
) -> None:
    url = served({"a-1-py3-none-any.whl": b"a"})
    with pytest.raises(SystemExit, match="is not the one that is meant"):
        bring_up.copy_wheels(url, "0" * 64, tmp_path / "wheels")


def test_no_wheelhouse_at_all_is_said_with_its_url(served: Any, tmp_path: Path) -> None:
    url = served({})
    with pytest.raises(SystemExit, match=r"nowhere/manifest\.json can't be fetched.*404"):
        bring_up.copy_wheels(f"{url}/nowhere", "", tmp_path / "wheels")


def test_a_name_in_a_manifest_leads_nowhere_else(served: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "in").mkdir(parents=True)
    (source / "outside.whl").write_bytes(b"x")
    about = {"../outside.whl": {"sha256": hashlib.sha256(b"x").hexdigest()}}
    (source / "in" / "manifest.json").write_text(json.dumps({"wheels": about}))
    bring_up.copy_wheels(str(source / "in"), "", tmp_path / "wheels")
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == ["outside.whl"]
