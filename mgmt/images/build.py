"""Builds images and keeps them in the store.

An image appears in the store whole or not at all: it is made in a directory of its own
that is renamed at the end, under a lock that dies with its holder. The commands that work
inside the new system run in namespaces of their own that die with this process, so that a
``kill -9`` leaves neither processes nor mounts, only a directory that the next build removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.clouds.qemu_image import (
    DESCRIPTION,
    DISK,
    INITRD,
    KERNEL,
    NAME,
    ImageDescription,
    describe,
)
from coordinator.errors import ConfigProblem, EpuError, Problem
from mgmt.images.recipe import (
    EARLY_FILES,
    ENABLED,
    KERNEL_COMMAND_LINE,
    SUITE,
    Recipe,
    bootstrap_words,
    sources_of_host,
)

#: Program → the Debian package that has it.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
_BOOTSTRAP_TIMEOUT = 1800.0
_STEP_TIMEOUT = 900.0
#: All that a command inside sees: nothing of a person's environment, credentials included.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

Say = Callable[[str], None]


class BuildFailed(EpuError):
    """An image could not be built; the last words of the tool are in the text."""


@dataclass(frozen=True)
class Built:
    """``place``: the image's directory; ``fresh``: it was not in the store before."""

    name: str
    place: Path
    fresh: bool
    seconds: float
    about: ImageDescription


def recipe_here(
    *,
    packages: Sequence[str] = (),
    wheelhouse: Path | None = None,
    apt: Path = Path("/etc/apt"),
) -> Recipe:
    """The recipe on this host: its sources of Debian packages, ours and ``packages``."""
    texts = {}
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        if path.is_file():
            texts[path.name] = path.read_text(errors="replace")
    return Recipe(
        sources=sources_of_host(texts),
        packages=tuple(dict.fromkeys((*Recipe.packages, *packages))),
        agent=_digest_of(wheelhouse) if wheelhouse else "",
    )


def build(
    name: str,
    recipe: Recipe,
    store: Path,
    say: Say,
    wheelhouse: Path | None = None,
    anew: bool = False,
) -> Built:
    """The image of ``recipe`` in ``store``, called ``name``; built unless it is there.

    With ``anew`` it is built from today's packages in any case. The older one stays:
    machines may run from it. Raises ConfigProblem when something is missing here, BuildFailed.
    """
    if not NAME.match(name):
        raise ConfigProblem(f"'{name}' can't be the name of an image (letters, digits, . _ -)")
    began = time.monotonic()
    digest = recipe.digest()
    store.mkdir(parents=True, exist_ok=True, mode=0o755)
    place = None if anew else _newest(store, digest)
    fresh = place is None
    if place is None:
        check_tools()
        with _locked(store / f".{digest}.lock", say):
            place = None if anew else _newest(store, digest)
            fresh = place is None
            if place is None:
                place = store / f"{digest}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
                _build(recipe, store, place, say, wheelhouse)
    _give_name(store, name, place.name)
    return Built(name, place, fresh, time.monotonic() - began, describe(place))


def export(place: Path, target: Path) -> None:
    """Copy an image to the directory ``target``, all of it or nothing.

    Raises ConfigProblem when something is there already, OSError.
    """
    if target.exists():
        raise ConfigProblem([Problem(key="-o", what=f"{target} exists already")])
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(place, new)
    os.rename(new, target)


def check_tools() -> None:
    """Raises ConfigProblem naming what is missing, with the command that installs it."""
    packages = sorted({package for tool, package in TOOLS.items() if not _which(tool)})
    problems = []
    if packages:
        remedy = f"as root: apt-get install -y --no-install-recommends {' '.join(packages)}"
        missing = ", ".join(tool for tool in TOOLS if not _which(tool))
        problems.append(Problem(what=f"building an image needs {missing}", remedy=remedy))
    if os.geteuid() != 0:
        problems.append(Problem(what="building an image needs root", remedy="use sudo"))
    if problems:
        raise ConfigProblem(problems)


# ------------------------------------------------------------------ the steps


def _build(recipe: Recipe, store: Path, place: Path, say: Say, wheelhouse: Path | None) -> None:
    work = store / f".{recipe.digest()}.building"
    _remove(work)  # what a killed build left
    root, image, early = work / "root", work / "image", work / "early"
    image.mkdir(parents=True)
    try:
        _write(early, EARLY_FILES)
        say(f"installing Debian {SUITE} and {len(recipe.packages)} packages (a minute or two) …")
        words = bootstrap_words(recipe, str(root), str(early))
        _run(words, _BOOTSTRAP_TIMEOUT, work / "mmdebstrap.log", recipe.sources, _proxies())
        version = ""
        if wheelhouse is not None:
            say("baking the agent in …")
            version = _bake(root, wheelhouse, work / "agent.log")
        _write(root, recipe.files())
        _set_units(root, recipe)
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()  # each machine makes its own: cloud-init sees to it
        kernel = _take_kernel(root, image)
        say("making the disk …")
        _make_disk(root, recipe, work, image / DISK)
        packages = (root / "var/lib/dpkg/status").read_text(errors="replace").count("\nPackage:")
        about = ImageDescription(
            digest=place.name,
            command_line=KERNEL_COMMAND_LINE,
            suite=SUITE,
            kernel=kernel,
            packages=packages + 1,
            built_at=time.time(),
            agent=version,
        )
        (image / DESCRIPTION).write_text(json.dumps(about.document(), indent=2) + "\n")
        for path in image.iterdir():
            path.chmod(0o644)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        os.rename(image, place)
    finally:
        _remove(work)


