"""The classic reader, on a plan that uses every construct and on small ones for each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.wire import from_wire, to_wire
from bootlevels.attributes import Attributes
from bootlevels.plan import CheckKind, LaunchPlan, ServiceKind, ServiceSpec, TransportKind
from bootlevels.plan_choices import PlanChoices, PlanReading
from bootlevels.plan_classic import read_classic_plan

HARBOUR = Path(__file__).parent / "classic_plans" / "harbour"
ENVIRONMENT = {
    "HARBOUR_KEY": "key-1",
    "HARBOUR_SECRET": "secret-1",
    "LAB_KEY": "key-2",
    "HARBOUR_WORD": "tide",
    "STORE_PASSWORD": "anchor",
    "LIGHT_ARGUMENT": "brighter still",
}
ON_PROCESS = {"default": "process", "east": "process", "lab": "process"}

Files = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write files below a directory of the test; the path of ``main.conf``.

    ``p.sh`` is there as a program beside every ``.conf``.
    """

    def write(contents: Mapping[str, str]) -> Path:
        for name, text in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
            (path.parent / "p.sh").write_text("#!/bin/sh\n")
        return tmp_path / "main.conf"

    return write


def one_level(level: str, top: str = "") -> dict[str, str]:
    runlevels = "[runlevels]\nlevel1: level.conf\n"
    return {"main.conf": textwrap.dedent(top) + "\n" + runlevels, "level.conf": level}


def read(path: Path, **choices: object) -> PlanReading:
    choices = {"environment": ENVIRONMENT, **choices}
    return read_classic_plan(path, PlanChoices(**choices))  # type: ignore[arg-type]


def harbour() -> LaunchPlan:
    return read(HARBOUR / "main.conf", remapped=ON_PROCESS).plan


def words(service: ServiceSpec, plan: LaunchPlan, **outputs: dict[str, str]) -> list[str]:
    """The words of the boot program, all references resolved."""
    run = {"run_name": "try"}
    known = Attributes(plan=plan, run=run, outputs=outputs, environment=ENVIRONMENT)
    assert service.boot is not None
    return [known.expand(word, service) for word in service.boot.words[1:]]


def warned(reading: PlanReading) -> str:
    return "\n".join(str(warning) for warning in reading.warnings)


# ------------------------------------------------------------------ every construct


def test_levels_are_booted_in_numeric_order_and_may_have_several_files() -> None:
    plan = harbour()
    assert [level.number for level in plan.levels] == [1, 2, 10]
    assert [[service.name for service in level.services] for level in plan.levels] == [
        ["store", "values", "registry"],
        ["quay-0", "quay-1", "quay-2", "guest", "oldhost", "sweeper"],
        ["light"],
    ]


def test_a_plan_is_named_by_its_directory_when_its_file_is_called_main(files: Files) -> None:
    assert harbour().name == "harbour"
    path = files(one_level("[svc-a]\nlocal_exe: true\n"))
    other = path.rename(path.with_name("my plan.conf"))
    assert read(other).plan.name == "my-plan"


def test_every_kind_of_service_is_told_apart() -> None:
    plan = harbour()
    kinds = {service.name: service.kind for service in plan.services()}
    assert kinds == {
        "store": ServiceKind.MACHINE,
        "values": ServiceKind.ATTRIBUTES,
        "registry": ServiceKind.MACHINE,
        "quay-0": ServiceKind.MACHINE,
        "quay-1": ServiceKind.MACHINE,
        "quay-2": ServiceKind.MACHINE,
        "guest": ServiceKind.RESIDENT,
        "oldhost": ServiceKind.HOST,
        "sweeper": ServiceKind.LOCAL,
        "light": ServiceKind.LOCAL,
    }
    assert plan.service("guest").on == "registry"
    assert plan.service("oldhost").host == "192.0.2.7"
    sweeper = plan.service("sweeper")
    assert sweeper.boot is None
    assert sweeper.ready == ()
    assert sweeper.terminate is not None


def test_deps_are_read_in_the_order_of_their_keys_as_texts_and_later_ones_win() -> None:
    attributes = harbour().service("store").attributes
    assert attributes["berth"] == "three"  # deps1, deps10, deps2
    assert attributes["site_name"] == "cove"  # deps0 of the defaults, then deps2
    assert attributes["password"] == "env:STORE_PASSWORD"
    assert attributes["half"] == "7000/2"


