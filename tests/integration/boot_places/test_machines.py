"""Services on machines of the process cloud, through the API that the commands use."""

from __future__ import annotations

import json
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bootlevels.api import Run
from bootlevels.machine_record import MachineLife
from bootlevels.plan_choices import PlanChoices
from bootlevels.run_changes import changes_of, plan_to_reload
from coordinator.clouds.process import kill_machine

pytestmark = pytest.mark.integration

ONE = """
    plan: one
    clouds: {here: {driver: process}}
    defaults: {timeout: 30s}
    levels:
      - services:
          web:
            cloud: here
            attributes: {word: "it's $HOME", port: "80"}
            bootconf: conf.json
            boot: {run: "./boot.sh 'a b' ''", environment: {X: "x y"}}
            outputs: [seen]
            ready: [{run: [sh, -c, 'test -e "$EPU_PLACE/booted"']}, {file: booted}]
            terminate: {run: [sh, -c, 'rm "$EPU_PLACE/booted"']}
      - services:
          beside:
            on: web
            boot: {run: [sh, -c, 'cd "$EPU_PLACE"; cat booted > beside; test -n "$EPU_MARK"']}
      - services:
          reader:
            attributes: {at: "${web.hostname} ${web.seen} ${beside.instance_id}"}
"""
BOOT = """\
#!/bin/sh
set -e
. ./bootenv.sh
test "$word" = "it's \\$HOME" || { echo "word is $word"; exit 1; }
test "$1,$2,$#,$X,$EPU_SERVICE" = "a b,,2,x y,web"
test "$EPU_NODE_DIR/stage/web-boot" = "$PWD"
echo one > "$EPU_NODE_DIR/booted"
printf '{"seen": "%s", "list": [1, 2]}' "$(cat bootconf.json)" > bootout.json
"""


@pytest.fixture
def one(program: Callable[..., Path], plan_file: Callable[..., Path], tmp_path: Path) -> Path:
    program("boot.sh", BOOT)
    (tmp_path / "conf.json").write_text("p=$port u=${name} $$ r=$hostname")
    return plan_file(ONE)


def test_a_machine_is_launched_booted_verified_and_ended(
    one: Path, home: Path, processes_of: Callable[..., list[str]]
) -> None:
    run = Run.prepare(one)
    assert run.boot().ok, run.boot().failures
    (machine,) = run.machines()
    assert machine.life is MachineLife.LISTED
    seen = run.attributes("web")
    assert seen["seen"] == "p=80 u=web $ r=127.0.0.1"
    assert seen["list"] == "[1, 2]"
    assert seen["hostname"] == seen["private_ip"] == "127.0.0.1"
    assert seen["instance_id"] == machine.cloud_id
    assert run.attributes("reader")["at"] == f"127.0.0.1 {seen['seen']} {machine.cloud_id}"
    node = run.directory / "clouds" / "here" / f"{machine.launch_id}-0"
    assert (node / "beside").read_text() == "one\n"
    assert not list((node / "stage").iterdir())
    assert run.status().ok
    _, wanted = plan_to_reload(run, one, PlanChoices())
    assert changes_of(run, wanted.plan) == (), "what is known of a machine is no change"
    running = processes_of(run.directory, "web")
    assert len(running) == 1, running  # supervisord, no agent
    assert "supervisord" in running[0]
    assert run.terminate().ok
    assert processes_of(run.directory, "web") == []
    assert not (node / "booted").exists()
    assert [m.life for m in run.machines()] == [MachineLife.GONE]


def test_what_a_boot_program_leaves_running_belongs_to_the_machine(
    home: Path, plan_file: Callable[..., Path], processes_of: Callable[..., list[str]]
) -> None:
    run = Run.prepare(
        plan_file("""
        plan: daemons
        clouds: {here: {driver: process}}
        levels:
          - services:
              web:
                cloud: here
                replicas: 2
                boot: {run: [sh, -c, 'setsid sleep 98"$REPLICA"7 & echo $!'],
                       environment: {REPLICA: "${.replica}"}}
        """)
    )
    assert run.boot().ok
    for number in (0, 1):
        assert f"sleep 98{number}7" in processes_of(run.directory, f"web-{number}")
    assert run.terminate().ok
    assert processes_of(run.directory, "web") == []


