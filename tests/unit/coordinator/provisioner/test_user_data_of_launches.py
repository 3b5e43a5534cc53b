"""What machines are told by the provisioner: which form, whose variables, the same each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.messages import InstanceState
from coordinator.bootstrap import open_cloud
from coordinator.config import CoordinatorConfig
from coordinator.errors import ConfigProblem, InsufficientCapacity, RetryLater

HERE = "127.0.0.1"
BAKED = {"agent": "configure", "python": "/srv/agent/bin/python"}


def told(world: Any, at: int = -1) -> dict[str, Any]:
    """machine.json of a machine that was really made."""
    text = world.clouds["cloud"].history[at].request.user_data
    files = {file["path"]: file["content"] for file in yaml.safe_load(text)["write_files"]}
    found: dict[str, Any] = json.loads(files["/etc/epu/machine.json"])
    return found


def with_agents(world: Any, agents: dict[str, str]) -> None:
    """The coordinator starts again with other settings of its cloud."""
    world.clouds["cloud"].user_data_form = "cloud-init"
    world.cloud_agents = {"cloud": agents}
    world.part = world.new_provisioner()


def test_the_cloud_says_how_its_machines_come_by_their_agent(world: Any) -> None:
    with_agents(world, BAKED)
    world.running(1)
    assert told(world)["install"] is None
    assert told(world)["python"] == "/srv/agent/bin/python"


def test_a_pools_own_variables_go_before_the_clouds(world: Any) -> None:
    with_agents(world, {"agent": "install", "wheelhouse": "/a"})
    world.running(1, variables={"wheelhouse": "/b"})
    assert told(world)["install"]["wheelhouse"] == "/b"


def test_machines_are_told_the_address_by_which_they_reach_the_broker(world: Any) -> None:
    with_agents(world, {**BAKED, "broker_host": "10.0.2.2"})
    world.running(1)
    text = world.clouds["cloud"].history[-1].request.user_data
    files = {file["path"]: file["content"] for file in yaml.safe_load(text)["write_files"]}
    assert json.loads(files["/etc/epu/agent.json"])["broker"]["host"] == "10.0.2.2"


def test_the_only_machine_of_a_launch_is_told_its_index_and_others_are_not(world: Any) -> None:
    world.running(1)
    world.running(2, "l2")
    alone, one, other = (
        json.loads(machine.request.user_data) for machine in world.clouds["cloud"].history
    )
    assert alone["launch_index"] == 0
    assert "launch_index" not in one and one == other


def test_pr_1_a_template_without_user_data_is_launch_failed(world: Any) -> None:
    with_agents(world, BAKED)
    world.apply(world.launch(template="wroker"))
    world.apply(world.launch("l2", template="supervisord"))
    world.pass_time(20)
    assert world.state("l1-0") is InstanceState.LAUNCH_FAILED
    assert "did you mean 'worker'" in world.view("l1-0").reason
    assert "no form 'cloud-init'" in world.view("l2-0").reason
    assert world.ever_made() == 0


def test_pr_2_a_variable_that_can_not_be_is_launch_failed_naming_it(world: Any) -> None:
    with_agents(world, {})
    world.apply(world.launch(variables={"agent": "instal"}))
    world.pass_time(20)
    assert world.state("l1-0") is InstanceState.LAUNCH_FAILED
    assert "agent: must be one of install, configure" in world.view("l1-0").reason
    assert world.ever_made() == 0


def test_a_launch_whose_reply_was_lost_is_not_repeated_in_other_words(make_world: Any) -> None:
    """The configuration changes in between: EC2 would refuse the token, others make two."""
    world = make_world(lag=60.0)
    with_agents(world, BAKED)
    world.clouds["cloud"].fail_next("launch", RetryLater("lost"), after_acting=True)
    world.apply(world.launch())
    world.pass_time(0.5)
    assert world.ever_made() == 1 and world.state("l1-0") is InstanceState.LAUNCHING
    with_agents(world, {"agent": "install"})
    world.pass_time(30)
    assert world.clouds["cloud"].calls.count("launch") == 1
    assert "changed since its first call" in world.view("l1-0").reason
    world.pass_time(40)
    assert world.state("l1-0") is InstanceState.BOOTING, "its machine was listed after all"
    assert world.ever_made() == 1


def test_a_launch_that_may_have_made_nothing_is_given_up_in_time_and_leaks_nothing(
    world: Any,
) -> None:
    with_agents(world, BAKED)
    world.clouds["cloud"].fail_next("launch", RetryLater("lost"))
    world.apply(world.launch(launch_timeout=100.0))
    world.pass_time(0.5)
    with_agents(world, {"agent": "install"})
    world.pass_time(200)
    assert world.state("l1-0") in (InstanceState.TERMINATING, InstanceState.TERMINATED)
    assert world.ever_made() == 0


def test_a_launch_that_made_nothing_for_certain_begins_anew_in_the_new_words(world: Any) -> None:
    with_agents(world, BAKED)
    world.clouds["cloud"].fail_next("launch", InsufficientCapacity("full"))
    world.apply(world.launch())
    world.pass_time(0.5)
    with_agents(world, {"agent": "install"})
    world.pass_time(20)
    assert world.state("l1-0") is InstanceState.BOOTING
    [machine] = world.clouds["cloud"].history
    assert machine.request.attempt == 2
    assert told(world)["install"] is not None


def test_the_same_settings_give_the_same_request_after_a_restart(world: Any) -> None:
    with_agents(world, BAKED)
    world.clouds["cloud"].fail_next("launch", RetryLater("not now"))
    world.apply(world.launch())
    world.pass_time(0.5)
    with_agents(world, dict(BAKED))
    world.pass_time(20)
    assert world.state("l1-0") is InstanceState.BOOTING
    assert world.clouds["cloud"].history[0].request.attempt == 1


# ------------------------------------------------------------------ the composition root

DRIVER = """
from coordinator.errors import ConfigProblem, Problem