def test_arguments_are_split_as_by_a_shell_and_expanded_per_word() -> None:
    plan = harbour()
    assert words(plan.service("store"), plan) == [
        "--depth", "12", "", "two words", "--at", "cove/three",
    ]  # fmt: skip


def test_a_value_with_blanks_stays_one_word(files: Files) -> None:
    path = files(
        one_level("[svc-a]\nlocal_exe: true\nbootpgm: p.sh\nbootpgm_args: ${.x} ${.e}\ndeps: d.ini")
        | {"d.ini": '[deps]\nx: a b \'c\ne: ""\n'}
    )
    plan = read(path).plan
    assert words(plan.service("a"), plan) == ["a b 'c", ""]


def test_a_service_is_above_its_cloud_which_is_above_the_defaults() -> None:
    plan = harbour()
    store, registry = plan.service("store"), plan.service("registry")
    assert store.machine is not None
    assert registry.machine is not None
    assert store.machine.settings == {
        "image": "ami-harbour",
        "type": "m1.small",
        "key_name": "harbour",
        "security_groups": "quay",
    }
    assert registry.machine.cloud == "east"
    assert registry.machine.settings["image"] == "ami-registry"
    assert registry.machine.settings["key_name"] == "east-key"
    assert registry.ssh is not None
    assert registry.ssh.user == "clerk"
    assert registry.ssh.scp_user == "sailor"
    assert store.boot is not None
    assert registry.boot is not None
    assert store.boot.timeout == 90
    assert registry.boot.timeout == 60


def test_without_pgm_timeout_a_program_has_twenty_minutes(files: Files) -> None:
    plan = read(files(one_level("[svc-a]\nlocal_exe: TRUE\nbootpgm: p.sh"))).plan
    boot = plan.service("a").boot
    assert boot is not None
    assert boot.timeout == 1200


def test_a_ready_program_has_two_tries_as_ever() -> None:
    (check,) = harbour().service("store").ready
    assert check.kind is CheckKind.RUN
    assert check.tries == 2
    assert check.program is not None
    assert check.program.staged
    assert check.program.words[1:] == ("${.hostname}", "${.store_port}")


def test_globals_rank_plan_then_file_then_command_line() -> None:
    path = HARBOUR / "main.conf"
    plain = read(path, remapped=ON_PROCESS)
    assert plain.plan.globals["depth"] == "12"
    assert plain.plan.globals["secret_word"] == "env:HARBOUR_WORD"
    chosen = read(
        path,
        remapped=ON_PROCESS,
        stored={"fleet": "gull", "depth": "1"},
        files=(HARBOUR / "common.ini",),
        given={"colour": "blue"},
    )
    assert chosen.plan.globals == {
        "depth": "30",
        "fleet": "gull",
        "colour": "blue",
        "secret_word": "env:HARBOUR_WORD",
    }
    assert chosen.given == {"fleet": "gull", "depth": "30", "colour": "blue"}
    assert "common.ini:5: unused_here: the plan has no such global" in warned(chosen)


def test_paths_are_lexical_so_a_linked_level_directory_finds_its_neighbours() -> None:
    assert (HARBOUR / "front").is_symlink()
    boot = harbour().service("quay-0").boot
    assert boot is not None
    assert boot.words[0] == str(HARBOUR / "tools" / "boot.sh")


def test_tarballs_and_templates_are_files_beside_the_level() -> None:
    registry = harbour().service("registry")
    assert registry.boot is not None
    assert registry.boot.words == (str(HARBOUR / "tools" / "stone.tar.gz"),)
    assert registry.bootconf == str(HARBOUR / "base" / "registry.yaml")


def test_settings_can_be_asked_for_as_attributes_and_are_none_otherwise() -> None:
    plan = harbour()
    assert plan.service("registry").attributes["image"] == "ami-registry"
    assert "image" not in plan.service("store").attributes


def test_what_only_a_boot_program_can_give_is_an_output_with_a_warning() -> None:
    reading = read(HARBOUR / "main.conf", remapped=ON_PROCESS)
    assert reading.plan.service("store").outputs == ("ticket",)
    assert "'store' declares no 'ticket': its boot program must give it" in warned(reading)


def test_a_name_in_braces_without_a_dot_is_text() -> None:
    reading = read(HARBOUR / "main.conf", remapped=ON_PROCESS)
    plan = reading.plan
    outputs = {"registry": {"hostname": "r", "instance_id": "i-1"}}
    assert words(plan.service("guest"), plan, **outputs)[-1] == "/home/${guest}/x"
    assert "level.conf:12: bootpgm_args: '${guest}' is no reference" in warned(reading)


