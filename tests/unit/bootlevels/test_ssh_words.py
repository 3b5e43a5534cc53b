from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bootlevels.api import Run

PLAN = """
    plan: hosts
    levels:
      - services:
          web:
            host: 192.0.2.7
            ssh: {user: admin, port: 2222, key: keys/my key, known_hosts: hosts}
          plain: {host: "2001:db8::1"}
"""


def test_the_commands_that_reach_a_host_can_be_typed_as_they_are(
    home: Path, plan_file: Callable[[str], Path]
) -> None:
    path = plan_file(PLAN)
    (path.parent / "keys").mkdir()
    for name in ("keys/my key", "hosts"):
        (path.parent / name).touch(0o600)
    run = Run.prepare(path)
    options = f"-i '{path.parent}/keys/my key' -o UserKnownHostsFile={path.parent}/hosts"
    assert run.ssh_command("web") == f"ssh {options} -p 2222 admin@192.0.2.7"
    assert run.scp_command("web", "a b", "/tmp/c") == (
        f"scp {options} -P 2222 'a b' admin@192.0.2.7:/tmp/c"
    )
    assert run.ssh_command("plain").endswith(" 2001:db8::1")
    assert "[2001:db8::1]:x" in run.scp_command("plain", "a", "x")
