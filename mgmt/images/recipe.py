"""What an image is made of, as values: packages, files, and the words that build it. PURE.

The image is plain Debian with cloud-init, as small and as quick to boot as it can be without
taking from a user's user-data what makes sense here: QEMU may have to emulate the processor,
and then each service that a machine does not need costs seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass

#: Changes with anything in this module that the fields of a Recipe don't show.
RECIPE_VERSION = 2
SUITE = "bookworm"
PACKAGES = (
    "systemd-sysv",
    "udev",
    "dbus",
    "iproute2",
    "netbase",
    "ca-certificates",
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "cloud-init",
    "python3-venv",
)
#: Services that do nothing for a machine that is thrown away, or only wait for people; modules
#: of the kernel come when they are used.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "cloud-init-hotplugd.socket",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "proc-sys-fs-binfmt_misc.automount",
    "serial-getty@ttyS0.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
)
#: Services of packages that people may add: the broker of a run is started by `epu broker start`
#: (or by whoever wants Debian's), with a node and a data directory of its own.
_MASKED_OF = {"rabbitmq-server": ("epmd.service", "epmd.socket", "rabbitmq-server.service")}
#: What systemd starts: link below /etc/systemd/system → the unit it points to.
ENABLED = {
    "multi-user.target.wants/systemd-networkd.service": (
        "/lib/systemd/system/systemd-networkd.service"
    ),
    "network-online.target.wants/systemd-networkd-wait-online.service": (
        "/lib/systemd/system/systemd-networkd-wait-online.service"
    ),
    "sockets.target.wants/systemd-networkd.socket": "/lib/systemd/system/systemd-networkd.socket",
    "sysinit.target.wants/epu-boot-status.path": "/etc/systemd/system/epu-boot-status.path",
    "sysinit.target.wants/epu-no-name-server.service": (
        "/etc/systemd/system/epu-no-name-server.service"
    ),
}
KERNEL_COMMAND_LINE = (
    "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0"
    " audit=0 apparmor=0 random.trust_cpu=on no_timer_check"
)
#: The port that ``coordinator.clouds.qemu`` gives each machine, by its name in the guest.
_STATUS_PORT = "/dev/virtio-ports/epu.boot-status"
_CLOUD_CONFIG = """\
# Of `epu image build`: this image is for NoCloud disks; its file system has the size of its
# disk, its network is systemd-networkd's, and its locale is the one that need not be made.
datasource_list: [NoCloud, None]
network: {config: disabled}
locale: C.UTF-8
growpart: {mode: "off"}
resize_rootfs: false
ssh_genkeytypes: [ed25519]
"""
#: Debian's own lists less what has nothing to work on here and would only warn, or cost
#: seconds on an emulated processor: no boot loader, and these too where there is no sshd.
_MODULES = {
    "cloud_init_modules": (
        "migrator, seed_random, bootcmd, write-files, growpart, resizefs, disk_setup, mounts,"
        " set_hostname, update_hostname, update_etc_hosts, ca-certs, rsyslog, users-groups, ssh"
    ),
    "cloud_config_modules": (
        "snap, ssh-import-id, keyboard, locale, set-passwords, apt-pipelining, apt-configure,"
        " ntp, timezone, runcmd, byobu"
    ),
    "cloud_final_modules": (
        "package-update-upgrade-install, fan, landscape, lxd, write-files-deferred, puppet,"
        " chef, mcollective, salt-minion, scripts-vendor, scripts-per-once, scripts-per-boot,"
        " scripts-per-instance, scripts-user, ssh-authkey-fingerprints, keys-to-console,"
        " phone-home, final-message, power-state-change"
    ),
}
_OF_SSHD = frozenset(
    {"ssh", "ssh-import-id", "set-passwords", "ssh-authkey-fingerprints", "keys-to-console"}
)
_NETWORK = """\
[Match]
Type=ether
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
#: Beside what cloud-init makes of a network that it is told of.
_STATIC_NETWORK = """\
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
#: The one of QEMU's user-mode network. Elsewhere each look-up would wait for its answer.
_NAME_SERVER = "nameserver 10.0.2.3\n"
_NO_NAME_SERVER_UNIT = """\
[Unit]
Description=Ask no name server of another network
ConditionKernelCommandLine=network-config
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/usr/bin/truncate --size 0 /etc/resolv.conf
"""
_STATUS_PATH_UNIT = """\
[Unit]
Description=Tell the host how far cloud-init is
DefaultDependencies=no
[Path]
PathChanged=/var/lib/cloud/data/status.json
PathChanged=/run/cloud-init/status.json
"""
_STATUS_SERVICE_UNIT = f"""\
[Unit]
Description=Tell the host how far cloud-init is
DefaultDependencies=no
ConditionPathExists={_STATUS_PORT}
StartLimitIntervalSec=0
[Service]
Type=oneshot
ExecStart=/bin/sh -c '{{ printf "\\\\036"; cat /run/cloud-init/status.json; }} >{_STATUS_PORT}'
"""
#: Path in the image → text. The first two must be there before the kernel is installed.
EARLY_FILES = {
    "etc/initramfs-tools/conf.d/epu": "MODULES=list\nBUSYBOX=n\nCOMPRESS=zstd\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
}
FILES = {
    "etc/fstab": "/dev/vda / ext4 noatime 0 0\n",
    "etc/hostname": "localhost\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    # Empty, not "uninitialized": each machine gets an id without a first boot's presets.
    "etc/machine-id": "",
    "etc/resolv.conf": _NAME_SERVER,
    "etc/systemd/network/80-epu.network": _NETWORK,
    "etc/systemd/network/10-cloud-init-eth0.network.d/epu.conf": _STATIC_NETWORK,
    "etc/systemd/journald.conf.d/epu.conf": "[Journal]\nStorage=volatile\n",
    "etc/systemd/system/epu-boot-status.path": _STATUS_PATH_UNIT,
    "etc/systemd/system/epu-boot-status.service": _STATUS_SERVICE_UNIT,
    "etc/systemd/system/epu-no-name-server.service": _NO_NAME_SERVER_UNIT,
}
#: Documentation stays out; copyright files are no burden.
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*")
_KEPT = ("/usr/share/doc/*/copyright",)
_SUITES = re.compile(rf"{SUITE}(-updates|-security)?\Z")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what is in an image.

    ``sources``: the apt sources it is made from, empty for mmdebstrap's own; ``agent``: the
    digest of the wheelhouse whose agent is baked in, empty for none; ``size_gib``: of the
    disk that a machine sees.
    """

    sources: str = ""
    packages: tuple[str, ...] = PACKAGES
    agent: str = ""
    size_gib: int = 8

    def files(self) -> dict[str, str]:
        """Path in the image → text, of all that no package brings."""
        sshd = "openssh-server" in self.packages
        lists = [
            f"{name}: [{', '.join(m for m in modules.split(', ') if sshd or m not in _OF_SSHD)}]\n"
            for name, modules in _MODULES.items()
        ]
        return {**FILES, "etc/cloud/cloud.cfg.d/90-epu.cfg": _CLOUD_CONFIG + "".join(lists)}

    def masked(self) -> tuple[str, ...]:
        """Units that systemd never starts."""
        return (*MASKED, *(unit for name in self.packages for unit in _MASKED_OF.get(name, ())))

    def digest(self) -> str:
        """The image's name in the store: the same for the same recipe, 16 hex digits."""
        whole = {
            "recipe": asdict(self),
            "version": RECIPE_VERSION,
            "suite": SUITE,
            "files": {**EARLY_FILES, **self.files()},
            "units": [self.masked(), ENABLED],
            "cmdline": KERNEL_COMMAND_LINE,
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def bootstrap_words(recipe: Recipe, root: str, early_files: str) -> list[str]:
    """The mmdebstrap command that fills ``root``; it reads the sources on its input."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT),
        *(f"--dpkgopt=path-include={path}" for path in _KEPT),
        f"--setup-hook=sync-in {early_files} /",
        SUITE,
        root,
        *(["-"] if recipe.sources else []),
    ]


def sources_of_host(texts: dict[str, str]) -> str:
    """What of a host's apt sources (file name → text) is Debian's own for our suite.

    Empty when there is nothing: a host of another release, or no Debian. Other archives
    stay out: what they hold is not what an image is made of.
    """
    kept: list[str] = []
    for name, text in sorted(texts.items()):
        if name.endswith(".sources"):
            kept += _of_stanzas(text)
        elif name.endswith(".list"):
            kept += _of_lines(text)
    return "\n\n".join(kept) + "\n" if kept else ""


def _of_stanzas(text: str) -> list[str]:
    kept = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if line and not line.startswith("#")]
        fields: dict[str, str] = {}
        key = ""
        for line in lines:
            if line[0].isspace():
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
            else:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if (
            "deb" in fields.get("types", "").split()
            and fields.get("enabled", "yes").lower() != "no"
            and _is_ours(fields.get("suites", ""), fields.get("components", ""))
            and _is_debians(fields.get("signed-by", ""))
        ):
            kept.append("\n".join(lines))
    return kept


def _of_lines(text: str) -> list[str]:
    kept = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s*)?\S+\s+(?P<rest>.*)", line)
        if match is None:
            continue
        suite, *components = match["rest"].partition("#")[0].split() or [""]
        signed = re.search(r"signed-by=(\S+)", match["options"] or "")
        if _is_ours(suite, " ".join(components)) and _is_debians(signed[1] if signed else ""):
            kept.append(line.strip())
    return ["\n".join(kept)] if kept else []


def _is_ours(suites: str, components: str) -> bool:
    words = suites.split()
    return bool(words) and all(map(_SUITES.match, words)) and "main" in components.split()


def _is_debians(keyring: str) -> bool:
    return not keyring or "debian-archive" in keyring