def test_the_name_of_the_run_is_an_attribute_of_every_service() -> None:
    plan = harbour()
    known = Attributes(plan=plan, run={"run_name": "try"}, outputs={}, environment={})
    assert known.expand("${.run}", plan.service("store")) == "try"


def test_arguments_from_the_environment_stay_a_name_in_the_plan() -> None:
    light = harbour().service("light")
    (check,) = light.ready
    assert check.program is not None
    assert check.program.words[1:] == ("${.readypgm_args}",)
    assert light.attributes["readypgm_args"] == "env:LIGHT_ARGUMENT"
    assert "brighter still" not in str(to_wire(harbour()))


def test_a_classic_plan_survives_the_record() -> None:
    plan = harbour()
    assert from_wire(LaunchPlan, to_wire(plan)) == plan


# ------------------------------------------------------------------ clouds


CLOUDS = {
    "iaas: us-west-2": {"driver": "ec2", "region": "us-west-2"},
    "iaas: us-gov-west-1": {"driver": "ec2", "region": "us-gov-west-1"},
    "iaas: ec2": {"driver": "ec2", "region": "us-east-1"},
    "": {"driver": "ec2", "region": "us-east-1"},
    "iaas: Nimbus\niaas_url: old.example.org:8444": {
        "driver": "ec2",
        "endpoint": "https://old.example.org:8444",
    },
    "iaas: libcloud-openstack\niaas_url: http://o/": {
        "driver": "libcloud",
        "provider": "openstack",
        "endpoint": "http://o/",
    },
    "iaas_key: env.HARBOUR_KEY\niaas_secret: s": {
        "driver": "ec2",
        "region": "us-east-1",
        "access_key": "env:HARBOUR_KEY",
        "secret_key": "s",
    },
}


