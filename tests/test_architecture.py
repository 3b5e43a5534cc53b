"""The import rules of the house, read from the source and enforced.

Who may import whom, which library may appear where, which modules are pure, how long a
module may be. A rule that building proved wrong is changed here *and* in ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("agent", "bootlevels", "coordinator", "mgmt", "userdata_templates")
COMPONENTS = ("provisioner", "controller", "sensors", "registrar")

#: The wire: free for all.
WIRE = (
    "agent.messages",
    "agent.broker_access",
    "agent.broker_link",
    "agent.broker_tls",
    "agent.cloud_status",
    "agent.keeper_names",
    "agent.keepers",
    "agent.node_role",
    "agent.program_messages",
    "agent.wire",
    "agent.rpc_client",
    "agent.bus",
    "agent.green",
    "agent.process",
    "agent.watchdog",
    "agent.worker",
)
#: Values and parsers that people's text goes through, shared by all who read such text.
TEXT = (
    "coordinator.errors",
    "coordinator.plugins",
    "coordinator.settings",
    "coordinator.pool_spec",
    "coordinator.schedule",
)

ALLOWED: dict[str, tuple[str, ...]] = {
    "agent": (),
    "userdata_templates": (),
    "coordinator": (*WIRE, "userdata_templates"),
    "bootlevels": (*WIRE, *TEXT, "coordinator.clouds", "userdata_templates"),
    "mgmt": (
        *WIRE,
        *TEXT,
        "bootlevels",
        "coordinator.clouds",
        "coordinator.config",
        "coordinator.management_api",
        "coordinator.simulation",
        "coordinator.vitals",
        "coordinator.vitals_rpc",
    ),
}

#: Simulated agents say and drain what real ones do.
SIMULATED = ("coordinator", "simulation")
AGENT_CORE = ("agent.busy", "agent.drain", "agent.heartbeat")

#: Samples show plugins of one's own, which stand on what any plugin stands on.
SAMPLES = ("bootlevels", "plans")
PLUGINS = ("coordinator.engines.base",)

LIBRARIES: dict[str, tuple[str, ...]] = {
    "nameko": (
        "*/service.py",
        "agent/bus.py",
        "agent/process.py",
        "agent/timers.py",
        "mgmt/shell.py",
    ),
    "eventlet": (
        "*/service.py",
        "agent/bus.py",
        "agent/process.py",
        "agent/timers.py",
        "agent/green.py",
        "mgmt/shell.py",
    ),
    "kombu": (
        "agent/broker_link.py",
        "agent/bus.py",
        "agent/rpc_client.py",
        "agent/worker.py",
        "coordinator/sensors/heartbeat_intake.py",
        "coordinator/sensors/queue_length.py",
        "bootlevels/checks.py",
        "bootlevels/plans/*",
    ),
    "boto3": ("coordinator/clouds/ec2*.py",),
    "botocore": ("coordinator/clouds/ec2*.py",),
    "libcloud": ("coordinator/clouds/libcloud.py",),
    "psutil": (
        "agent/host_probe.py",
        "coordinator/clouds/process*.py",
        "coordinator/clouds/container*.py",
        "coordinator/clouds/qemu*.py",
        # Stopping what we started, by pid and start time.
        "mgmt/broker_processes.py",
        "mgmt/serve_processes.py",
    ),
    "supervisor": ("agent/process_probe.py",),
    "jinja2": ("userdata_templates/render.py",),
    "sqlalchemy": ("coordinator/store/*", "*/records.py", "bootlevels/record*.py"),
    "alembic": ("coordinator/store/*",),
    "click": ("*/cli.py", "mgmt/output.py"),
    "rich": ("*/cli.py", "mgmt/output.py"),
    "fabric": ("bootlevels/transports/ssh.py",),
    "paramiko": ("bootlevels/transports/ssh.py",),
    "cryptography": ("bootlevels/plans/self_hosted/key.py", "mgmt/broker_certificates.py"),
    "pydantic": (
        "coordinator/settings.py",
        "bootlevels/plan_yaml.py",
        "bootlevels/plan_text.py",
        "mgmt/documents/parts.py",
    ),
    "cronsim": ("coordinator/schedule.py",),
    "msgspec": ("agent/wire.py",),
    "prometheus_client": ("agent/prometheus_page.py",),
    "matplotlib": ("mgmt/graph.py",),
}

#: Standard library modules with which a module could not be pure.
IMPURE = {
    "asyncio", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select",
    "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip


@cache
def sources() -> list[Path]:
    return sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    return tuple(_imports_of(path))


def _imports_of(path: Path) -> Iterator[str]:
    """Full names of what a file imports, ``TYPE_CHECKING`` and functions included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists()
                yield full if is_module else module


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@cache
def is_pure(path: Path) -> bool:
    return "PURE" in (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0]