def test_a_program_that_takes_too_long_dies_with_all_it_started(
    home: Path, plan_file: Callable[..., Path], processes_of: Callable[..., list[str]]
) -> None:
    run = Run.prepare(
        plan_file("""
        plan: slow
        clouds: {here: {driver: process}}
        levels:
          - services:
              web:
                cloud: here
                boot: {run: [sh, -c, 'sleep 9871 & echo begun; sleep 9872'], timeout: 1s}
        """)
    )
    (failure,) = run.boot().failures
    assert failure.text == "the boot program did not end within 1 s and was ended"
    assert failure.tail == ("begun",)
    assert not [c for c in processes_of(run.directory, "web") if "sleep" in c]
    assert run.terminate().ok


def test_a_dead_machine_is_seen_and_its_terminate_program_blocks_nothing(
    home: Path, one: Path
) -> None:
    run = Run.prepare(one)
    assert run.boot().ok
    (machine,) = run.machines()
    kill_machine(run.directory / "clouds" / "here", f"{machine.launch_id}-0")
    status = run.status()
    web = next(service for service in status.services if service.name == "web")
    assert not web.ok
    assert "is GONE" in web.detail
    assert run.terminate().ok
    assert [m.life for m in run.machines()] == [MachineLife.GONE]


def test_a_terminate_program_that_fails_keeps_a_living_machine(
    home: Path, plan_file: Callable[..., Path]
) -> None:
    run = Run.prepare(
        plan_file("""
        plan: keeps
        clouds: {here: {driver: process}}
        levels:
          - services: {web: {cloud: here, terminate: {run: [test, -e, ../../allowed]}}}
        """)
    )
    assert run.boot().ok
    (failure,) = run.terminate().failures
    assert failure.text == "the terminate program ended with exit code 1"
    (machine,) = run.machines()
    assert machine.life is MachineLife.LISTED
    node = run.directory / "clouds" / "here" / f"{machine.launch_id}-0"
    (node / "allowed").touch()
    assert run.terminate().ok
    assert [m.life for m in run.machines()] == [MachineLife.GONE]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_tarball_unpacks_to_a_directory_of_its_name_and_runs(
    home: Path, plan_file: Callable[..., Path], tmp_path: Path, wrapped: bool
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "run.sh").write_text(
        '#!/bin/sh\n. ./bootenv.sh\nprintf \'{"out": "%s %s %s"}\''
        ' "$(cat data)" "$1" "${PWD##*/}" > bootout.json\n'
    )
    (files / "data").write_text("packed")
    with tarfile.open(tmp_path / "prog.tar.gz", "w:gz") as packed:
        packed.add(files, "prog" if wrapped else ".")
    plan = """
        plan: tarball
        clouds: {here: {driver: process}}
        levels:
          - services:
              far: {cloud: here, boot: {run: [./prog.tar.gz, "x y"]}, outputs: [out]}
              near: {local: true, boot: {run: [./prog.tar.gz, "x y"]}, outputs: [out]}
        """
    run = Run.prepare(plan_file(plan))
    outcome = run.boot()
    assert outcome.ok, outcome.failures
    for service in ("far", "near"):
        assert run.attributes(service)["out"] == "packed x y prog"
    assert not list((run.directory / "stage").iterdir())
    assert run.terminate().ok


def test_a_hundred_thousand_lines_are_all_in_the_log(
    home: Path, plan_file: Callable[..., Path]
) -> None:
    run = Run.prepare(
        plan_file("""
        plan: chatty
        clouds: {here: {driver: process}}
        levels: [{services: {web: {cloud: here, boot: {run: "seq 100000"}}}}]
        """)
    )
    assert run.boot().ok
    lines = (run.directory / "logs" / "web.log").read_text().splitlines()
    assert lines == [str(number) for number in range(1, 100_001)]
    assert run.terminate().ok


