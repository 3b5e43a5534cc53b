"""User-data for cloud-init: valid for cloud-init itself, exact, small, without secrets."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import userdata_templates
from userdata_templates.render import (
    CLOUD_INIT_FORMS,
    MissingVariable,
    TemplateProblem,
    UnknownTemplate,
    known_templates,
    render,
)

BRING_UP = Path(userdata_templates.__file__).with_name("bring_up.py")
HOSTILE = [
    '"',
    "'",
    "\\",
    "a\nb",
    "\r\n",
    "{{ token }}",
    "{% raw %}",
    "#cloud-config",
    "ü世🚀",
    "\x00\x1b\x7f\x85\u2028\ufeff",
    "  leading and trailing  ",
    "- x\n- y: &a *b",
    "$(reboot)`reboot`;reboot",
    "%(here)s",
]
BROKER = {
    "host": "10.0.0.1",
    "port": 5672,
    "vhost": "run",
    "accounts": {"enrol": {"user": "enrol", "password": "short-lived"}},
}
WORKER: dict[str, Any] = {
    "run": "run-1",
    "pool": "sleepers",
    "launch_id": "launch-1",
    "token": "1700000000.abcdef",
    "broker": BROKER,
}
#: What each template needs.
NEEDED: dict[str, dict[str, Any]] = {
    "worker": WORKER,
    "broker": {"run": "run-1"},
    "coordinator": {"run": "run-1", "clouds": {"sky": {"driver": "ec2", "region": "eu-west-1"}}},
}
ALL = [(template, form) for template in NEEDED for form in CLOUD_INIT_FORMS]


def hostile(value: Any) -> Any:
    """``value`` with every text replaced by the most unpleasant one of all."""
    if isinstance(value, dict):
        return {key: hostile(inner) for key, inner in value.items()}
    return "".join(HOSTILE) if isinstance(value, str) else value


def unpleasant(value: Any) -> Any:
    """The same with what fits into a supervisord setting, which can't hold everything."""
    if isinstance(value, dict):
        return {key: unpleasant(inner) for key, inner in value.items()}
    return 'it\'s "{{ x }}" ü世 %(x)s #cloud-config & *y $(reboot)'.replace(" #", "#")


def files_of(text: str) -> dict[str, Any]:
    return {file["path"]: file for file in yaml.safe_load(text)["write_files"]}


def json_in(text: str, path: str) -> Any:
    return json.loads(files_of(text)[path]["content"])


@pytest.fixture(scope="module")
def schema_says() -> Any:
    """What ``cloud-init schema`` says of a text; empty for a valid one."""
    program = shutil.which("cloud-init")
    if program is None:
        reason = "cloud-init is not installed (apt-get install cloud-init)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)

    def ask(text: str, tmp_path: Path) -> str:
        file = tmp_path / "user-data"
        file.write_text(text, encoding="utf-8")
        words = [program, "schema", "--config-file", str(file)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        return "" if done.returncode == 0 and "Valid cloud-config" in said else said or "?"

    return ask


@pytest.mark.parametrize(("template", "form"), ALL)
@pytest.mark.parametrize("kind", ["plain", "hostile", "full"])
def test_cloud_init_itself_finds_every_user_data_valid(
    template: str, form: str, kind: str, tmp_path: Path, schema_says: Any
) -> None:
    variables = NEEDED[template]
    if kind == "hostile":
        more = dict.fromkeys(("wheelhouse", "index_url", "requirement"), "x")
        variables = (hostile if template == "worker" else unpleasant)({**variables, **more})
    elif kind == "full":
        variables = {**variables, "packages": "git, python3-venv", "python": "/opt/ü/bin/python"}
    assert schema_says(render(template, form, variables), tmp_path) == ""


def test_a_user_data_that_is_not_valid_would_be_noticed(tmp_path: Path, schema_says: Any) -> None:
    assert "runcmd" in schema_says("#cloud-config\nruncmd: 7\n", tmp_path)


@pytest.mark.parametrize("form", CLOUD_INIT_FORMS)
def test_every_value_comes_out_as_it_went_in(form: str) -> None:
    text = render("worker", form, hostile(WORKER))
    assert text.isascii()
    assert json_in(text, "/etc/epu/agent.json") == {"version": 1, **hostile(WORKER)}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["wheelhouse", "index_url", "requirement", "wheelhouse_sha256"])