class Cloudy:
    consistency_window = 0.0
    batches = True
    user_data_form = "cloud-init"
    loopback_address = "10.0.2.2"

    @classmethod
    def from_settings(cls, settings, state_dir):
        if unknown := [key for key in settings if key != "image"]:
            raise ConfigProblem([Problem(key=key, what="unknown key") for key in unknown])
        return cls()
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CoordinatorConfig]:
    (tmp_path / "cloudy_driver.py").write_text(DRIVER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(**settings: str) -> CoordinatorConfig:
        section = {"driver": "cloudy_driver:Cloudy", **settings}
        return CoordinatorConfig(
            run="run", accounts="", state_dir=str(tmp_path), clouds={"sky": section}
        )

    return of


def test_a_driver_never_sees_the_settings_that_are_ours(config: Any) -> None:
    _, agents = open_cloud(config(image="debian", **BAKED), "sky", "broker.example")
    assert agents == BAKED


def test_a_broker_on_loopback_is_elsewhere_for_machines_with_a_network_of_their_own(
    config: Any,
) -> None:
    assert open_cloud(config(), "sky", HERE)[1]["broker_host"] == "10.0.2.2"
    assert "broker_host" not in open_cloud(config(), "sky", "broker.example")[1]
    said = config(broker_host="192.0.2.7")
    assert open_cloud(said, "sky", HERE)[1]["broker_host"] == "192.0.2.7"


def test_a_key_that_is_nobodys_is_named_with_ours_in_mind(config: Any) -> None:
    with pytest.raises(ConfigProblem, match="pyton: unknown key .did you mean 'python'"):
        open_cloud(config(pyton="/x"), "sky", HERE)


def test_settings_of_ours_are_checked_before_any_driver_runs(config: Any) -> None:
    with pytest.raises(ConfigProblem, match=r"clouds\.sky\.agent: must be install or configure"):
        open_cloud(config(agent="baked"), "sky", HERE)


def test_a_process_cloud_takes_no_settings_of_agents(tmp_path: Path) -> None:
    clouds = {"here": {"driver": "process", "agent": "configure"}}
    config = CoordinatorConfig(run="run", accounts="", state_dir=str(tmp_path), clouds=clouds)
    with pytest.raises(ConfigProblem, match=r"clouds\.here\.agent: means nothing here"):
        open_cloud(config, "here", HERE)