def test_secrets_are_in_no_record_log_or_listing(
    home: Path, plan_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PW", "hunter's 22/22")
    run = Run.prepare(
        plan_file("""
        plan: secret
        clouds: {here: {driver: process}}
        levels:
          - services:
              web:
                cloud: here
                attributes: {pw: "env:MY_PW"}
                boot:
                  run: [sh, -c, '. ./bootenv.sh; set -x; echo "$PW";
                         printf "{\\"url\\": \\"u:%s@h\\"}" "$pw" > "$EPU_BOOTOUT"']
                  environment: {PW: "env:MY_PW"}
                outputs: [url]
          - services:
              user:
                local: true
                boot:
                  run: [sh, -c, 'test "$1" = "u:$PW@h"', sh, "${web.url}"]
                  environment: {PW: "env:MY_PW"}
        """)
    )
    outcome = run.boot()
    assert outcome.ok, outcome.failures
    assert run.attributes("web")["url"] == "u:hunter's 22/22@h"
    for path in run.directory.rglob("*"):
        if path.is_file():
            assert b"22/22" not in path.read_bytes(), path
    assert run.terminate().ok


def test_a_machine_whose_launch_was_interrupted_is_launched_once(home: Path, one: Path) -> None:
    run = Run.prepare(one)
    stop = threading.Event()

    def watch(moment: object) -> None:
        stop.set()

    from bootlevels.runner import Interrupted

    with pytest.raises(Interrupted):
        run.boot(watch=watch, stop=stop)
    run = Run.prepare(one)
    assert run.boot().ok
    assert len(run.machines()) == 1
    assert run.terminate().ok


def test_the_environment_of_the_boot_tool_does_not_reach_machines(
    home: Path, plan_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top-secret")
    run = Run.prepare(
        plan_file("""
        plan: clean
        clouds: {here: {driver: process}}
        levels: [{services: {web: {cloud: here, boot: {run: env}}}}]
        """)
    )
    assert run.boot().ok
    said = (run.directory / "logs" / "web.log").read_text()
    assert "EPU_NODE_ID=web-" in said
    assert "top-secret" not in said
    assert run.terminate().ok


def test_the_output_document_names_the_machine(home: Path, one: Path) -> None:
    from bootlevels.run_report import described_run

    run = Run.prepare(one)
    assert run.boot().ok
    document = json.loads(json.dumps(described_run(run)))
    (web,) = [s for s in document["services"] if s["name"] == "web"]
    assert web["attributes"]["instance_id"] == run.machines()[0].cloud_id
    assert os.fspath(run.directory) in document["directory"]
    assert run.terminate().ok


def test_a_transport_that_is_local_runs_the_programs_of_a_machine_here(
    home: Path, plan_file: Callable[..., Path], processes_of: Callable[..., list[str]]
) -> None:
    """As classic plans have it (local_exe): the machine is there, its programs are not on it."""
    from dataclasses import replace

    from bootlevels.plan import TransportKind
    from bootlevels.plan_yaml import read_plan

    run = Run.prepare(
        plan_file("""
        plan: here
        clouds: {here: {driver: process}}
        levels:
          - services:
              web:
                cloud: here
                boot: {run: [sh, -c, 'test -z "$EPU_MARK"; echo "$EPU_PLACE" > "$EPU_PLACE/where"']}
          - services: {beside: {on: web, boot: {run: [sh, -c, 'test -n "$EPU_MARK"']}}}
        """)
    )
    plan = read_plan(Path(run.plan.source))
    level = plan.levels[0]
    web = replace(level.services[0], transport=TransportKind.LOCAL)
    changed = replace(plan, levels=(replace(level, services=(web,)), *plan.levels[1:]))
    from bootlevels.record import Record

    record = Record(run.directory, writable=True)
    record.store_plan(changed, {})
    record.close()
    outcome = run.boot()
    assert outcome.ok, outcome.failures
    assert (run.directory / "where").read_text() == f"{run.directory}\n"
    assert processes_of(run.directory, "web")
    assert run.terminate().ok