def test_what_pip_is_told_comes_out_as_it_went_in(name: str, text: str) -> None:
    rendered = render("worker", "install", {**WORKER, name: text})
    assert json_in(rendered, "/etc/epu/machine.json")["install"][name] == text


@pytest.mark.parametrize("form", CLOUD_INIT_FORMS)
def test_no_value_becomes_a_command(form: str) -> None:
    """What cloud-init runs is the same text, whatever the variables are."""
    found = yaml.safe_load(render("worker", form, hostile(WORKER)))
    assert found["runcmd"] == [["/usr/local/lib/epu/bring-up"]]
    assert found["bootcmd"] == [["install", "-d", "-m", "0700", "/etc/epu", "/var/lib/epu"]]
    script = files_of(render("worker", form, hostile(WORKER)))["/usr/local/lib/epu/bring-up"]
    assert script == {
        "path": "/usr/local/lib/epu/bring-up",
        "permissions": "0755",
        "content": BRING_UP.read_text(),
    }


@pytest.mark.parametrize(("template", "form"), ALL)
def test_only_the_script_can_be_read_by_others(template: str, form: str) -> None:
    files = files_of(render(template, form, NEEDED[template]))
    modes = {path: file["permissions"] for path, file in files.items()}
    assert modes.pop("/usr/local/lib/epu/bring-up") == "0755"
    assert set(modes.values()) == {"0600"}


@pytest.mark.parametrize(("template", "form"), ALL)
def test_user_data_is_well_below_what_clouds_take(template: str, form: str) -> None:
    assert len(render(template, form, NEEDED[template]).encode()) < 13 * 1024  # of 16


@pytest.mark.parametrize(
    ("template", "form", "name"),
    [(*one, name) for one in ALL for name in NEEDED[one[0]]],
)
def test_a_missing_variable_is_named(template: str, form: str, name: str) -> None:
    given = {key: value for key, value in NEEDED[template].items() if key != name}
    with pytest.raises(MissingVariable, match=f"{template}.{form}.*'{name}'"):
        render(template, form, given)


@pytest.mark.parametrize("text", ["/opt/x\nuser=nobody", "/opt/x ;", "%(here)s/x"])
def test_an_interpreter_that_supervisord_would_misread_is_refused(text: str) -> None:
    with pytest.raises(TemplateProblem):
        render("worker", "configure", {**WORKER, "python": text})


def test_the_same_variables_give_the_same_bytes() -> None:
    assert render("worker", "install", WORKER) == render("worker", "install", dict(WORKER))


def test_cloud_init_is_the_form_that_the_variable_agent_says() -> None:
    for form in CLOUD_INIT_FORMS:
        told = {**WORKER, "agent": form}
        assert render("worker", "cloud-init", told) == render("worker", form, told)
    assert render("worker", "cloud-init", WORKER) == render("worker", "install", WORKER)
    assert "cloud-init" in known_templates()["worker"]


def test_an_agent_that_is_neither_installed_nor_there_is_refused() -> None:
    with pytest.raises(TemplateProblem, match="agent: must be one of install, configure"):
        render("worker", "cloud-init", {**WORKER, "agent": "instal"})


def test_a_template_without_user_data_has_no_form_for_cloud_init() -> None:
    with pytest.raises(UnknownTemplate, match="no form 'cloud-init'"):
        render("supervisord", "cloud-init", {})


def test_a_machine_is_asked_to_install_the_version_that_launched_it() -> None:
    told = json_in(render("worker", "install", WORKER), "/etc/epu/machine.json")
    assert told["install"]["requirement"] == f"epu=={version('epu')}"
    assert told["python"] == "/opt/epu/bin/python"


