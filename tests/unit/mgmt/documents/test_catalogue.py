"""One source of truth for what commands print: models, schemas, the page and the commands."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner

from coordinator.simulation.happenings import plan_all
from coordinator.simulation.history import CloudPlan, Happening, History, PoolPlan
from coordinator.simulation.world import World
from mgmt.cli import epu
from mgmt.documents.catalogue import CATALOGUE, Printed, commands, printed_by, schema_of
from mgmt.documents.markdown import with_catalogue
from tests.held_documents import problems_of

PAGE = Path(__file__).parents[4] / "docs" / "json.md"
#: They show, and have no result; a schema is JSON in any case.
WITHOUT = {"shell", "completion", "demo", "schema"}


def commands_with_json() -> set[str]:
    def below(group: click.Group, path: str) -> set[str]:
        context, found = click.Context(group), set()
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            whole = f"{path} {name}".strip()
            found |= below(command, whole) if isinstance(command, click.Group) else {whole}
        return found

    return below(epu, "") - WITHOUT


def test_every_command_is_in_the_catalogue_and_nothing_else():
    assert set(commands()) == commands_with_json()


def test_the_page_says_what_the_models_say():
    """``python -m mgmt.documents docs/json.md`` makes it anew."""
    assert with_catalogue(PAGE.read_text()) == PAGE.read_text()


@pytest.mark.parametrize("printed", CATALOGUE, ids=lambda one: one.commands[0])
def test_every_schema_is_one(printed: Printed):
    jsonschema.Draft202012Validator.check_schema(schema_of([printed]))


def test_the_schema_of_a_command_lets_its_documents_pass_and_others_not():
    found = CliRunner().invoke(epu, ["schema", "broker", "stop"])
    validator = jsonschema.Draft202012Validator(json.loads(found.stdout))
    good = {"schema": "epu.broker", "version": 1, "ended": ["beam"], "running": False}
    assert validator.is_valid(good)
    assert validator.is_valid({**good, "of_a_later_version": 1})
    assert not validator.is_valid({**good, "ended": None})
    assert not validator.is_valid({**good, "schema": "epu.pools"})
    assert problems_of({**good, "told_nowhere": 1}), "but we print nothing that is told nowhere"


def test_a_command_with_several_documents_has_a_schema_that_takes_each():
    schema = json.loads(CliRunner().invoke(epu, ["schema", "teardown"]).stdout)
    preview = {"schema": "epu.teardown-preview", "version": 1, "run": "r", "workers": []}
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({**preview, "services": []})
    assert not validator.is_valid(preview)


def test_a_command_that_prints_no_json_is_wrong_usage_with_the_nearest():
    result = CliRunner().invoke(epu, ["schema", "pool", "shw"])
    assert result.exit_code == 2
    assert "did you mean 'pool show'" in result.stderr


def test_the_schema_of_plans_is_printed_without_a_command():
    assert json.loads(CliRunner().invoke(epu, ["schema"]).stdout)["title"] == "EPU launch plan"


# ---------------------------------------------------------------- what no unit test prints


def whole(name: str, document: dict[str, Any]) -> dict[str, Any]:
    return {"schema": f"epu.{name}", "version": 1, **json.loads(json.dumps(document))}


def test_pools_nodes_and_explanations_are_as_promised_in_good_times_and_bad():
    """Production code in a simulated world in which boots fail, machines die and a cloud ends."""
    section = {
        "programs": {"worker": {"command": ["work"]}},
        "engine": {"type": "n_preserving", "preserve_n": 4},
        "clouds": ["north", "south"],
        "heartbeat_interval": 10,
        "health": {"missing_timeout": 60},
        "max": 6,
        "retain_failed": 1,
    }
    clouds = tuple(
        CloudPlan(name=name, settings={"lag": 3.0}, window=3.0, boots_in=(5.0, 8.0))
        for name in ("north", "south")
    )
    victims = {"pool": "blue", "count": 2, "pick": 1}
    troubles = (
        Happening(at=40.0, what="boots_fail", lasts=60.0, values={"how": "fails", "share": 0.5}),
        Happening(at=60.0, what="vanish", values={**victims, "noticed": 0.1}),
        Happening(at=110.0, what="fails", values={**victims, "how": "side"}),
    )
    world = World(
        History(
            seed=3,
            pools=(PoolPlan(name="blue", section=section),),
            clouds=clouds,
            happenings=troubles,
        )
    )
    plan_all(world)
    provisioner, controller = world.coordinator.provisioner, world.coordinator.controller
    seen: set[str] = set()
    for second in range(2, 200, 7):
        world.run_until(second)
        pool, explained = controller.part.pool("blue"), controller.part.explain("blue")
        assert problems_of(whole("pool", pool)) == []
        assert problems_of(whole("explanation", explained)) == []
        seen |= {one["state"] for one in pool["instances"]}
    assert {"BOOTING", "RUNNING"} <= seen, seen
    assert provisioner.part.progress()["states"], "there was something to tell"


def test_what_is_told_as_lines_is_as_promised():
    from agent.messages import Event

    event = Event(time=1.0, source="controller", name="decision", sequence=3)
    (printed,) = (one for one in printed_by("events") if one.lines)
    line = json.loads(json.dumps({**asdict(event), "id": event.id}))
    assert problems_of(line, (printed,)) == []
