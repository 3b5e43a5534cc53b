"""What is wrong with where services are is found before anything is launched."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from bootlevels.plan import LaunchPlan, ServiceKind
from bootlevels.plan_yaml import read_plan
from coordinator.errors import ConfigProblem

TOP = "plan: p\nclouds: {here: {driver: process}, mem: {driver: in_memory}}\nlevels:\n"


def level(*services: str) -> str:
    return "  - services:\n" + "".join(f"      {service}\n" for service in services)


def read(tmp_path: Path, *levels: str) -> LaunchPlan:
    path = tmp_path / "plan.yaml"
    path.write_text(TOP + "".join(levels))
    return read_plan(path)


def problems(tmp_path: Path, *levels: str) -> list[str]:
    with pytest.raises(ConfigProblem) as found:
        read(tmp_path, *levels)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in found.value.problems]


REGISTRAR = level("reg: {provides: [registrar], attributes: {accounts: x}}")

WRONG = {
    "two places": (
        [level("a: {local: true, host: h}")],
        "plan.yaml:5: services.a: is in more than one place: local, host",
    ),
    "programs without a place": (
        [level("a: {boot: {run: 'true'}}")],
        "services.a.boot: 'boot' needs a place to run",
    ),
    "unknown cloud": (
        [level("a: {cloud: hree}")],
        "services.a.cloud: unknown cloud 'hree' (did you mean 'here'?)",
    ),
    "unknown template": (
        [level("a: {cloud: here, template: worke}")],
        "services.a.template: there is no template 'worke' for cloud 'here' (agent-config) "
        "(did you mean 'worker'?)",
    ),
    "no way to run programs": (
        [level("a: {cloud: mem, boot: {run: 'true'}}")],
        "services.a.boot: its programs have no way to the machine (write ssh: {user: …, key: …}",
    ),
    "exec where there is none": (
        [level("a: {cloud: mem, transport: exec}")],
        "services.a.transport: cloud 'mem' has no way of its own (write ssh:",
    ),
    "agent without a registrar": (
        [level("a: {cloud: here, transport: agent}")],
        "services.a.transport: no service provides the registrar, so no agent can enrol",
    ),
    "agent too early": (
        [level("a: {cloud: here, transport: agent}"), REGISTRAR],
        "services.a.transport: no agent can enrol before 'reg', the registrar, is booted",
    ),
    "agent in this version": (
        [REGISTRAR, level("a: {cloud: here, transport: agent}")],
        "services.a.transport: nothing starts an agent on its machine (write template: …)",
    ),
    "transport of a local service": (
        [level("a: {local: true, transport: ssh}")],
        "services.a.transport: 'ssh' leads elsewhere, and the service is local",
    ),
    "programs with transport none": (
        [level("a: {cloud: here, transport: none, boot: {run: x}}")],
        "services.a.boot: with transport none nothing can be run",
    ),
    "on an unknown service": (
        [level("web: {cloud: here}"), level("a: {on: wbe}")],
        "services.a.on: unknown service 'wbe' (did you mean 'web'?)",
    ),
    "on a service of the same level": (
        [level("web: {cloud: here}", "a: {on: web}")],
        "services.a.on: 'web' is not in a lower level",
    ),
    "on a service that is nowhere": (
        [level("web: {attributes: {x: y}}"), level("a: {on: web}")],
        "services.a.on: 'web' is not on any one machine",
    ),
    "missing ssh key": (
        [level("a: {host: h, ssh: {key: no-key}}")],
        "services.a.ssh.key: there is no file 'no-key'",
    ),
    "ssh where nothing is": (
        [level("a: {local: true, ssh: {user: x}}")],
        "services.a.ssh: only machines and hosts have it",
    ),
    "settings where nothing is launched": (
        [level("a: {host: h, settings: {type: x}}")],
        "services.a.settings: only machines that are launched have it",
    ),
    "own address before the launch": (
        [level("a: {cloud: here, settings: {x: '${.hostname}'}}")],
        "services.a.settings.x: '${.hostname}' is known only after the launch",
    ),
    "own output before the boot": (
        [level("a: {cloud: here, settings: {x: '${.o}'}, outputs: [o], boot: {run: 'true'}}")],
        "services.a.settings.x: '${.o}' is known only after the boot program ran",
    ),
    "machine's facts of what is none": (
        [level("a: {host: h}"), level("b: {attributes: {x: '${a.instance_id}'}}")],
        "services.b.attributes.x: 'a' has no 'instance_id': it is not a machine",
    ),
    "replicas have names of their own": (
        [level("a: {cloud: here, replicas: 2}"), level("b: {attributes: {x: '${a.hostname}'}}")],
        "services.b.attributes.x: unknown service 'a' in '${a.hostname}' (known: a-0, a-1)",
    ),
    "a replica's name is taken": (
        [level("a: {cloud: here, replicas: 2}", "a-1: {cloud: here}")],
        "services.a-1: name is used twice, see plan.yaml:5",
    ),
    "too few replicas": (
        [level("a: {cloud: here, replicas: 0}")],
        "services.a.replicas: ",
    ),
    "no such program": (
        [level("a: {cloud: here, boot: {run: ./no.sh}}")],
        "services.a.boot.run: there is no program './no.sh'",
    ),
    "no such tarball": (
        [level("a: {cloud: here, boot: {run: no.tar.gz}}")],
        "services.a.boot.run: program 'no.tar.gz' is not there",
    ),
    "not a tarball": (
        [level("a: {cloud: here, boot: {run: text.tar.gz}}")],
        "services.a.boot.run: program 'text.tar.gz' is not a tarball",
    ),
    "tarball without run.sh": (
        [level("a: {cloud: here, boot: {run: empty.tar.gz}}")],
        "services.a.boot.run: program 'empty.tar.gz' holds no run.sh",
    ),
    "no such pool": (
        [level("a: {ready: [{pool: workers}]}")],
        "services.a.ready[0].pool: there is no pool 'workers'",
    ),
    "bootconf that nobody reads": (
        [level("a: {cloud: here, bootconf: text.tar.gz}")],
        "services.a.bootconf: no program of this service reads it",
    ),
    "user-data of a machine that reads none": (
        [level("a: {cloud: here, user_data: text.tar.gz}")],
        "services.a.user_data: machines of cloud 'here' read no user-data but an agent's",
    ),
}


@pytest.mark.parametrize("slip", WRONG)
def test_a_slip_is_named_with_its_key(tmp_path: Path, slip: str) -> None:
    (tmp_path / "text.tar.gz").write_text("x")
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz"):
        pass
    levels, sentence = WRONG[slip]
    said = problems(tmp_path, *levels)
    assert [line for line in said if sentence in line], said
    assert len(said) == 1, said


def test_what_is_wrong_with_replicas_is_said_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, level("a: {cloud: here, replicas: 5, boot: {run: ./no}}"))) == 1


def test_every_place_can_be_written(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        level("m: {cloud: here, image: i-1, settings: {type: small}, replicas: 2}"),
        level(
            "on: {on: m-1, boot: {run: 'true'}}",
            'same: {host: "${m-0.hostname}"}',
            'far: {host: "${m-0.private_ip}"}',
            "last: {local: true, terminate: {run: 'true'}}",
        ),
        level('all: {attributes: {x: "${on.hostname} ${far.hostname} ${same.instance_id}"}}'),
    )
    kinds = {service.name: service.kind for service in plan.services()}
    assert kinds == {
        "m-0": ServiceKind.MACHINE,
        "m-1": ServiceKind.MACHINE,
        "on": ServiceKind.RESIDENT,
        "same": ServiceKind.RESIDENT,
        "far": ServiceKind.HOST,
        "last": ServiceKind.LOCAL,
        "all": ServiceKind.ATTRIBUTES,
    }
    machine = plan.service("m-1").machine
    assert machine is not None
    assert machine.settings == {"type": "small", "image": "i-1"}
    assert plan.service("m-1").attributes == {"replica": "1"}
    assert plan.landlord(plan.service("same")).name == "m-0"
