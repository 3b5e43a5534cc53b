"""Images: what they are made of, and how they come into the store. Real builds: tests/vm."""

import json
import os
from dataclasses import replace

import pytest
import yaml

from coordinator.clouds.qemu_command import STATUS_PORT
from coordinator.clouds.qemu_image import DESCRIPTION, DISK, INITRD, KERNEL
from coordinator.errors import ConfigProblem
from mgmt.cli import epu
from mgmt.images.build import build, export, recipe_here
from mgmt.images.recipe import EARLY_FILES, FILES, Recipe, bootstrap_words, sources_of_host

DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian
Suites: trixie
Components: main

Types: deb
URIs: http://elsewhere.example/packages
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/elsewhere.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb http://commented.example bookworm main
deb http://mirror.example/debian bookworm main contrib # ours
deb-src http://mirror.example/debian bookworm main
deb [signed-by=/etc/elsewhere.gpg] http://elsewhere.example bookworm main
deb [arch=amd64] http://mirror.example/security bookworm-security main
deb http://docker.example bookworm stable
"""


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("EPU_IMAGES", str(tmp_path / "images"))

    def go(*words):
        with pytest.raises(SystemExit) as ended:
            epu.main([*words], prog_name="epu")
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return go


def test_of_a_hosts_sources_only_debians_own_for_the_release_are_taken():
    taken = sources_of_host({"debian.sources": DEB822, "more.list": ONE_LINE, "x.save": ONE_LINE})
    assert "http://mirror.example/debian" in taken
    assert "bookworm-security" in taken
    for word in ("trixie", "elsewhere", "off.example", "commented", "docker", "deb-src"):
        assert word not in taken


def test_a_host_of_another_release_has_no_sources_for_us():
    assert sources_of_host({"a.list": "deb http://mirror.example/ubuntu noble main\n"}) == ""


def test_an_image_is_another_when_anything_in_it_is():
    plain = Recipe()
    others = [
        replace(plain, sources="deb http://mirror.example bookworm main\n"),
        replace(plain, packages=(*plain.packages, "openssh-server")),
        replace(plain, agent="0123"),
        replace(plain, size_gib=9),
    ]
    digests = {recipe.digest() for recipe in (plain, *others)}
    assert len(digests) == 5
    assert Recipe().digest() == plain.digest()


def test_sources_are_read_from_the_input_only_when_there_are_some():
    assert bootstrap_words(Recipe(), "/r", "/e")[-1] == "/r"
    assert bootstrap_words(Recipe(sources="deb x"), "/r", "/e")[-1] == "-"


def test_the_image_speaks_to_the_port_that_the_driver_gives_it():
    assert any(f"/dev/virtio-ports/{STATUS_PORT}" in text for text in FILES.values())


def test_no_host_is_named_in_an_image():
    texts = (*Recipe().files().values(), *EARLY_FILES.values())
    assert not [text for text in texts if "://" in text]


def test_cloud_init_sees_to_sshd_where_there_is_one():
    place = "etc/cloud/cloud.cfg.d/90-epu.cfg"
    plain = yaml.safe_load(Recipe().files()[place])
    other = yaml.safe_load(Recipe(packages=("openssh-server",)).files()[place])
    assert "ssh" not in plain["cloud_init_modules"]
    assert "ssh" in other["cloud_init_modules"]
    assert "runcmd" in plain["cloud_config_modules"]
    assert isinstance(plain["locale"], str), "cloud-init warns of anything else"
    assert "scripts-user" in plain["cloud_final_modules"]


def test_a_broker_in_an_image_starts_when_it_is_told_to_and_not_with_the_machine():
    started = {"rabbitmq-server.service", "epmd.socket"}
    assert started.isdisjoint(Recipe().masked())
    assert started <= set(Recipe(packages=("rabbitmq-server",)).masked())


def test_the_agents_wheels_are_part_of_the_recipe(tmp_path):
    wheels = tmp_path / "wheelhouse"
    wheels.mkdir()
    with pytest.raises(ConfigProblem, match="epu wheelhouse build"):
        recipe_here(wheelhouse=wheels)
    (wheels / "epu-1-py3-none-any.whl").write_bytes(b"one")
    one = recipe_here(wheelhouse=wheels, apt=tmp_path)
    (wheels / "epu-1-py3-none-any.whl").write_bytes(b"two")
    assert recipe_here(wheelhouse=wheels, apt=tmp_path).digest() != one.digest()


def test_a_host_without_the_tools_is_told_all_that_is_missing(run, monkeypatch, tmp_path):
    monkeypatch.setattr("mgmt.images.build._PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, said = run("image", "build")
    assert code == 2
    assert "mmdebstrap, mke2fs, qemu-img" in said
    assert "apt-get install -y --no-install-recommends e2fsprogs mmdebstrap qemu-utils" in said


def test_an_image_that_is_in_the_store_is_not_built_again_and_gets_the_name(tmp_path, run):
    recipe = recipe_here()
    for day in ("20260101T000000Z", "20260201T000000Z"):
        _put(tmp_path / "images" / f"{recipe.digest()}-{day}")
    code, out, _ = run("image", "build", "mine", "--json")
    told = json.loads(out)
    assert (code, told["schema"], told["fresh"]) == (0, "epu.image", False)
    assert os.readlink(tmp_path / "images" / "mine") == f"{recipe.digest()}-20260201T000000Z"
    code, out, _ = run("image", "list", "--json")
    assert [image["name"] for image in json.loads(out)["images"]] == ["mine"]


def test_an_image_is_copied_whole_and_never_over_something(tmp_path):
    _put(tmp_path / "image")
    export(tmp_path / "image", tmp_path / "copy")
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == sorted(
        (DESCRIPTION, DISK, INITRD, KERNEL)
    )
    with pytest.raises(ConfigProblem, match="exists already"):
        export(tmp_path / "image", tmp_path / "copy")


def test_a_name_that_can_not_be_is_refused_before_anything_is_built(tmp_path):
    for name in ("", "../up", ".hidden", "a/b"):
        with pytest.raises(ConfigProblem, match="can't be the name"):
            build(name, Recipe(), tmp_path / "images", print)
    assert not (tmp_path / "images").exists()


def test_an_empty_store_says_how_to_fill_it(run):
    code, out, _ = run("image", "list")
    assert code == 0
    assert "epu image build" in out


def _put(directory):
    directory.mkdir(parents=True)
    for name in (DISK, KERNEL, INITRD):
        (directory / name).touch()
    about = {"digest": directory.name, "command_line": "root=/dev/vda", "suite": "bookworm"}
    about |= {"kernel": "6.1", "packages": 1, "built_at": 0.0}
    (directory / DESCRIPTION).write_text(json.dumps(about))
