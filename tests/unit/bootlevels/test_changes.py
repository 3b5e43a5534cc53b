"""Repair, reload, reboot, history and clean of real programs on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bootlevels.api import Run
from bootlevels.boot_sequence import ServiceState
from bootlevels.moments import Moment
from bootlevels.plan_choices import PlanChoices
from bootlevels.plan_diff import ChangeKind
from bootlevels.run_changes import changes_of, plan_to_reload, reboot_run, reload_run
from bootlevels.run_history import clean, history_of, lives_of
from bootlevels.run_store import RunIsTerminating

PlanFile = Callable[..., Path]

CHAIN = """
    plan: chain
    globals: {size: "1"}
    levels:
      - services:
          base:
            local: true
            boot:
              run: [sh, -c, 'echo x >> base-boots; n=$(wc -l < base-boots); touch base-up; printf "{\\"port\\": $n}" > "$EPU_BOOTOUT"']
            outputs: [port]
            ready: [{file: base-up, timeout: 2s, interval: 50ms}]
            terminate: {run: "sh -c 'echo x >> base-ends; rm base-up'"}
          bystander: {local: true, boot: {run: "sh -c 'echo x >> bystander-boots'"}}
      - services:
          user:
            local: true
            boot: {run: [sh, -c, 'echo "$1 $2" >> user-boots', sh, "${base.port}", "${global.size}"]}
            terminate: {run: "touch user-ended"}