def test_a_baked_image_installs_nothing() -> None:
    text = render("worker", "configure", {**WORKER, "python": "/srv/agent/bin/python"})
    told = json_in(text, "/etc/epu/machine.json")
    assert told["install"] is None and told["needs"] == {}
    assert told["python"] == "/srv/agent/bin/python"
    assert "packages" not in yaml.safe_load(text)


def test_supervisord_keeps_the_agent_running() -> None:
    told = files_of(render("worker", "configure", {**WORKER, "python": "/srv/a b/python"}))
    parser = RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read_string(told["/var/lib/epu/supervisord.conf"]["content"])
    assert parser.get("program:agent", "command") == (
        "'/srv/a b/python' -m agent.service --config /etc/epu/agent.json "
        "--instance-data /run/cloud-init/instance-data.json --dir /var/lib/epu"
    )
    assert parser.get("program:agent", "environment") == "EPU_CONSOLE=/dev/console"
    assert parser.get("unix_http_server", "file") == "/var/lib/epu/supervisor.sock"


def command_of(text: str, program: str) -> list[str]:
    parser = RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read_string(files_of(text)["/var/lib/epu/supervisord.conf"]["content"])
    return shlex.split(parser.get(f"program:{program}", "command").replace("%%", "%"))


def test_a_broker_is_started_with_what_was_said() -> None:
    run = unpleasant("")
    text = render("broker", "configure", {"run": run, "listen": "auto"})
    words = command_of(text, "broker")
    assert words[:5] == ["/opt/epu/bin/python", "-m", "mgmt.cli", "broker", "start"]
    assert words[words.index("--vhost") + 1] == run
    assert words[words.index("--listen") + 1] == "auto"
    assert json_in(text, "/etc/epu/machine.json")["needs"] == {"rabbitmq-server": "rabbitmq-server"}


@pytest.mark.parametrize("as_text", [False, True])
def test_a_coordinator_is_told_its_clouds_and_waits_for_its_secrets(as_text: bool) -> None:
    clouds = {"sky": {"driver": "ec2", "type": unpleasant("")}, "here": {"driver": "process"}}
    given = json.dumps(clouds) if as_text else clouds
    words = command_of(
        render("coordinator", "install", {"run": "run-1", "clouds": given}), "coordinator"
    )
    assert words[words.index("--accounts") + 1] == "/etc/epu/accounts.json"
    assert words[words.index("--environment") + 1] == "/etc/epu/coordinator.env"
    assert words[words.index("--wait") + 1] == "900"
    told = [words[at + 1] for at, word in enumerate(words) if word.startswith("--cloud")]
    assert told == ["sky=ec2", f"sky.type={unpleasant('')}", "here=process"]


@pytest.mark.parametrize("clouds", ["not json", "[]", 3, ["a"]])
def test_clouds_that_are_no_mapping_are_refused(clouds: Any) -> None:
    with pytest.raises(TemplateProblem, match="must be a mapping"):
        render("coordinator", "configure", {"run": "r", "clouds": clouds})


def test_a_run_that_supervisord_would_misread_is_refused() -> None:
    with pytest.raises(TemplateProblem):
        render("broker", "configure", {"run": "a\nb"})


def test_packages_may_be_words_or_a_list() -> None:
    for packages in ("git, curl", ["git", "curl"]):
        found = yaml.safe_load(render("worker", "install", {**WORKER, "packages": packages}))
        assert found["packages"] == ["git", "curl"]


def test_the_script_is_for_old_pythons_too() -> None:
    """Machines bring their own python3; 3.9 is the oldest whose grammar it must fit."""
    code = f"import ast; ast.parse(open({str(BRING_UP)!r}).read(), feature_version=(3, 9))"
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


def test_the_holder_of_a_key_may_log_in_as_root_and_nobody_else_is_let_in() -> None:
    key = 'ssh-ed25519 AAAA\' me@home: "x" # y'
    found = yaml.safe_load(render("worker", "configure", {**WORKER, "ssh_key": key}))
    assert (found["ssh_authorized_keys"], found["disable_root"]) == ([key], False)
    without = yaml.safe_load(render("worker", "configure", WORKER))
    assert not {"ssh_authorized_keys", "disable_root"} & without.keys()