@pytest.mark.parametrize("keys", CLOUDS)
def test_iaas_keys_become_a_driver_and_its_settings(
    keys: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Which drivers are installed is not the reader's affair.
    monkeypatch.setattr("bootlevels.plan_classic.plan_problems", lambda *_: [])
    plan = read(files(one_level(f"[svc-a]\nimage: i\n{keys}\n"))).plan
    machine = plan.service("a").machine
    assert machine is not None
    assert plan.clouds[machine.cloud] == CLOUDS[keys]


def test_services_with_the_same_iaas_share_a_cloud_and_others_do_not(files: Files) -> None:
    level = """
        [svc-a]
        [svc-b]
        iaas: us-west-1
        [svc-c]
        cloud: x
        [svc-d]
        cloud: cloud-x
        iaas_key: env.LAB_KEY
        """
    top = "[defaults]\nimage: i\niaas: us-west-1\n[cloud-x]\niaas: us-east-1\n"
    path = files(one_level(level, top))
    names = {"default": "in_memory", "x-d": "in_memory", "x": "process"}
    with pytest.raises(Exception, match="no cloud 'x-d'"):  # x is mapped, and with it d
        read(path, remapped=names)
    plan = read(path, remapped={"default": "in_memory", "x": "process"}).plan
    where = {s.name: s.machine.cloud for s in plan.services() if s.machine}
    assert where == {"a": "default", "b": "default", "c": "x", "d": "x"}
    assert plan.clouds == {"default": {"driver": "in_memory"}, "x": {"driver": "process"}}


# ------------------------------------------------------------------ places


def test_a_default_hostname_holds_for_who_has_no_image_of_its_own(files: Files) -> None:
    level = "[svc-a]\n[svc-b]\nimage: own\n[svc-c]\nhostname: h2\nimage: own\n"
    plan = read(
        files(one_level(level, "[defaults]\nhostname: h1\nimage: i\n")),
        remapped={"default": "in_memory"},
    ).plan
    assert (plan.service("a").kind, plan.service("a").host) == (ServiceKind.HOST, "h1")
    assert plan.service("b").kind is ServiceKind.MACHINE
    assert (plan.service("c").kind, plan.service("c").host) == (ServiceKind.HOST, "h2")


def test_a_machine_with_local_exe_is_launched_and_its_programs_run_here(files: Files) -> None:
    path = files(one_level("[svc-a]\nimage: i\nlocal_exe: true\nbootpgm: p.sh\n"))
    service = read(path, remapped={"default": "in_memory"}).plan.service("a")
    assert service.kind is ServiceKind.MACHINE
    assert service.transport is TransportKind.LOCAL


def test_iaas_launch_false_needs_no_machine_whatever_the_defaults_say(files: Files) -> None:
    level = "[svc-a]\niaas_launch: False\nlocal_exe: true\nbootpgm: p.sh\n"
    plan = read(files(one_level(level, "[defaults]\nimage: i\n"))).plan
    assert plan.service("a").kind is ServiceKind.LOCAL


def test_a_program_from_the_defaults_is_sought_beside_each_level_file(files: Files) -> None:
    path = files(
        {
            "main.conf": "[defaults]\nbootpgm: p.sh\nlocal_exe: true\n"
            "[runlevels]\nlevel1: a/l.conf\nlevel2: b/l.conf\n",
            "a/l.conf": "[svc-a]\n",
            "b/l.conf": "[svc-b]\n",
        }
    )
    plan = read(path).plan
    programs = [s.boot.words[0] for s in plan.services() if s.boot]
    assert programs == [str(path.parent / "a/p.sh"), str(path.parent / "b/p.sh")]


def test_one_replica_keeps_its_name(files: Files) -> None:
    plan = read(files(one_level("[svc-a]\nlocal_exe: true\nreplica_count: 1\n"))).plan
    assert [service.name for service in plan.services()] == ["a"]


# ------------------------------------------------------------------ the dialect


def test_comments_of_all_kinds_and_both_delimiters_are_read(files: Files) -> None:
    level = """\
        # a comment
        ; another
        rem and a third
        [svc-a] ; the service
        LOCAL_EXE = true      ; a comment after a value
        deps: d.ini
        """
    deps = "[deps]\nx: a;b ; c\ny = 1:2\nz: first\n   second\n  # no part of it\n\n"
    plan = read(files(one_level(level) | {"d.ini": deps})).plan
    attributes = plan.service("a").attributes
    assert (attributes["x"], attributes["y"], attributes["z"]) == ("a;b", "1:2", "first\nsecond")


def test_a_default_section_and_percent_signs_are_what_they_were(files: Files) -> None:
    deps = "[DEFAULT]\nroot: /srv\n[deps]\ndata: %(root)s/data %%\nrate: 50%\n"
    path = files(one_level("[svc-a]\nlocal_exe: true\ndeps: d.ini\n") | {"d.ini": deps})
    attributes = read(path).plan.service("a").attributes
    assert (attributes["data"], attributes["rate"]) == ("/srv/data %", "50%")


def test_latin_1_and_windows_line_ends_are_read_with_a_warning(files: Files) -> None:
    path = files(one_level("[svc-a]\nlocal_exe: true\n"))
    content = "# caf\xe9\r\n[svc-a]\r\nlocal_exe: true\r\n"
    (path.parent / "level.conf").write_bytes(content.encode("latin-1"))
    reading = read(path)
    assert "level.conf: is not UTF-8, so it was read as Latin-1" in warned(reading)


def test_a_thousand_services_share_the_files_they_name(files: Files) -> None:
    level = "[svc-a]\nlocal_exe: true\nreplica_count: 1000\nbootpgm: p.sh\ndeps: d.ini\n"
    plan = read(files(one_level(level) | {"d.ini": "[deps]\nx: 1\n"})).plan
    assert len(list(plan.services())) == 1000
    assert plan.service("a-999").attributes == {"replica": "999", "x": "1"}


def test_a_level_may_be_written_several_times(files: Files) -> None:
    top = "[runlevels]\nlevel1: a.conf\nlevel1: b.conf\nlevel01: c.conf\n"
    levels = {f"{n}.conf": f"[svc-{n}]\nlocal_exe: true\n" for n in "abc"}
    reading = read(files({"main.conf": top, **levels}))
    assert [[s.name for s in level.services] for level in reading.plan.levels] == [["a", "b", "c"]]
    assert reading.warnings == ()


def test_a_remapped_cloud_does_without_the_variables_of_the_old_one(files: Files) -> None:
    top = "[defaults]\nimage: env.NO_IMAGE\niaas: env.NO_IAAS\niaas_key: env.NO_KEY\n"
    top += "localsshkeypath: ~/no-such.pem\n"
    path = files(one_level("[svc-a]\nbootpgm: p.sh\n", top))
    reading = read(path, remapped={"default": "in_memory"})
    machine = reading.plan.service("a").machine
    assert machine is not None
    assert machine.settings == {}
    assert "main.conf:2: image: the environment has no NO_IMAGE (it is left out)" in warned(reading)
