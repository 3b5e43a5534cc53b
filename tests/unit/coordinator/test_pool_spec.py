"""A pool's section, from text to values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.messages import NodeRole
from agent.wire import from_wire, to_wire
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import changed_section, parse_pool
from coordinator.pool_values import change_text

GOOD = {"programs": {"worker": {"command": ["run-me"]}}}


def problems(section: object, name: str = "pool") -> list[str]:
    with pytest.raises(ConfigProblem) as found:
        parse_pool(name, section, "plan.yaml:7", "pool")
    return [str(problem) for problem in found.value.problems]


def test_a_pool_without_an_engine_preserves_none() -> None:
    spec = parse_pool("pool", GOOD)
    assert spec.engine_type == "n_preserving"
    assert spec.engine_settings.preserve_n == 0


@pytest.mark.parametrize(
    ("alias", "settings"),
    [
        ("npreserving", {"preserve_n": 2}),
        (
            "queuelen",
            {
                "queue": "q",
                "queuelen_high_water": 5,
                "queuelen_low_water": 1,
                "max_instances": 3,
            },
        ),
    ],
)
def test_the_original_names_of_the_engines_are_accepted(alias: str, settings: dict) -> None:
    spec = parse_pool("pool", {**GOOD, "engine": {"type": alias, **settings}})
    assert spec.engine_settings is not None


def test_the_queue_of_an_engine_becomes_a_work_queue_of_its_nodes() -> None:
    engine = {
        "type": "queue_length",
        "queue": "jobs",
        "queuelen_high_water": 5,
        "queuelen_low_water": 1,
        "max_instances": 3,
    }
    assert parse_pool("pool", {**GOOD, "engine": engine}).role.work_queues == ("jobs",)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({**GOOD, "mn": 1}, "pool.mn: unknown key (did you mean 'min'?)"),
        ({**GOOD, "min": 3, "max": 1}, "min (3) must be between 0 and max (1)"),
        ({**GOOD, "max_surge": -1}, "max_surge must not be negative"),
        ({**GOOD, "health": {"boot_timeout": -5}}, "boot_timeout must be above 0"),
        ({**GOOD, "engine": {"type": "n_preserv"}}, "did you mean 'n_preserving'?"),
        ({**GOOD, "engine": {"preserve_n": "asd"}}, "pool.engine.preserve_n"),
        ({**GOOD, "engine": {"preserve_n": -1}}, "preserve_n"),
        ({**GOOD, "engine": {"preserve": 1}}, "did you mean 'preserve_n'?"),
        ({"programs": {"w": {"comand": ["x"]}}}, "pool.programs.w.comand: unknown key"),
        ({"programs": {"w": {"command": []}}}, "command must name a program"),
        ({"programs": {"w": {"command": "sleep 1"}}}, "pool.programs.w.command"),
        ({**GOOD, "checks": [{"tcp": "a:1", "run": ["b"]}]}, "exactly one of"),
        ({**GOOD, "checks": [{}]}, "exactly one of"),
        ("text", "must be a section of keys and values, not str"),
        ({**GOOD, "engine": {"type": "no.such.module:Engine"}}, "can't be imported"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(section: object, sentence: str) -> None:
    found = problems(section)
    assert any(sentence in problem for problem in found), found


def test_all_problems_are_told_at_once_with_their_place() -> None:
    found = problems({"mn": 1, "programs": {"w": {}}, "engine": {"preserve_n": "x"}})
    assert len(found) >= 3
    assert all(problem.startswith("plan.yaml:7: ") for problem in found)


@pytest.mark.parametrize("name", ["Pool", "1pool", "a.b", "a_b", "", "a--b", "a" * 41, "pool-"])
def test_names_that_could_not_be_routed_are_refused(name: str) -> None:
    assert any("a name is" in problem for problem in problems(GOOD, name))


def test_a_present_key_replaces_its_whole_subtree_and_absent_keys_stay() -> None:
    section = {"engine": {"type": "n_preserving", "preserve_n": 1}, "max": 5}
    assert changed_section(section, {"engine.preserve_n": 3}) == {
        "engine": {"type": "n_preserving", "preserve_n": 3},
        "max": 5,
    }
    assert changed_section(section, {"engine": {"preserve_n": 3}})["engine"] == {"preserve_n": 3}
    assert section["engine"] == {"type": "n_preserving", "preserve_n": 1}, "the given one stays"


def test_a_key_that_is_set_to_nothing_has_its_default_again() -> None:
    section = {"engine": {"type": "n_preserving", "preserve_n": 1}, "max": 5}
    changed = changed_section(section, {"max": None, "engine.preserve_n": None, "min": None})
    assert changed == {"engine": {"type": "n_preserving"}}
    assert parse_pool("sleepers", changed).max == 1000


def test_a_key_below_a_value_that_is_no_section_is_refused() -> None:
    with pytest.raises(ConfigProblem, match="'max' is not a section"):
        changed_section({"max": 5}, {"max.more": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        "engine",
        "programs",
        "checks",
        "min",
        "max",
        "health",
        "outputs",
        "clouds",
        "variables",
        "machine",
    ]
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, JSON))
def test_no_section_ever_ends_in_anything_but_a_pool_or_a_config_problem(section: dict) -> None:
    try:
        spec = parse_pool("pool", section)
    except ConfigProblem as found:
        assert found.problems
    else:
        assert 0 <= spec.min <= spec.max


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"programs": {"agent": {"command": ["x"]}}}, "pool.programs.agent"),
        ({"programs": {"a.b": {"command": ["x"]}}}, "pool.programs.a.b"),
        ({"programs": {"work": {"command": ["x"], "start_seconds": -4}}}, "pool.programs.work"),
        ({**GOOD, "busy_file": "/etc/passwd"}, "pool.busy_file"),
        ({**GOOD, "busy_file": "../busy"}, "pool.busy_file"),
    ],
)
def test_what_a_node_would_refuse_is_refused_before_anything_is_launched(
    section: dict, key: str
) -> None:
    assert any(key in problem for problem in problems(section))


def test_machine_settings_are_text_and_each_cloud_overlays_its_own() -> None:
    machine = {
        "type": "m5.large",
        "disk": 20,
        "spot": True,
        "clouds": {"far": {"type": "big", "image": "ami-1"}},
    }
    spec = parse_pool("pool", {**GOOD, "clouds": ["near", "far"], "machine": machine})
    assert spec.machine_on("near") == {"type": "m5.large", "disk": "20", "spot": "true"}
    assert spec.machine_on("far") == {
        "type": "big",
        "disk": "20",
        "spot": "true",
        "image": "ami-1",
    }


@pytest.mark.parametrize(
    ("machine", "key", "what"),
    [
        ({"disk": [20]}, "pool.machine.disk", "must be a text or a number"),
        ({"disk": None}, "pool.machine.disk", "must be a text or a number"),
        ({"a b": "x"}, "pool.machine.a b", "a setting's name has letters"),
        ({"clouds": {"fra": {}}}, "pool.machine.clouds.fra", "did you mean 'far'?"),
        ({"clouds": ["far"]}, "pool.machine.clouds", "must be a section of clouds"),
        ({"clouds": {"far": "big"}}, "pool.machine.clouds.far", "must be a section"),
        ("big", "pool.machine", "dictionary"),
    ],
)
def test_a_machine_section_that_can_not_be_names_its_key(
    machine: object, key: str, what: str
) -> None:
    [said] = problems({**GOOD, "clouds": ["near", "far"], "machine": machine})
    assert key in said and what in said


def test_a_cloud_that_a_pool_names_twice_is_refused() -> None:
    assert "each cloud once" in problems({**GOOD, "clouds": ["near", "near"]})[0]


def test_what_a_node_does_around_its_work_reaches_its_role() -> None:
    section = {
        **GOOD,
        "busy": {"file": "state/busy", "max_age": 30},
        "drain": {"command": ["pause"], "undo": ["resume"]},
        "on_ready": {"command": ["warm", "up"], "timeout": 20},
        "on_drain": {"command": ["save"], "heartbeat": 5, "longest": 200, "default": "continue"},
    }
    role = parse_pool("pool", section).role
    assert role.busy_source is not None and role.busy_source.file == "state/busy"
    assert role.drain is not None and role.drain.undo == ("resume",)
    assert role.on_ready is not None and role.on_ready.command == ("warm", "up")
    assert role.on_drain is not None and role.on_drain.at_most == 200


def test_the_queue_that_says_who_is_busy_is_one_that_the_nodes_may_read() -> None:
    role = parse_pool("pool", {**GOOD, "busy": {"queue": "jobs"}}).role
    assert (role.busy_queue, role.work_queues) == ("jobs", ("jobs",))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"busy": {"fil": "x"}}, "pool.busy.fil: unknown key"),
        ({"busy": {"file": "x", "cpu": 5}}, "exactly one of queue, file, socket, program, cpu"),
        ({"busy": {"file": "../x"}}, "pool.busy.file: must be a path below"),
        ({"busy": {"socket": "/run/x"}}, "pool.busy.socket: must be host:port, or a path"),
        ({"busy": {"file": "x"}, "busy_file": "y"}, "pool.busy_file: say it in busy"),
        ({"busy": {"program": "ps aux"}}, "pool.busy.program: Input should be a valid tuple"),
        ({"drain": {"command": ["x"]}}, "pool.drain: needs busy"),
        ({"drain": {"command": ["x"]}, "busy": {"queue": "q"}}, "the node itself can ask"),
        ({"on_ready": {"command": "x; rm -rf /"}}, "pool.on_ready.command: Input should be"),
        ({"on_ready": {"command": ["x"], "default": "maybe"}}, "continue or abandon, not 'maybe'"),
        ({"on_ready": {"command": ["x"], "timeout": 300}}, "health.boot_timeout (300 s)"),
        ({"on_drain": {"command": ["x"]}, "drain_timeout": 30}, "drain_timeout (30 s) ends"),
    ],
)
def test_what_makes_no_sense_around_the_work_is_named(more: dict, sentence: str) -> None:
    found = problems({**GOOD, **more})
    assert len(found) == 1 and sentence in found[0], found


@pytest.mark.parametrize(
    ("sensors", "key", "what"),
    [
        ({"depth": {}}, "pool.sensors.depth", "either program or prometheus"),
        ({"load1": {"program": ["x"]}}, "pool.sensors.load1", "no figure of every node"),
        ({"a.b": {"program": ["x"]}}, "pool.sensors.a.b", "letters, digits"),
        ({"p": {"prometheus": "file:///etc/passwd", "names": ["x"]}}, "pool.sensors.p", "http"),
        ({"p": {"prometheus": "http://h/"}}, "pool.sensors.p", "names must say"),
        ({"p": {"prometheus": "http://h/", "names": ["x{"]}}, "pool.sensors.p", "closing brace"),
        ({"p": {"program": ["x"], "interval": 0}}, "pool.sensors.p", "interval must be 1 to 3600"),
        ({"p": {"program": ["x"], "intervall": 5}}, "pool.sensors.p", "intervall"),
        ({f"s{n}": {"program": ["x"]} for n in range(17)}, "pool.sensors", "at most 16 sensors"),
    ],
)
def test_a_sensor_that_no_node_could_measure_is_refused_with_its_key(
    sensors: dict, key: str, what: str
) -> None:
    said = " / ".join(problems({**GOOD, "sensors": sensors}))
    assert key in said and what in said


def test_the_sensors_of_a_pool_go_to_its_nodes_over_the_wire() -> None:
    page = {"prometheus": "http://127.0.0.1:9100/metrics", "names": ["load"], "interval": 30}
    spec = parse_pool("p", {**GOOD, "sensors": {"app": page}})
    assert from_wire(NodeRole, json.loads(json.dumps(to_wire(spec.role)))) == spec.role
    assert spec.role.sensors["app"].interval == 30.0


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ({"enginee": {}}, "enginee", "engine"),
        ({"health": {"boot_timout": 3}}, "health.boot_timout", "boot_timeout"),
        ({"programs": {"x": {"command": ["a"], "copis": 2}}}, "programs.x.copis", "copies"),
        ({"drain": {"command": ["a"], "timeot": 2}}, "drain.timeot", "timeout"),
    ],
)
def test_a_key_that_is_not_known_is_named_with_the_one_that_was_meant_however_deep(
    section, key, meant
):
    with pytest.raises(ConfigProblem) as found:
        parse_pool("web", section)
    (problem,) = [one for one in found.value.problems if one.what == "unknown key"]
    assert problem.key == key and problem.remedy == f"did you mean '{meant}'?"


def test_what_was_changed_is_told_with_numbers_and_without_texts() -> None:
    changes = {"engine.preserve_n": 3, "max": None, "engine": {"type": "x"}, "template": "secret"}
    assert change_text(changes) == "engine, engine.preserve_n=3, max=null, template"
