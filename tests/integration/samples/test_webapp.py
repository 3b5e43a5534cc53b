"""The sample "webapp", booted for real: a database, two web servers, one counter."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootlevels.plans.webapp.database import postgres_programs

pytestmark = pytest.mark.integration

Eventually = Callable[..., Any]


def needs_postgresql() -> None:
    if postgres_programs() is None:
        reason = "PostgreSQL is not installed (apt-get install postgresql)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(params=["postgresql", "small"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "postgresql":
        needs_postgresql()
    return str(request.param)


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code, problem.read().decode()


def visits(url: str) -> int:
    return int(json.loads(get(f"{url}count")[1])["visits"])


def state(file: Path) -> Any:
    return json.loads(file.read_text())


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def boot(world: Any, kind: str) -> dict[str, dict[str, str]]:
    code, _, err = world.epu("boot", "webapp", "-n", "try", "-g", f"database={kind}")
    assert code == 0, err
    found: dict[str, dict[str, str]] = world.attributes("try")
    return found


def test_both_web_servers_count_in_one_database_and_nothing_is_left(world: Any, kind: str) -> None:
    code, out, err = world.epu("boot", "webapp", "-n", "try", "-g", f"database={kind}")
    assert code == 0, err
    found = world.attributes("try")
    first, second = found["web-0"]["url"], found["web-1"]["url"]
    assert f"web-0: {first}" in out.splitlines()
    assert ("PostgreSQL" in found["database"]["server"]) == (kind == "postgresql")
    assert found["database"]["server"] in out

    assert visits(first) == 0
    assert "1 visits" in get(first)[1]
    assert "2 visits" in get(second)[1]
    assert visits(first) == visits(second) == 2
    assert get(f"{first}no-such-page")[0] == 404

    directory = world.run_directory("try")
    password_file = directory / "database" / "pgpass"
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    password = password_file.read_text().strip().rpartition(":")[2]
    files = [path for path in directory.rglob("*") if path.is_file() and path != password_file]
    assert [path for path in files if password.encode() in path.read_bytes()] == []
    assert not any(password in words for words in world.processes())

    data = Path(state(directory / "database" / "place.json")["data"])
    assert data.exists()
    assert world.epu("terminate", "try", "-q")[0] == 0
    assert world.processes(data) == []
    assert not data.exists()
    assert not listens(found["database"]["listens_at"])


def test_a_killed_database_is_repaired_and_has_forgotten_nothing(world: Any, kind: str) -> None:
    found = boot(world, kind)
    first, second = found["web-0"]["url"], found["web-1"]["url"]
    get(first)
    get(second)
    server = world.run_directory("try") / "database" / "server.json"
    os.kill(state(server)["pid"], signal.SIGKILL)
    code, out, _ = world.epu("status", "try")
    assert code == 1
    assert out.count(" NO ") == 3, "the database and both that need it"
    code, out, err = world.epu("repair", "try")
    assert code == 0, err
    assert "repaired: database" in out
    assert visits(first) == visits(second) == 2
    assert world.epu("status", "try", "-q")[0] == 0


def test_a_killed_web_server_is_replaced_at_its_address_and_the_other_is_left(world: Any) -> None:
    found = boot(world, "small")
    get(found["web-0"]["url"])
    files = [world.run_directory("try") / "web" / f"web-{number}.json" for number in (0, 1)]
    before = [state(file)["pid"] for file in files]
    os.kill(before[0], signal.SIGKILL)
    assert world.epu("repair", "try", "-q")[0] == 0
    after = [state(file)["pid"] for file in files]
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert world.attributes("try")["web-0"]["url"] == found["web-0"]["url"]
    assert visits(found["web-0"]["url"]) == 1


def test_a_boot_that_was_killed_over_a_new_database_leaves_nothing_once_terminated(
    world: Any, eventually: Eventually
) -> None:
    needs_postgresql()
    place = world.run_directory("try") / "database" / "place.json"
    booting = world.start("boot", "webapp", "-n", "try")
    eventually(place.exists, 30)
    booting.kill()
    booting.communicate()
    data = Path(state(place)["data"])
    assert world.epu("terminate", "try", "-q")[0] == 0
    eventually(lambda: world.processes(data) == [], 10, lambda: str(world.processes(data)))
    assert not data.exists()


def test_the_small_server_tells_nobody_without_the_password(world: Any) -> None:
    found = boot(world, "small")
    host, _, port = found["database"]["listens_at"].rpartition(":")
    for question, error in (
        (b'{"password": "guess", "add": 5}\n', "wrong password"),
        (b"nonsense\n", "a question is a line of JSON"),
        (b"[]\n", "a question is a line of JSON"),
    ):
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(question)
            with connection.makefile() as answers:
                assert json.loads(answers.readline()) == {"error": error}
    assert visits(found["web-0"]["url"]) == 0
