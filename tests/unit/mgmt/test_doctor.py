"""What ``epu doctor`` makes of what was seen of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.rpc_client import CallTimeout
from coordinator.vitals import recent_ends, vitals
from mgmt.cli import epu
from mgmt.doctor.evidence import (
    Action,
    Evidence,
    Finding,
    NodeSigns,
    Restarts,
    Vitals,
)
from mgmt.doctor.findings import findings_of, stuck
from mgmt.doctor.look import Place, ask_machines
from mgmt.doctor.machine import ec2_credentials, examine, verdict_line
from mgmt.exit_codes import ExitCode


def status(**other: Any) -> dict[str, Any]:
    return {
        "components": {
            "controller": {"frozen": None},
            "provisioner": {"enabled": True, "stopping": False},
            "sensors": {"blind": False, "presence_source": "event exchange"},
        },
        "missing": {},
        "pools": [{"name": "web", "state": "STABLE", "brake": "NORMAL", "reason": "as wanted"}],
        "progress": {"clouds": {"here": {"problem": ""}}, "accounts_away": None},
        **other,
    }


def seen(**other: Any) -> list[Finding]:
    known = {
        "run": "demo",
        "status": status(),
        "listed": {"n-0": "here"},
        "known": frozenset({"n-0"}),
        "ever": frozenset({"n-0"}),
    }
    return findings_of(Evidence(**{**known, **other}))


def kinds(found: list[Finding]) -> list[str]:
    return [each.kind for each in found]


def test_of_a_system_that_is_well_nothing_is_found():
    assert seen() == []


def test_a_dead_broker_of_this_machine_can_be_started_and_another_only_by_a_person():
    silent: dict[str, Any] = {"status": None, "listed": {}, "known": None, "broker_problem": "dead"}
    (here,) = seen(broker_directory="/b", **silent)
    assert here.repair and here.repair.action is Action.START_BROKER
    assert "epu broker start --dir /b --vhost demo" in here.remedy
    (elsewhere,) = seen(**silent)
    assert elsewhere.repair is None and "epu repair demo" in elsewhere.remedy


def test_workers_of_a_provisioner_that_is_gone_are_listed_and_their_end_is_a_grave_offer():
    (found,) = seen(status=None, silence="", known=None, listed={"n-1": "ec2", "n-0": "ec2"})
    assert "no provisioner answers, and ec2 list 2 workers: n-0, n-1" in found.what
    assert found.repair and found.repair.grave and found.repair.subjects == ("n-0", "n-1")
    (held,) = seen(status=None, known=None, listed={"n-1": "ec2"}, coordinator_runs=True,
                   coordinator_directory="/c")  # fmt: skip
    assert held.repair is None, "a provisioner that hangs is started again by its supervisor"
    assert "epu serve --stop --dir /c, epu doctor demo --fix --yes --end-workers" in held.remedy
    missing = status(missing={"provisioner": "no answer"})
    assert "workers_without_provisioner" in kinds(seen(status=missing, known=None))


def test_a_cloud_that_can_not_be_listed_is_said_and_is_no_empty_one():
    found = seen(status=None, known=None, listed={}, unlisted={"ec2": "no credentials"})
    assert kinds(found) == ["cloud_not_listed"] and "no credentials" in found[0].what
    whole = seen(listed={}, unlisted={"ec2": "no credentials"})
    assert kinds(whole) == ["cloud_not_listed"], "absence from half a listing says nothing"


def test_machines_without_records_and_records_without_machines():
    found = seen(listed={"n-0": "here", "stray-0": "here"}, known=frozenset({"n-0", "lost-0"}))
    assert kinds(found) == ["machine_without_record", "record_without_machine"]
    assert "stray-0" in found[0].what and "lost-0" in found[1].what
    launched_meanwhile = seen(listed={"n-0": "here", "n-1": "here"}, ever=frozenset({"n-0", "n-1"}))
    assert launched_meanwhile == []


def test_an_ended_run_with_machines_left_is_found_and_one_without_is_well():
    gone: dict[str, Any] = {"ended": True, "status": None, "known": None}
    assert kinds(seen(**gone)) == ["machines_left"]
    assert seen(**gone, listed={}) == []


@pytest.mark.parametrize(
    ("change", "kind", "action"),
    [
        ({"components": {"controller": {"frozen": "by hand"}}}, "frozen", Action.UNFREEZE),
        (
            {"components": {"provisioner": {"enabled": False, "stopping": False}}},
            "disabled",
            Action.ENABLE,
        ),
        ({"components": {"provisioner": {"enabled": False, "stopping": True}}}, "stopping", None),
        ({"components": {"sensors": {"blind": True}}}, "blind", None),
        ({"components": {"sensors": {"presence_source": "none"}}}, "no_presence", None),
        ({"missing": {"registrar": "no answer"}}, "silent_component", None),
        ({"progress": {"clouds": {"ec2": {"problem": "refused"}}}}, "cloud_problem", None),
        (
            {"progress": {"accounts_away": {"reason": "the API is away"}, "clouds": {}}},
            "accounts_away",
            None,
        ),
        ({"pools": [{"name": "p", "state": "HELD"}]}, "held_pool", Action.RESUME_POOL),
        ({"pools": [{"name": "p", "state": "FAILED"}]}, "failed_pool", None),
        (
            {"pools": [{"name": "p", "state": "PENDING", "brake": "MELTDOWN"}]},
            "brake",
            Action.RESUME_POOL,
        ),
        (
            {"pools": [{"name": "p", "failing": {"count": 3, "last": "p-1-0 BOOT_FAILED: x"}}]},
            "failing_pool",
            None,
        ),
        (
            {"pools": [{"name": "p", "state": "STABLE", "hold": {"suspend": ["scale_in"]}}]},
            "suspended_pool",
            None,
        ),
        ({"pools": [{"name": "p", "rogues": ["p-1-0"]}]}, "rogue", None),
        (
            {"pools": [{"name": "p", "zombies": [{"node_id": "p-1-0", "cloud": "ec2"}]}]},
            "zombie",
            None,
        ),
    ],
)
def test_what_stands_still_is_found_with_its_repair(change, kind, action):
    (found,) = seen(status=status(**change))
    assert found.kind == kind and found.remedy
    assert (found.repair.action if found.repair else None) is action


def test_pools_that_hold_for_want_of_a_component_are_not_told_beside_it():
    pools = [{"name": "p", "state": "HELD", "reason": "the provisioner does not answer"}]
    silent = status(pools=pools, missing={"sensors": "no answer"})
    assert kinds(seen(status=silent)) == ["silent_component"]


def test_what_a_coordinator_that_is_gone_is_silent_about_is_not_told_piece_by_piece():
    silent = status(missing={"provisioner": "no answer", "controller": "no answer"})
    found = seen(status=silent, listed={}, known=None, coordinator_runs=False)
    assert kinds(found) == ["no_coordinator"]


def test_in_the_middle_of_a_teardown_nobody_is_told_to_let_the_pools_decide_again():
    frozen = status(components={"controller": {"frozen": "teardown"}})
    (found,) = seen(status=frozen, half_torn_down=True)
    assert found.kind == "half_torn_down" and found.repair is None


def test_a_pool_that_is_held_because_all_are_is_not_told_again():
    frozen = status(
        components={"controller": {"frozen": "x"}}, pools=[{"name": "p", "state": "HELD"}]
    )
    assert kinds(seen(status=frozen)) == ["frozen"]


def late(state: str, **other: Any) -> dict[str, Any]:
    return {"node_id": "n-0", "state": state, "now": 10_000.0, "state_since": 9_000.0, **other}


@pytest.mark.parametrize(
    ("node", "is_stuck"),
    [
        (late("BOOTING", boot_deadline=9_900.0), True),
        (late("BOOTING", boot_deadline=9_990.0), False),
        (late("BOOTING", boot_deadline=None), False),
        (late("LAUNCHING", launch_deadline=9_000.0), True),
        (late("DRAINING", drain_deadline=9_000.0), True),
        (late("DRAINING", drain_deadline=11_000.0), False),
        (late("TERMINATING"), True),
        (late("TERMINATING", state_since=9_900.0), False),
        (late("BOOT_FAILED", kept_until=12_000.0), False),
        (late("BOOT_FAILED"), True),
    ],
)
def test_a_node_is_stuck_past_its_deadline_and_not_before(node, is_stuck):
    assert bool(stuck(node)) is is_stuck
    assert kinds(seen(late=(node,))) == (["stuck_node"] if is_stuck else [])


def test_machines_are_not_ended_in_the_same_breath_as_their_provisioner_is_started(
    tmp_path, monkeypatch
):
    """What was without a provisioner a moment ago may be at work, and looked after again."""
    done: list[Action] = []
    dead = Evidence(
        run="demo",
        broker_problem="the broker does not answer",
        broker_directory="/b",
        coordinator_runs=False,
        coordinator_directory="/c",
        listed={"web-1-0": "here"},
    )
    monkeypatch.setattr("mgmt.doctor.look.look", lambda place: dead)
    monkeypatch.setattr("mgmt.doctor.look.place_of", lambda run: Place(run, None, None))
    monkeypatch.setattr(
        "mgmt.doctor.repairs.perform", lambda repair, place: str(done.append(repair.action))
    )
    words = ["doctor", "demo", "--fix", "--yes", "--end-workers"]
    result = CliRunner().invoke(epu, words, prog_name="epu")
    assert done == [Action.START_BROKER, Action.START_COORDINATOR]
    assert result.exit_code == ExitCode.PROBLEM
    assert "look again first" in result.stderr and "2 repaired" in result.stdout


def test_clocks_disks_and_loops():
    loop = {"controller": Restarts(3, "OperationalError: disk is full"), "sensors": Restarts(2)}
    found = seen(
        vitals=(Vitals(ahead=-5.0, free=10, total=1000, restarts=loop),),
        disk_here=(11, 1000),
        coordinator_directory="/here",
        nodes={"n-0": NodeSigns(ahead=3.0, disk_percent=99.0), "n-1": NodeSigns(ahead=1.0)},
    )
    assert kinds(found) == ["full_disk", "restart_loop", "clock_skew", "clock_skew", "full_disk"]
    assert "the disk of this machine" in found[0].what, "first: a full disk stops all else"
    assert "controller ended 3 times" in found[1].what and "disk is full" in found[1].what
    assert "5.0 s behind" in found[2].what and "n-0 is 3.0 s ahead" in found[3].what


def test_of_several_machines_with_a_coordinator_each_is_named():
    loop = {"controller-a": Restarts(3)}
    first = Vitals(host="base", services=("management", "provisioner"), ahead=0.1)
    other = Vitals(host="box-a", services=("controller-a",), ahead=9.0, free=1, total=9,
                   restarts=loop)  # fmt: skip
    found = seen(vitals=(first, other))
    assert kinds(found) == ["full_disk", "restart_loop", "clock_skew"]
    assert all("on box-a (controller-a)" in each.what for each in found)


def test_whoever_can_tell_how_a_machine_is_gets_asked_and_is_named_there(tmp_path: Path):
    silent, asked = {"registrar"}, []

    def call(service: str, method: str, *args: object, timeout: float = 0) -> object:
        asked.append(service)
        if (service, method) == ("provisioner", "keepers"):
            return ["a"]
        if service in silent:
            raise CallTimeout(service)
        host = "box-a" if service == "controller-a" else "base"
        return {**vitals(tmp_path, time.time()), "host": host}

    found = {one.host: one for one in ask_machines(call)}
    assert found["base"].services == ("management", "provisioner", "controller", "sensors")
    assert found["box-a"].services == ("controller-a",)
    assert all(abs(one.ahead or 0.0) < 5 and one.total for one in found.values())
    assert "registrar" in asked


def test_what_only_the_provisioner_can_list_is_told_from_its_own_last_listing():
    cloud = {"problem": "", "strays": {"i-1": 3.0}, "absent": {"n-1": 300.0, "n-2": 3.0}}
    told = status(progress={"clouds": {"west": cloud}, "accounts_away": None})
    found = seen(status=told, listed={}, known=None, ever=frozenset())
    assert kinds(found) == ["machine_without_record", "record_without_machine"]
    assert "i-1" in found[0].what and "west" in found[0].what and found[0].repair is None
    assert "n-1" in found[1].what and "n-2" not in found[1].what, "it may only just be launched"


# ------------------------------------------------------------------ looking


def test_ends_of_processes_are_counted_as_long_as_they_are_recent():
    now = time.time()

    def line(age: float, text: str) -> str:
        moment = time.localtime(now - age)
        # As supervisord writes it: an end that nobody expected is a warning.
        level = "WARN" if "not expected" in text else "INFO"
        return f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)},123 {level} {text}"

    lines = [
        line(9000, "exited: controller (exit status 1; not expected)"),
        line(300, "exited: controller (exit status 1; not expected)"),
        line(200, "spawned: 'controller' with pid 7"),
        line(100, "exited: controller (terminated by SIGKILL; not expected)"),
        line(50, "exited: sensors (exit status 0; expected)"),
        "a line of another kind",
    ]
    assert recent_ends(lines, now) == {"controller": 2, "sensors": 1}


def test_the_last_words_of_a_process_that_ended_are_told_without_a_password(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    at = time.strftime("%Y-%m-%d %H:%M:%S")
    ended = f"{at},1 WARN exited: controller (exit status 1; not expected)\n"
    (tmp_path / "logs" / "supervisord.log").write_text(ended)
    (tmp_path / "logs" / "controller.log").write_text("x\ncan't reach amqp://me:s3cr3t@h/v\n\n")
    told = vitals(tmp_path, time.time())
    last = {"count": 1, "last": "can't reach amqp://me:***@h/v"}
    assert told["restarts"] == {"controller": last}
    assert told["free"] <= told["total"]


def test_what_is_wanted_from_a_machine_decides_what_it_lacks(monkeypatch, tmp_path: Path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    lacking = {each.name for each in examine(frozenset({"qemu", "ec2"})) if each.mark == "MISSING"}
    assert {"qemu-system-x86_64", "EC2 credentials"} <= lacking
    assert all(each.remedy and each.needed_by for each in examine())
    line = verdict_line(examine(frozenset({"ec2"})))
    assert line.startswith("NOT OK: this machine lacks") and "EC2 credentials" in line
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    assert ec2_credentials() == "environment"
