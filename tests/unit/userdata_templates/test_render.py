import json
import shlex

import pytest
from supervisor.options import ServerOptions

from userdata_templates.render import (
    MissingVariable,
    TemplateProblem,
    UnknownTemplate,
    known_templates,
    render,
)

WORKER = {
    "run": "run-1",
    "pool": "sleepers",
    "launch_id": "launch-1",
    "token": "t0ken",
    "broker": {"host": "h", "port": 5672, "accounts": {"enrol": {"user": "e", "password": "p"}}},
    "variables": {},
}

MACHINE = {
    "node_id": "launch-1-0",
    "directory": "/srv/machines/launch-1-0",
    "socket": "/srv/machines/launch-1-0/supervisor.sock",
    "agent_command": ["/bin/sleep", "600"],
}


def test_a_workers_user_data_is_json_with_just_what_its_agent_needs():
    assert json.loads(render("worker", "agent-config", WORKER)) == {
        "version": 1,
        "run": "run-1",
        "pool": "sleepers",
        "launch_id": "launch-1",
        "token": "t0ken",
        "broker": WORKER["broker"],
    }


@pytest.mark.parametrize(
    "text", ['"', "\\", "\n", "</script>", "ü世🚀", "{{ run }}", '", "pool": "other', "\x00", "'"]
)
def test_no_value_can_break_out_of_its_place_in_the_json(text):
    rendered = render("worker", "agent-config", {**WORKER, "pool": text})
    assert json.loads(rendered)["pool"] == text


@pytest.mark.parametrize("name", ["run", "pool", "launch_id", "token", "broker"])
def test_a_missing_variable_is_named(name):
    given = {key: value for key, value in WORKER.items() if key != name}
    with pytest.raises(MissingVariable, match=f"worker.agent-config.j2.*'{name}'"):
        render("worker", "agent-config", given)


def test_an_unknown_template_names_the_nearest_one():
    with pytest.raises(UnknownTemplate, match="did you mean 'worker'"):
        render("wroker", "agent-config", WORKER)


def test_a_template_that_is_like_nothing_names_all():
    with pytest.raises(UnknownTemplate, match="known: broker, coordinator, supervisord, worker"):
        render("zzz", "agent-config", WORKER)


def test_an_unknown_form_names_the_forms_there_are():
    with pytest.raises(UnknownTemplate, match=r"no form 'cloud-initt'.*agent-config"):
        render("worker", "cloud-initt", WORKER)


@pytest.mark.parametrize("name", ["../render", "worker.agent-config", "", "/etc/passwd"])
def test_a_name_that_is_a_path_finds_nothing(name):
    with pytest.raises(UnknownTemplate):
        render(name, "agent-config", WORKER)


@pytest.mark.parametrize("value", [{"password": {"s3cret"}}, float("nan"), object()])
def test_what_is_no_plain_value_is_refused_without_being_shown(value):
    with pytest.raises(TemplateProblem) as problem:
        render("worker", "agent-config", {**WORKER, "broker": value})
    assert "s3cret" not in str(problem.value)


def test_every_known_template_has_a_form():
    assert set(known_templates()["worker"]) == {
        "agent-config",
        "install",
        "configure",
        "cloud-init",
    }
    assert known_templates()["supervisord"] == ("conf",)


def test_supervisord_reads_back_what_was_meant(tmp_path):
    """Its own parser, on a path and a command with everything that it treats as special."""
    directory = tmp_path / "half of a 'place'"
    (directory / "logs").mkdir(parents=True)
    command = ["/bin/echo", "a b", "50%", "%(x)s", '"q"', "it's", "", "x;y", "; z"]
    text = render(
        "supervisord",
        "conf",
        {
            **MACHINE,
            "directory": directory,
            "socket": f"{directory}/supervisor.sock",
            "agent_command": command,
        },
    )
    (directory / "supervisord.conf").write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(directory / "supervisord.conf"), "-n"])
    [group] = options.process_group_configs
    [agent] = group.process_configs
    assert shlex.split(agent.command) == command
    assert options.logfile == f"{directory}/logs/supervisord.log"
    assert options.server_configs[0]["file"] == f"{directory}/supervisor.sock"
    assert agent.autorestart and not agent.killasgroup and not agent.stopasgroup
    assert agent.startretries > 10**6


@pytest.mark.parametrize("word", ["a\nb", "a ;b", "a #b", "\x00", "%(here)s"])
def test_a_word_that_supervisord_can_not_hold_is_refused(word):
    with pytest.raises(TemplateProblem):
        render("supervisord", "conf", {**MACHINE, "agent_command": ["/bin/echo", word]})
