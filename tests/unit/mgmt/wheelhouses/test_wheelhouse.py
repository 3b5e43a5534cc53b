"""Wheels of what is installed here: the same files, the same bytes, checked and kept."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import ConfigProblem
from mgmt.wheelhouses import build
from mgmt.wheelhouses.build import build_wheelhouse, needed
from mgmt.wheelhouses.repack import Repacked, repacked
from tests.unit.mgmt.wheelhouses.small import small_wheel
from userdata_templates import bring_up


def heard(_: str) -> None:
    return None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheelhouse of four small wheels instead of sixty: epu's own costs seconds to build."""
    wheel = small_wheel("epu", "1", {"userdata_templates/constraints.txt": "six>=1\n"}, ["six"])
    monkeypatch.setattr(build, "_wheel_of_sources", lambda root: wheel)
    few = [distribution(name) for name in ("pip", "six", "setuptools")]
    monkeypatch.setattr(build, "needed", lambda: few)


def test_a_repacked_wheel_has_the_files_of_the_installed_one_and_a_true_record() -> None:
    wheel = repacked(distribution("click"))
    assert wheel.name == f"click-{distribution('click').version}-py3-none-any.whl"
    with zipfile.ZipFile(_opened(wheel)) as archive:
        names = set(archive.namelist())
        assert "click/core.py" in names
        assert not [name for name in names if name.endswith(("INSTALLER", "direct_url.json"))]
        record = archive.read(next(n for n in names if n.endswith("RECORD"))).decode()
        assert len(record.splitlines()) == len(names)


def _opened(wheel: Repacked) -> io.BytesIO:
    return io.BytesIO(wheel.content)


def test_the_same_installation_gives_the_same_bytes() -> None:
    assert repacked(distribution("six")) == repacked(distribution("six"))


def test_a_package_with_several_tags_keeps_its_name() -> None:
    assert repacked(distribution("six")).name.endswith("-py2.py3-none-any.whl")


def test_files_that_were_changed_after_installation_are_not_handed_on(tmp_path: Path) -> None:
    wheel = repacked(distribution("six"))
    zipfile.ZipFile(_opened(wheel)).extractall(tmp_path)
    [installed] = Distribution.discover(name="six", path=[str(tmp_path)])
    (tmp_path / "six.py").write_text("print('not six')")
    with pytest.raises(ConfigProblem, match=r"six: its file six.py was changed.*reinstall six"):
        repacked(installed)
    (tmp_path / "six.py").unlink()
    with pytest.raises(ConfigProblem, match="six.py can't be read"):
        repacked(installed)


def test_all_that_epu_stands_on_is_needed_and_nothing_that_only_developers_use() -> None:
    names = {one.name.lower() for one in needed()}
    assert {"nameko", "kombu", "supervisor", "pip", "greenlet", "pydantic-core"} <= {
        name.replace("_", "-") for name in names
    }
    assert not {"pytest", "mypy", "moto", "epu"} & names


def test_a_second_build_writes_nothing_and_has_the_same_digest(tmp_path: Path, small: None) -> None:
    first = build_wheelhouse(tmp_path, heard)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = build_wheelhouse(tmp_path, heard)
    assert (first.fresh, second.fresh) == (4, 0)
    assert first.digest == second.digest == _digest(tmp_path / "manifest.json")
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_manifest_says_what_is_there(tmp_path: Path, small: None) -> None:
    build_wheelhouse(tmp_path, heard)
    wheels = json.loads((tmp_path / "manifest.json").read_text())["wheels"]
    assert {path.name for path in tmp_path.glob("*.whl")} == set(wheels)
    assert all(_digest(tmp_path / name) == about["sha256"] for name, about in wheels.items())


def test_what_is_broken_or_missing_is_made_again(tmp_path: Path, small: None) -> None:
    first = build_wheelhouse(tmp_path, heard)
    [six] = tmp_path.glob("six-*")
    six.write_bytes(b"cut off")
    next(tmp_path.glob("epu-*")).unlink()
    second = build_wheelhouse(tmp_path, heard)
    assert second.fresh == 2 and second.digest == first.digest


def test_wheels_of_an_older_version_go_and_other_files_stay(tmp_path: Path, small: None) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "other-1-py3-none-any.whl").write_bytes(b"mine too")
    old = {"six-0.1-py3-none-any.whl": {"source": "six 0.1", "sha256": "x", "size": 1}}
    (tmp_path / "manifest.json").write_text(json.dumps({"wheels": old}))
    (tmp_path / "six-0.1-py3-none-any.whl").write_bytes(b"old")
    build_wheelhouse(tmp_path, heard)
    left = {path.name for path in tmp_path.iterdir()}
    assert "six-0.1-py3-none-any.whl" not in left
    assert {"notes.txt", "other-1-py3-none-any.whl"} <= left


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"wheels": 3}', "\x00"])
def test_a_broken_manifest_is_replaced(text: str, tmp_path: Path, small: None) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert build_wheelhouse(tmp_path, heard).fresh == 4


# ------------------------------------------------------------------ what machines do with it


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """What user-data does on a machine, in a directory of ours instead of /opt/epu."""
    place = tmp_path / "opt-epu"
    monkeypatch.setattr(bring_up, "PLACE", place)

    def of(wheelhouse: str, digest: str = "", requirement: str = "epu") -> Path:
        told = {"python": sys.executable, "requirement": requirement, "index_url": ""}
        bring_up.install({**told, "wheelhouse": wheelhouse, "wheelhouse_sha256": digest})
        return place / "bin" / "python"

    return of


def test_a_machine_installs_from_a_wheelhouse_without_an_index(
    tmp_path: Path, small: None, install: Any
) -> None:
    made = build_wheelhouse(tmp_path / "wheels", heard)
    baked = tmp_path / "baked"
    baked.mkdir()
    (baked / "precious").touch()
    (tmp_path / "opt-epu").symlink_to(baked)  # an image whose own agent is not wanted
    python = install(str(made.directory), made.digest)
    assert (baked / "precious").exists()
    words = [str(python), "-I", "-c", "import six, userdata_templates; print(six.__file__)"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert str(tmp_path / "opt-epu") in done.stdout
    before = (tmp_path / "opt-epu" / "installed.json").stat().st_mtime_ns
    install(str(made.directory), made.digest)
    assert (tmp_path / "opt-epu" / "installed.json").stat().st_mtime_ns == before


def test_a_machine_refuses_a_wheelhouse_that_is_not_the_one_that_was_meant(
    tmp_path: Path, small: None, install: Any
) -> None:
    made = build_wheelhouse(tmp_path / "wheels", heard)
    with pytest.raises(SystemExit, match="is not the one that is meant"):
        install(str(made.directory), "0" * 64)
    [six] = made.directory.glob("six-*")
    six.write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"six-.*is not what its manifest says"):
        install(str(made.directory), made.digest)


@pytest.mark.soak
def test_the_whole_of_epu_installs_from_its_wheelhouse_and_its_agent_starts(
    tmp_path: Path, install: Any
) -> None:
    made = build_wheelhouse(tmp_path / "wheels", heard)
    python = install(str(made.directory), made.digest, f"epu=={distribution('epu').version}")
    words = [str(python.with_name("epu-agent")), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--instance-data" in done.stdout
    check = [str(python), "-m", "mgmt.cli", "samples", "list"]
    assert subprocess.run(check, capture_output=True, timeout=60).returncode == 0
