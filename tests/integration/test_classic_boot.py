"""A classic plan, booted for real: here and on machines of the ``process`` cloud."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from bootlevels.api import Run
from bootlevels.attributes import masked
from coordinator.errors import Problem

pytestmark = pytest.mark.integration

FILES = {
    "main.conf": """\
[defaults]
pgm_timeout: 30
iaas: us-east-1
iaas_key: env.NO_SUCH_KEY
image: env.NO_SUCH_IMAGE
[globals]
greeting: hello
[runlevels]
level1: one/level.conf
level02: two/level.conf
""",
    "one/level.conf": """\
[svc-base]
hostname: localhost
local_exe: true
bootpgm: boot.sh
bootpgm_args: '' "${global.greeting} world" ${.port}
bootconf: conf.yml
readypgm: ready.sh
terminatepgm: end.sh
deps: ../common/deps.conf

[svc-vm]
bootpgm: boot.sh
bootpgm_args: "on a machine"
bootconf: conf.yml
deps: ../common/deps.conf
replica_count: 2
""",
    "real-two/level.conf": """\
[svc-guest]
hostname: ${vm-0.hostname}
bootpgm: ../common/stone.tar.gz
bootpgm_args: ${base.token}${vm-1.token} "" ${vm-0.hostname}

[svc-values]
local_exe: true
hostname: localhost
deps: ../common/deps.conf
""",
    "common/deps.conf": "[deps]\nport: 5000\nrun: ${.run_name}\npassword: env.CLASSIC_PW\n",
    "one/conf.yml": "port: $port\nrun: ${run}\ncost: $$5\n",
    "one/boot.sh": """\
#!/bin/sh
echo "args: $#: [$1] [$2] [$3]"
cat bootconf.json
echo '{"token": "t-'$#'"}' > bootout.json
""",
    # A ready program had a second try, and here it needs it.
    "one/ready.sh": '#!/bin/sh\n[ -e "$EPU_RUN_DIR/tried" ] && exit 0\n'
    'touch "$EPU_RUN_DIR/tried"; exit 1\n',
    "one/end.sh": '#!/bin/sh\ntouch "$EPU_RUN_DIR/ended"\n',
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "plan"
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (directory / "two").symlink_to("real-two")
    program = b'#!/bin/sh\necho "stone: $#: [$1] [$2] [$3]"\n'
    with tarfile.open(directory / "common/stone.tar.gz", "w:gz") as packed:
        member = tarfile.TarInfo("stone/run.sh")
        member.size, member.mode = len(program), 0o755
        packed.addfile(member, io.BytesIO(program))
    monkeypatch.setenv("CLASSIC_PW", "not-to-be-stored")
    return directory / "main.conf"


def test_an_old_plan_boots_on_the_process_cloud_and_ends(plan: Path, tmp_path: Path) -> None:
    warnings: list[Problem] = []
    run = Run.prepare(
        plan,
        name="old",
        given={"greeting": "good"},
        clouds={"default": "process"},
        home=tmp_path / "home",
        warn=warnings.append,
    )
    try:
        outcome = run.boot()
        assert outcome.ok, outcome.failures
        logs = {path.stem: path.read_text() for path in (run.directory / "logs").glob("*.log")}
        assert "args: 3: [] [good world] [5000]" in logs["base"]
        assert "port: 5000\nrun: old\ncost: $5\n" in logs["base"]
        assert "args: 1: [on a machine]" in logs["vm-1"]
        assert "stone: 3: [t-3t-1] [] [" in logs["guest"]
        assert run.attributes("values")["port"] == "5000"
        assert masked("not-to-be-stored", run.secrets) == "***"
        assert run.status().ok
    finally:
        ended = run.terminate()
    assert ended.ok, ended.failures
    assert (run.directory / "ended").exists()
    for path in run.directory.rglob("run.db*"):
        assert b"not-to-be-stored" not in path.read_bytes()
    said = [str(warning) for warning in warnings]
    assert any("main.conf:5: image: the environment has no NO_SUCH_IMAGE" in s for s in said)
    assert any("'base' declares no 'token'" in s for s in said)
