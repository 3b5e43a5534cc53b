"""A plan as they were written around 2011, in its files' own manners, booted on ``process``.

Basenode, message bus, store, provisioner, controllers: chains of deps files, JSON bootconfs,
tarballs and scripts that rely on what an earlier program left in the stage directory.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bootlevels.api import Run

pytestmark = pytest.mark.integration

MAIN = """\
[defaults]
cloud:\tnimbus-test
image = env.BASE_IMAGE
allocation: m1.small
sshkeyname: ooi
localsshkeypath: ~/.ssh/ooi.pem
ssh_username: epu ; as on all our images
bootpgm_timeout: 900

[globals]
exchange: demo%d
Sysname: epu-demo

[cloud-nimbus-test]
iaas: Nimbus
iaas_url: https://fake.example:8444
iaas_key = env.NIMBUS_KEY
iaas_secret = env.NIMBUS_SECRET

# the levels
[runlevels]
level1: rl-01-basenode/basenode.conf
level2: rl-02-services/services.conf
level3: rl-03-epus/epus.conf
"""

FILES = {
    "launch.conf": MAIN.replace("\n", "\r\n"),
    "rl-01-basenode/basenode.conf": "\ufeff[svc-basenode]\niaas_launch: true\nreadypgm: up.sh\n",
    "rl-01-basenode/up.sh": "#!/bin/sh\nexit 0\n",
    "common/deps/base.conf": "[deps]\nrabbit_port: 5672\nlog_level=DEBUG\nurl: http://h/?a=b;c#frag\n",
    "common/deps/rabbit.conf": (
        "[deps]\nbroker_ip_address: ${rabbit.broker_ip}\nbroker_ip_address: ${rabbit.broker_ip}\n"
        "brokers: ${rabbit.broker_ip}\n   ,${cassandra.cassandra_hostname}\n"
    ),
    "rl-02-services/services.conf": """\
[svc-cassandra]
hostname: localhost
deps: cassandra.conf

[svc-rabbit]
hostname: ${basenode.hostname}
bootpgm: rabbit.tar.gz
bootpgm_args: ${.name}
deps1: ../common/deps/base.conf
""",
    "rl-02-services/cassandra.conf": "[deps]\ncassandra_hostname: 127.0.0.9\n",
    "rl-03-epus/epus.conf": """\
[DEFAULT]
pgm_timeout: 120
[svc-provisioner]
HOSTNAME: ${basenode.hostname}
bootpgm: chef.sh
bootpgm_args: 'dt data' "" ${rabbit.broker_ip}
bootconf: provisioner.json
readypgm: ready.sh
terminatepgm: stop.sh
deps1: ../common/deps/base.conf
deps2: ../common/deps/rabbit.conf

[svc-epu-controller]
local_exe: True
hostname: localhost
replica_count: 2
bootpgm: chef.sh
bootpgm_args: a b ${rabbit.broker_ip}
bootconf: provisioner.json
readypgm: ready.sh
deps1: ../common/deps/base.conf
deps2: ../common/deps/rabbit.conf
deps3: local.conf
""",
    "rl-03-epus/local.conf": "[deps]\nlog_level: INFO\n",
    "rl-03-epus/provisioner.json": """\
{"broker": "${broker_ip_address}:$rabbit_port",
 "level": "$log_level", "url": "$url", "all": "$brokers"}
""",
    "rl-03-epus/chef.sh": """\
#!/bin/sh
. ./bootenv.sh
[ $# = 3 ] || exit 9
cp bootconf.json chefroles.json
echo "$log_level $3" > installed
printf '{"ip": "%s"}' "$3" > bootout.json
""",
    # It relies on what the boot program left beside it.
    "rl-03-epus/ready.sh": "#!/bin/sh\ngrep -q . installed && grep -q broker chefroles.json\n",
    "rl-03-epus/stop.sh": '#!/bin/sh\ncat installed > "$EPU_PLACE/stopped"\n',
}
RABBIT = """\
#!/bin/bash
echo "starting $1"
echo '{"broker_ip": "10.1.2.3"}' > bootout.json
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EPU_RUN", raising=False)
    monkeypatch.setenv("BASE_IMAGE", "base-image-v1")
    monkeypatch.setenv("NIMBUS_KEY", "nimbus-key-1")
    monkeypatch.setenv("NIMBUS_SECRET", "nimbus-secret-1")
    directory = tmp_path / "plans" / "demo"
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        path.chmod(0o755)
    latin = "[deps]\n# Gr\u00f6\u00dfe\ncassandra_hostname: 127.0.0.9\n".encode("latin-1")
    (directory / "rl-02-services/cassandra.conf").write_bytes(latin)
    with tarfile.open(directory / "rl-02-services/rabbit.tar.gz", "w:gz") as packed:
        info = tarfile.TarInfo("rabbit/run.sh")
        info.mode, info.size = 0o644, len(RABBIT)
        packed.addfile(info, io.BytesIO(RABBIT.encode()))
    return directory / "launch.conf"


def test_it_boots_is_well_and_ends(plan: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mgmt.cli", "boot", str(plan), "-n", "demo"]
    command += ["--cloud", "nimbus-test=process"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "written twice" in done.stderr and "Latin-1" in done.stderr
    assert "nimbus-secret-1" not in done.stdout + done.stderr
    run = Run.open("demo")
    try:
        assert len(run.machines()) == 1
        names = [service.spec.name for service in run.services(3)]
        assert names == ["provisioner", "epu-controller-0", "epu-controller-1"]
        assert {run.attributes(name)["ip"] for name in names} == {"10.1.2.3"}
        assert run.attributes("provisioner")["log_level"] == "DEBUG"
        assert run.attributes("epu-controller-0")["log_level"] == "INFO"
        rendered = run.directory / "stage" / "epu-controller-0" / "chefroles.json"
        assert json.loads(rendered.read_text().replace("\n ,", ",").replace("\n,", ",")) == {
            "broker": "10.1.2.3:5672",
            "level": "INFO",
            "url": "http://h/?a=b;c#frag",
            "all": "10.1.2.3,127.0.0.9",
        }
        assert run.status().ok
        # What a boot program left is gone: the ready program must notice.
        (rendered.parent / "installed").unlink()
        assert not run.status().ok
        assert run.repair().ok
    finally:
        ended = run.terminate()
    assert ended.ok, ended
    assert not list((run.directory / "stage").iterdir())
