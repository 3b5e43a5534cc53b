"""Is this machine fit for EPU: ``epu doctor --install``. Looks, changes nothing, asks nobody.

Each check says what needs the thing and how it is installed. What is required depends on
the clouds that are wanted from here; the rest is said and may be missing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_DEBIAN = "apt-get install --no-install-recommends"
#: Where programs are that are on nobody's path.
_ALSO = ("/usr/sbin", "/sbin", "/usr/lib/rabbitmq/bin")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked for. ``found``: where, or which; "" when it lacks."""

    name: str
    found: str
    needed_by: str
    remedy: str
    required: bool = False

    @property
    def lacks(self) -> bool:
        return not self.found

    @property
    def mark(self) -> str:
        return "MISSING" if self.lacks and self.required else "no" if self.lacks else "ok"


def examine(clouds: frozenset[str] = frozenset()) -> list[Check]:
    """All checks; ``clouds`` (names of drivers) are those that must work from here."""
    container, qemu, ec2 = ("container" in clouds, "qemu" in clouds, "ec2" in clouds)
    return [
        _python(),
        Check(
            name="Linux",
            found=os.uname().release if sys.platform == "linux" else "",
            needed_by="machines on this host, the private broker",
            remedy="use a Linux machine",
            required=True,
        ),
        _program("rabbitmq-server", "the private broker (not with a broker of yours)",
                 "rabbitmq-server", required=True),
        _program("cloud-init", "cloud container", "cloud-init", required=container),
        Check(
            name="root",
            found="yes" if os.geteuid() == 0 else "",
            needed_by="cloud container",
            remedy="run epu as root",
            required=container,
        ),
        _program("ssh", "services reached by ssh, by hand (epu itself needs no client)",
                 "openssh-client"),
        _program("sshd", "hosts that are reached by ssh; tests", "openssh-server"),
        _program("qemu-system-x86_64", "cloud qemu", "qemu-system-x86", required=qemu),
        _program("qemu-img", "cloud qemu", "qemu-utils", required=qemu),
        _program("genisoimage", "cloud qemu", "genisoimage", required=qemu),
        _program("mmdebstrap", "epu image build", "mmdebstrap"),
        _program("mke2fs", "epu image build", "e2fsprogs"),
        _kvm(),
        Check(
            name="EC2 credentials",
            found=ec2_credentials(),
            needed_by="cloud ec2",
            remedy="export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write"
            " ~/.aws/credentials (docs/ec2.md)",
            required=ec2,
        ),
        _module("libcloud", "clouds by apache-libcloud", "libcloud", "libcloud" in clouds),
        _module("matplotlib", "epu graph as SVG or PNG", "graph", required=False),
    ]  # fmt: skip


def verdict_line(checks: Iterable[Check]) -> str:
    """The last line: OK, and what this machine can do; or what it lacks."""
    by_name = {check.name: check for check in checks}
    missing = [check.name for check in by_name.values() if check.lacks and check.required]
    if missing:
        return f"NOT OK: this machine lacks {', '.join(missing)}"

    def have(*names: str) -> bool:
        return not any(by_name[name].lacks for name in names)

    kinds = {
        "machines as processes": True,
        "containers": have("cloud-init", "root"),
        "virtual machines": have("qemu-system-x86_64", "qemu-img", "genisoimage"),
        "EC2": have("EC2 credentials"),
    }
    return f"OK: this machine is fit for {', '.join(kind for kind, fit in kinds.items() if fit)}"


def _python() -> Check:
    version = sys.version_info
    fit = (3, 11) <= version < (3, 14)
    return Check(
        name="Python",
        found=".".join(map(str, version[:3])) if fit else "",
        needed_by="everything (3.11 to 3.13)",
        remedy=f"{_DEBIAN} python3 python3-venv, and a virtual environment of it",
        required=True,
    )


def _program(name: str, needed_by: str, package: str, *, required: bool = False) -> Check:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_ALSO))
    return Check(
        name=name,
        found=shutil.which(name, path=path) or "",
        needed_by=needed_by,
        remedy=f"{_DEBIAN} {package}",
        required=required,
    )


def _module(name: str, needed_by: str, extra: str, required: bool) -> Check:
    return Check(
        name=name,
        found="installed" if importlib.util.find_spec(name) is not None else "",
        needed_by=needed_by,
        remedy=f"pip install 'epu[{extra}]'",
        required=required,
    )


def _kvm(proves: Callable[[str], bool] | None = None) -> Check:
    from coordinator.clouds.qemu_acceleration import kvm_works

    qemu = shutil.which("qemu-system-x86_64")
    found = ""
    if qemu and os.access("/dev/kvm", os.R_OK | os.W_OK):
        try:
            found = "a guest ran" if (proves or kvm_works)(qemu) else ""
        except OSError:
            found = ""
    return Check(
        name="KVM",
        found=found,
        needed_by="cloud qemu, to be fast (works without, 10 times slower)",
        remedy="a host with /dev/kvm that this user may use (group kvm)",
    )


def ec2_credentials(home: Path | None = None) -> str:
    """Where EC2's credentials would come from, without a word of them; "" for none here.

    A machine of EC2 may have a role beside these: that is asked of nobody here.
    """
    environment = os.environ
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        return "environment"
    for name in ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        if environment.get(name):
            return name
    directory = (home or Path.home()) / ".aws"
    files = {
        "AWS_SHARED_CREDENTIALS_FILE": directory / "credentials",
        "AWS_CONFIG_FILE": directory / "config",
    }
    for name, usual in files.items():
        path = Path(environment.get(name) or usual)
        if path.is_file():
            return str(path)
    return ""