def _bake(root: Path, wheelhouse: Path, log: Path) -> str:
    """Install the agent from ``wheelhouse`` in /opt/epu, where user-data expects it."""
    inside = root / "opt" / "epu" / "wheels"
    inside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(wheelhouse, inside)
    pip = max((path.name for path in inside.glob("pip-*.whl")), default="")
    if not pip:
        raise ConfigProblem(
            [Problem(where=str(wheelhouse), what="no wheel of pip in it",
                     remedy="make it with: epu wheelhouse build")]
        )  # fmt: skip
    python = "/opt/epu/bin/python"
    install = [python, f"/opt/epu/wheels/{pip}/pip", "install", "--no-index", "--quiet"]
    install += ["--find-links", "/opt/epu/wheels", "--disable-pip-version-check"]
    for words in (
        ["/usr/bin/python3", "-m", "venv", "--without-pip", "/opt/epu"],
        [*install, "epu"],
    ):
        _run(["chroot", str(root), *words], _STEP_TIMEOUT, log)
    shutil.rmtree(inside)
    found = max((root / "opt/epu").glob("lib/python*/site-packages/epu-*.dist-info"))
    return found.name.removeprefix("epu-").removesuffix(".dist-info")


def _set_units(root: Path, recipe: Recipe) -> None:
    units = root / "etc" / "systemd" / "system"
    for unit in recipe.masked():
        _link(units / unit, "/dev/null")
    for link, target in ENABLED.items():
        _link(units / link, target)


def _take_kernel(root: Path, image: Path) -> str:
    """Move kernel and initrd out of the root file system; the kernel's version."""
    boot = root / "boot"
    kernels = sorted(boot.glob("vmlinuz-*"))
    if len(kernels) != 1:
        found = ", ".join(kernel.name for kernel in kernels) or "none"
        raise BuildFailed(f"an image has one kernel, and this has {found}")
    [kernel] = kernels
    version = kernel.name.removeprefix("vmlinuz-")
    shutil.move(kernel, image / KERNEL)
    shutil.move(boot / f"initrd.img-{version}", image / INITRD)
    return version


def _make_disk(root: Path, recipe: Recipe, work: Path, disk: Path) -> None:
    raw = work / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(recipe.size_gib << 30)
    log = work / "disk.log"
    options = "lazy_itable_init=1,lazy_journal_init=1"
    _run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "epu-root", "-E", options,
          "-d", str(root), str(raw)], _STEP_TIMEOUT, log)  # fmt: skip
    _run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)], _STEP_TIMEOUT, log)


def _run(
    words: Sequence[str],
    timeout: float,
    log: Path,
    text: str = "",
    more: Mapping[str, str] | None = None,
) -> None:
    """Run a command in mount and process namespaces that end when this process does.

    Raises BuildFailed with the end of what it printed.
    """
    cage = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    cage += ["--kill-child", "--mount-proc"]
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                [*cage, *words],
                input=text.encode(),
                stdout=output,
                stderr=output,
                timeout=timeout,
                cwd="/",
                env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **(more or {})},
            )
        except subprocess.TimeoutExpired:
            raise BuildFailed(f"{words[0]} did not finish within {timeout:g} s") from None
    if done.returncode != 0:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise BuildFailed("\n".join([f"{words[0]} failed:", *last[-12:]]))


# ------------------------------------------------------------------ small parts


def _proxies() -> dict[str, str]:
    """The proxy that this host's apt uses, for mmdebstrap: in the environment, not in argv."""
    found = {}
    for scheme in ("http", "https"):
        value = os.environ.get(f"{scheme}_proxy", "")
        if not value and _which("apt-config"):
            words = ["apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy"]
            said = subprocess.run(words, capture_output=True, text=True, timeout=30).stdout
            value = said.strip().removeprefix("PROXY=").strip("'")
        if value and value.upper() != "DIRECT":
            found[f"{scheme}_proxy"] = value
    if os.environ.get("no_proxy"):
        found["no_proxy"] = os.environ["no_proxy"]
    return found


def _digest_of(wheelhouse: Path) -> str:
    wheels = sorted(wheelhouse.glob("*.whl"))
    if not wheels:
        raise ConfigProblem(
            [Problem(where=str(wheelhouse), what="no wheels in it",
                     remedy="make it with: epu wheelhouse build")]
        )  # fmt: skip
    digest = hashlib.sha256()
    for wheel in wheels:
        with wheel.open("rb") as file:
            digest.update(
                f"{wheel.name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode()
            )
    return digest.hexdigest()[:16]


def _newest(store: Path, digest: str) -> Path | None:
    """The last image that was built of the recipe with this digest, if there is one."""
    return max((path.parent for path in store.glob(f"{digest}-*/{DESCRIPTION}")), default=None)


def _give_name(store: Path, name: str, place: str) -> None:
    link = store / name
    if link.is_dir() and not link.is_symlink():
        raise ConfigProblem(f"{link} is a directory: choose another name")
    new = store / f".{name}.link.{os.getpid()}"
    new.unlink(missing_ok=True)
    new.symlink_to(place)
    os.rename(new, link)


def _write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link that points out of the image
        path.write_text(text)
        path.chmod(0o644)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _remove(work: Path) -> None:
    """Remove a build directory; never through a mount, however it came there."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    below = [m for line in mounts if (m := line.split()[4]).startswith(f"{work}/")]
    if below:
        raise BuildFailed(f"something is mounted in {work}: umount {' '.join(below)}")
    shutil.rmtree(work, ignore_errors=True)


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{_PATH}")


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Whoever builds the same image first; the others wait and find it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of this image is under way; waiting for it …")
            deadline = time.monotonic() + _BOOTSTRAP_TIMEOUT + 2 * _STEP_TIMEOUT
            while not _try(descriptor):
                if time.monotonic() > deadline:
                    raise BuildFailed("the other build of this image does not end") from None
                time.sleep(0.5)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
