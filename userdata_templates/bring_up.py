#!/usr/bin/python3 -I
"""Brings a machine of EPU up. User-data puts this file on the machine, see ``machine.j2``.

``bring-up`` lets the machine start what it is for, now and after each reboot, and returns
when that runs; ``bring-up run`` becomes it. Both do nothing twice and may be killed at any
point. What is wanted is in /etc/epu/machine.json. For the machine's own Python (3.9 or
newer), with the standard library alone; no value ever becomes part of a shell line.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

SELF = "/usr/local/lib/epu/bring-up"
PLACE = Path("/opt/epu")
HOME = Path("/var/lib/epu")
LOG = HOME / "logs" / "bring-up.log"
UNIT = """\
[Unit]
Description=EPU: what this machine is for
After=network-online.target cloud-init-local.service cloud-init.service cloud-init-network.service
Wants=network-online.target
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/local/lib/epu/bring-up run
Restart=always
RestartSec=2
KillMode=mixed
TimeoutStopSec=120
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=65536
[Install]
WantedBy=multi-user.target
"""


def say(text: str) -> None:
    print(f"epu: {text}", flush=True)


def call(words: list[str], seconds: float, **more: Any) -> None:
    subprocess.run(words, check=True, timeout=seconds, stdin=subprocess.DEVNULL, **more)


def lock() -> int | None:
    """A descriptor that holds the machine's lock; None while another process has it."""
    descriptor = os.open(HOME / "bring-up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def add_package(name: str) -> None:
    """Install a Debian package without letting it start a service of its own."""
    if not shutil.which("apt-get"):
        raise SystemExit(f"{name} is missing, and there is no apt-get: put it into the image")
    say(f"installing the Debian package {name}")
    policy, text = Path("/usr/sbin/policy-rc.d"), "#!/bin/sh\n# epu: for a moment\nexit 101\n"
    ours = not policy.exists() or policy.read_text() == text  # left by one of us that was killed
    if ours:
        policy.write_text(text)
        policy.chmod(0o755)
    try:
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qy"]
        quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        call(["dpkg", "--configure", "-a"], 600, env=quiet)  # the same
        call([*apt, "update"], 600, env=quiet)
        call([*apt, "install", "--no-install-recommends", name], 900, env=quiet)
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def fetch(url: str, tries: int = 8) -> bytes:
    """What is behind ``url``; a network that is not up yet is waited for, about a minute."""
    for left in reversed(range(tries)):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bytes(answer.read())
        except (OSError, HTTPException) as problem:
            if not left or 400 <= getattr(problem, "code", 500) < 500:
                raise SystemExit(f"{url} can't be fetched: {problem}") from None
        time.sleep(2 * (tries - left))
    raise AssertionError


def copy_wheels(wheelhouse: str, digest: str, place: Path) -> None:
    """The wheels of ``wheelhouse`` into ``place``, each as its manifest says."""

    def read(name: str) -> bytes:
        if "://" in wheelhouse:
            return fetch(f"{wheelhouse.rstrip('/')}/{name}")
        return (Path(wheelhouse) / name).read_bytes()

    manifest = read("manifest.json")
    if digest and hashlib.sha256(manifest).hexdigest() != digest:
        raise SystemExit(f"the manifest.json of {wheelhouse} is not the one that is meant")
    place.mkdir()
    for name, about in json.loads(manifest)["wheels"].items():
        wheel = read(name)
        if hashlib.sha256(wheel).hexdigest() != about["sha256"]:
            raise SystemExit(f"{name} of {wheelhouse} is not what its manifest says")
        (place / Path(name).name).write_bytes(wheel)


def install(told: dict[str, str]) -> None:
    """Make /opt/epu what ``told`` says, unless it is."""
    done, wish = PLACE / "installed.json", json.dumps(told, sort_keys=True)
    if done.exists() and done.read_text() == wish:
        return
    say(f"installing {told['requirement']} from {told['wheelhouse'] or 'an index'}")
    began, base, python = time.monotonic(), told["python"], str(PLACE / "bin" / "python")
    if PLACE.is_symlink():
        PLACE.unlink()  # an agent that was baked in; not ours to empty
    elif PLACE.exists():
        shutil.rmtree(PLACE)
    options = ["--no-input", "--no-compile", "--disable-pip-version-check", "--quiet"]
    if told["wheelhouse"]:
        wheels = PLACE / "wheels"
        PLACE.mkdir(mode=0o755)
        copy_wheels(told["wheelhouse"], told["wheelhouse_sha256"], wheels)
        options += ["--no-index", "--find-links", str(wheels)]
        call([base, "-m", "venv", "--without-pip", str(PLACE)], 300)
        # pip comes as a wheel too: the machine needs no python3-venv and no index at all.
        pip = [python, f"{next(wheels.glob('pip-*.whl'))}/pip"]
    else:
        if told["index_url"]:
            options += ["--index-url", told["index_url"]]
        if subprocess.run([base, "-c", "import ensurepip"], stderr=subprocess.DEVNULL).returncode:
            add_package("python3-venv")
        call([base, "-m", "venv", str(PLACE)], 300)
        pip = [python, "-m", "pip"]
    # In two steps: the versions that were tested come with the distribution itself.
    call([*pip, "install", *options, "--no-deps", told["requirement"]], 900)
    [pins] = PLACE.glob("lib/python*/site-packages/userdata_templates/constraints.txt")
    more = ["--constraint", str(pins), told["requirement"], "pip"]
    call([*pip, "install", *options, *more], 1800)
    shutil.rmtree(PLACE / "wheels", ignore_errors=True)
    done.write_text(wish)
    say(f"installed in {time.monotonic() - began:.0f} s")


def prepare(told: dict[str, Any]) -> None:
    """Put on the machine what it needs and has not got."""
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    for package, program in told["needs"].items():
        if not shutil.which(program, path=places):
            add_package(package)
    if told["install"]:
        install(told["install"])
    elif not os.access(told["python"], os.X_OK):
        raise SystemExit(f"this image has no {told['python']}: bake epu in, or install it")


def run(told: dict[str, Any]) -> None:
    """Become the supervisord of this machine. Whoever comes second has nothing to do."""
    held = lock()
    if held is None:
        say("runs already")
        return
    os.set_inheritable(held, True)
    prepare(told)
    python = told["python"]
    os.environ["PATH"] = f"{os.path.dirname(python)}:{os.environ.get('PATH', os.defpath)}"
    words = [python, "-m", "supervisor.supervisord", "-n", "-c", str(HOME / "supervisord.conf")]
    os.execv(python, words)


def start(told: dict[str, Any]) -> None:
    """Have it run, now and after each reboot; return when it does, or say why it does not."""
    systemd = os.path.isdir("/run/systemd/system") and shutil.which("systemctl")
    per_boot = Path("/var/lib/cloud/scripts/per-boot/epu")
    if systemd:
        Path("/etc/systemd/system/epu.service").write_text(UNIT)
        call(["systemctl", "daemon-reload"], 60)
        call(["systemctl", "--quiet", "enable", "epu.service"], 60)
    elif per_boot.parent.is_dir() and not per_boot.is_symlink():
        per_boot.symlink_to(SELF)
    held = lock()
    if held is not None:
        prepare(told)  # here, so that the console shows how it goes
        os.close(held)
    if systemd:
        call(["systemctl", "start", "--no-block", "epu.service"], 60)
    else:
        with open(LOG, "ab") as log:
            null = subprocess.DEVNULL
            subprocess.Popen(
                [SELF, "run"], stdin=null, stdout=log, stderr=log, start_new_session=True
            )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as there:
            if there.connect_ex(str(HOME / "supervisor.sock")) == 0:
                say(f"this machine is a {told['kind']} now")
                return
        time.sleep(0.1)
    tail = LOG.read_text(errors="replace")[-2000:] if LOG.exists() else ""
    raise SystemExit(f"supervisord did not start within 120 s\n{tail}")


if __name__ == "__main__":
    (HOME / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = json.loads(Path("/etc/epu/machine.json").read_text(encoding="utf-8"))
    try:
        (run if "run" in sys.argv else start)(wanted)
    except SystemExit as end:
        if isinstance(end.code, str):  # one beginning for every end that is none
            end.code = f"epu: this machine could not be brought up: {end.code}"
        raise
    except Exception as trouble:
        sys.exit(f"epu: this machine could not be brought up: {type(trouble).__name__}: {trouble}")