@pytest.mark.parametrize("path", sources(), ids=str)
def test_rooms_import_only_what_the_house_rules_allow(path: Path) -> None:
    room = path.parts[0]
    for name in imports_of(path):
        if name.split(".")[0] not in ROOMS or is_within(name, room):
            continue
        allowed = (*ALLOWED[room], *PLUGINS) if path.parts[:2] == SAMPLES else ALLOWED[room]
        if path.parts[:2] == SIMULATED:
            allowed = (*allowed, *AGENT_CORE)
        assert any(is_within(name, package) for package in allowed), (
            f"{path} imports {name}; {room} may import only {allowed or 'nothing of ours'}"
        )


@pytest.mark.parametrize("path", sources(), ids=str)
def test_components_of_the_coordinator_meet_only_in_messages(path: Path) -> None:
    if path.parts[0] != "coordinator" or path.parts[1] not in COMPONENTS:
        return
    others = [f"coordinator.{name}" for name in COMPONENTS if name != path.parts[1]]
    for name in imports_of(path):
        assert not any(is_within(name, other) for other in others), f"{path} imports {name}"


@pytest.mark.parametrize("path", sources(), ids=str)
def test_libraries_appear_only_in_their_own_rooms(path: Path) -> None:
    for name in imports_of(path):
        allowed = LIBRARIES.get(name.split(".")[0])
        if allowed is not None:
            assert any(fnmatch(str(path), pattern) for pattern in allowed), (
                f"{path} imports {name}, which may appear only in {allowed}"
            )


@pytest.mark.parametrize("path", [path for path in sources() if is_pure(path)], ids=str)
def test_pure_modules_stand_on_the_standard_library_and_pure_modules(path: Path) -> None:
    for name in imports_of(path):
        top = name.split(".")[0]
        if top in ROOMS:
            file = Path(*name.split("."))
            target = file.with_suffix(".py")
            target = target if (ROOT / target).exists() else file / "__init__.py"
            assert target.name == "__init__.py" or is_pure(target), (
                f"{path} is PURE but imports {name}, which is not"
            )
        else:
            assert top in sys.stdlib_module_names, f"{path} is PURE but imports {name}"
            assert top not in IMPURE, f"{path} is PURE but imports {name}"


def test_the_core_is_declared_pure() -> None:
    pure = {str(path) for path in sources() if is_pure(path)}
    core = {
        "agent/messages.py",
        "agent/heartbeat.py",
        "bootlevels/attributes.py",
        "bootlevels/boot_sequence.py",
        "coordinator/controller/brake.py",
        "coordinator/controller/cycle.py",
        "coordinator/controller/decision.py",
        "coordinator/controller/health.py",
        "coordinator/controller/view.py",
        "coordinator/engines/n_preserving.py",
        "coordinator/engines/queue_length.py",
        "coordinator/provisioner/lifecycle.py",
        "coordinator/provisioner/reconcile.py",
    }
    assert core <= pure, f"not declared PURE: {sorted(core - pure)}"


@pytest.mark.parametrize("path", sources(), ids=str)
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", sources(), ids=str)
def test_no_module_has_a_name_that_says_nothing(path: Path) -> None:
    assert path.stem not in {"utils", "util", "common", "misc", "helpers", "helper", "manager"}


@pytest.mark.parametrize("path", sources(), ids=str)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), f"{path} has no docstring"