"""  # noqa: E501


@pytest.fixture(autouse=True)
def no_long_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootlevels.service_life.LOOK_INTERVAL", 0.02)


def booted(path: Path) -> Run:
    run = Run.prepare(path)
    outcome = run.boot()
    assert outcome.ok, outcome
    return run


def lines(run: Run, name: str) -> list[str]:
    path = run.directory / name
    return path.read_text().splitlines() if path.exists() else []


def reload(run: Run, path: Path, **given: str) -> dict[str, ChangeKind]:
    _, wanted = plan_to_reload(run, path, PlanChoices(given=given))
    changes, outcome = reload_run(run, wanted)
    assert outcome.ok, outcome
    return {change.service: change.kind for change in changes}


# ---------------------------------------------------------------- repair


def test_a_repair_of_what_is_well_changes_nothing(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    outcome = run.repair()
    assert (outcome.ok, outcome.repaired) == (True, ())
    assert len(lines(run, "base-boots")) == len(lines(run, "user-boots")) == 1


def test_a_repair_replaces_what_is_broken_and_configures_anew_what_depends_on_it(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    (run.directory / "base-up").unlink()
    outcome = run.repair()
    assert outcome.ok, outcome
    assert outcome.repaired == ("base", "user")
    assert lines(run, "user-boots") == ["1 1", "2 1"], "dependants kept the old configuration"
    assert len(lines(run, "bystander-boots")) == 1
    assert run.status().ok


def test_a_failing_terminate_program_of_a_dead_service_does_not_block_its_repair(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    (run.directory / "base-up").unlink()  # its terminate program can't remove it again
    assert run.repair().ok
    assert len(lines(run, "base-ends")) == 1


def test_a_repair_boots_what_was_never_booted(home: Path, plan_file: PlanFile) -> None:
    text = CHAIN.replace("touch base-up;", "test -e allowed && touch base-up;")
    run = Run.prepare(plan_file(text))
    assert not run.boot().ok
    (run.directory / "allowed").touch()
    outcome = run.repair()
    assert outcome.ok, outcome
    assert run.is_booted


def test_a_repair_tries_a_bounded_number_of_times_and_leaves_later_levels_alone(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(
        plan_file(CHAIN.replace("touch base-up;", "test ! -e bad && touch base-up || exit 1;"))
    )
    (run.directory / "base-up").unlink()
    (run.directory / "bad").touch()
    outcome = run.repair(tries=2)
    (failure,) = outcome.failures
    assert failure.service == "base"
    assert run.service("base").record.launches == 1 + 2
    assert len(lines(run, "user-boots")) == 1


def test_a_repair_that_was_killed_half_way_is_gone_on_with(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    with run.writing("test") as runner:
        runner.life.record.replacing("base")
    assert run.repair().ok
    assert len(lines(run, "base-ends")) == 1
    assert len(lines(run, "base-boots")) == 2


def test_a_boot_goes_on_with_a_repair_that_was_killed(home: Path, plan_file: PlanFile) -> None:
    path = plan_file(CHAIN)
    run = booted(path)
    with run.writing("test") as runner:
        runner.life.record.replacing("base")
    assert Run.prepare(path).boot().ok


def test_a_terminated_run_is_not_repaired(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    run.terminate()
    with pytest.raises(RunIsTerminating, match="epu reboot chain"):
        run.repair()


def test_a_watcher_hears_of_a_repair(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    (run.directory / "base-up").unlink()
    told: list[Moment] = []
    run.repair(lambda moment: told.append(moment))
    texts = [moment.text for moment in told if moment.service == "base"]
    assert any("is not well now" in text and "try 1 of 3" in text for text in texts)
    assert any(moment.action == "repair" for moment in told)


# ---------------------------------------------------------------- reload


def test_a_reload_of_the_same_plan_is_no_change(home: Path, plan_file: PlanFile) -> None:
    path = plan_file(CHAIN)
    run = booted(path)
    assert reload(run, path) == {}
    assert len(lines(run, "base-boots")) == 1


def test_a_reload_shows_and_applies_what_is_added_changed_and_removed(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    new = CHAIN.replace("bystander:", "newcomer:").replace("bystander-boots", "newcomer-boots")
    new = new.replace("touch base-up", "touch base-up base-new")
    path = plan_file(new, "new.yaml")
    assert reload(run, path) == {
        "base": ChangeKind.REPLACED,
        "newcomer": ChangeKind.ADDED,
        "bystander": ChangeKind.REMOVED,
        "user": ChangeKind.DEPENDENT,
    }
    assert len(lines(run, "base-ends")) == 1, "the old one was ended by the old plan"
    assert (run.directory / "base-new").exists()
    assert len(lines(run, "newcomer-boots")) == 1
    assert lines(run, "user-boots") == ["1 1", "2 1"]
    assert run.status().ok
    assert reload(run, path) == {}


def test_a_dry_run_of_a_reload_changes_nothing(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    before = {path: path.stat().st_mtime_ns for path in run.directory.iterdir()}
    _, wanted = plan_to_reload(
        run, plan_file("plan: other\nlevels: [{services: {a: {}}}]"), PlanChoices()
    )
    kinds = {change.service: change.kind for change in changes_of(run, wanted.plan)}
    assert kinds["base"] is ChangeKind.REMOVED
    assert kinds["a"] is ChangeKind.ADDED
    after = {path: path.stat().st_mtime_ns for path in run.directory.iterdir()}
    assert {p: t for p, t in after.items() if "run.db" not in p.name} == {
        p: t for p, t in before.items() if "run.db" not in p.name
    }


def test_a_reload_sees_changed_globals(home: Path, plan_file: PlanFile) -> None:
    path = plan_file(CHAIN)
    run = booted(path)
    assert reload(run, path, size="7") == {"user": ChangeKind.CONFIGURED}
    assert lines(run, "user-boots") == ["1 1", "1 7"]
    assert reload(Run.open("chain"), path) == {}, "what was given holds on"


def test_a_reload_sees_changed_defaults(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    new = plan_file(CHAIN.replace("plan: chain", "plan: chain\n    defaults: {timeout: 5s}"))
    kinds = reload(run, new)
    assert kinds["user"] is ChangeKind.CHECKED
    assert run.plan.service("user").boot is not None
    assert Run.open("chain").plan.service("user").boot.timeout == 5.0  # type: ignore[union-attr]
    assert len(lines(run, "user-boots")) == 1, "a time-out is no reason to boot anything"


def test_a_reload_that_can_not_end_something_keeps_the_old_plan_and_can_be_given_again(
    home: Path, plan_file: PlanFile
) -> None:
    text = CHAIN.replace("touch user-ended", "test -e allowed")
    run = booted(plan_file(text))
    path = plan_file(text.replace("          user:", "          other:"), "new.yaml")
    _, wanted = plan_to_reload(run, path, PlanChoices())
    changes, outcome = reload_run(run, wanted)
    assert [failure.service for failure in outcome.failures] == ["user"]
    assert {s.spec.name for s in Run.open("chain").services()} == {"base", "bystander", "user"}
    (run.directory / "allowed").touch()
    reload(Run.open("chain"), path)
    assert {s.spec.name for s in Run.open("chain").services()} == {"base", "bystander", "other"}


def test_a_service_that_moves_to_another_level_is_not_booted_again(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    moved = (
        "          bystander: {local: true, boot: {run: \"sh -c 'echo x >> bystander-boots'\"}}\n"
    )
    path = plan_file(CHAIN.replace(moved, "") + moved, "new.yaml")
    assert reload(run, path) == {"bystander": ChangeKind.CHECKED}
    assert len(lines(run, "bystander-boots")) == 1
    assert Run.open("chain").plan.level_of("bystander") == 2


# ---------------------------------------------------------------- reboot, history, clean


def test_a_reboot_ends_everything_and_boots_the_same_plan_anew(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    plan_file("this is no plan any more")
    assert reboot_run(run).ok
    again = Run.open("chain")
    assert again.status().ok
    assert (home / "runs" / "chain.1" / "user-ended").exists()
    assert len(lines(again, "base-boots")) == 1


def test_a_reboot_that_was_killed_between_its_halves_is_given_again(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    assert run.terminate().ok
    assert reboot_run(run).ok
    assert Run.open("chain").is_booted


def test_the_history_has_every_launch_of_every_life(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    (run.directory / "base-up").unlink()
    run.repair()
    reboot_run(run)
    again = Run.open("chain")
    past = [(p.life, p.identity, p.state) for p in history_of(again) if p.service == "base"]
    assert past == [
        ("chain.1", "launch 1", "REPLACED"),
        ("chain.1", "launch 2", "TERMINATED"),
        ("chain", "launch 1", "VERIFIED"),
    ]
    assert [life.directory.name for life in lives_of(again)] == ["chain.1", "chain"]


def test_a_history_survives_that_a_service_is_removed(home: Path, plan_file: PlanFile) -> None:
    run = booted(plan_file(CHAIN))
    reload(run, plan_file("plan: chain\nlevels: [{services: {a: {}}}]", "new.yaml"))
    past = {p.service: p.state for p in history_of(Run.open("chain"))}
    assert past == {"base": "ENDED", "bystander": "ENDED", "user": "ENDED", "a": "VERIFIED"}


def test_a_clean_removes_what_a_killed_command_left_and_nothing_else(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    (run.directory / "run.db.new").write_text("half")
    assert [each.what for each in clean(run)] == ["unfinished file run.db.new"]
    assert clean(run) == []
    assert run.status().ok


# ---------------------------------------------------------------- times


def test_run_times_of_services_and_levels_are_known(home: Path, plan_file: PlanFile) -> None:
    from bootlevels.run_report import described_run

    run = booted(plan_file(CHAIN))
    described = json.loads(json.dumps(described_run(run)))
    for service in described["services"]:
        times = service["times"]
        assert times["launched_at"] <= times["booted_at"] <= times["verified_at"]
        assert times["seconds"] >= times["boot_seconds"] >= 0
    first, second = described["levels"]
    assert first["verified_at"] <= second["launched_at"]
    assert first["seconds"] > 0


def test_a_service_that_was_seen_well_again_keeps_the_time_it_needed(
    home: Path, plan_file: PlanFile
) -> None:
    run = booted(plan_file(CHAIN))
    before = run.service("base").record
    run.repair()
    after = run.service("base").record
    assert after.state is ServiceState.VERIFIED
    assert after.verified_at == before.verified_at
    assert after.seen_well_at is not None
    assert before.seen_well_at is not None
    assert after.seen_well_at > before.seen_well_at
