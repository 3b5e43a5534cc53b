"""A launch of several calls on EC2: cloud-init's own crawler reads the tag, the agent counts."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.config import read_config
from coordinator.clouds.ec2_request import INDEX_BASE

#: What the metadata service of a machine shows that was launched as the third of its call.
SHOWN = {
    "instance-id": "i-0123",
    "ami-launch-index": "2",
    "tags": {"instance": {INDEX_BASE: "20", "epu:run": "r", "Name": "r/p"}},
}
CRAWL = """
import json, sys
from cloudinit.sources.helpers import ec2
found = ec2.get_instance_metadata("2021-03-23", sys.argv[1], retries=0)
print(json.dumps({"ds": {"meta_data": found}, "v1": {"instance_id": found["instance-id"]}}))
"""


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found: Any = SHOWN
        for part in self.path.removeprefix("/2021-03-23/meta-data").strip("/").split("/"):
            found = found[part] if part else found
        if isinstance(found, dict):
            found = "\n".join(k + ("/" if isinstance(v, dict) else "") for k, v in found.items())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(found.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata_service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Metadata)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_machine_of_the_second_call_knows_its_index(
    tmp_path: Path, metadata_service: str
) -> None:
    crawled = subprocess.run(
        ["/usr/bin/python3", "-c", CRAWL, metadata_service],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "No module named 'cloudinit'" in crawled.stderr:
        reason = "cloud-init is not installed (apt-get install cloud-init)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    assert crawled.returncode == 0, crawled.stderr
    (tmp_path / "instance-data.json").write_text(crawled.stdout)
    enrol = {"user": "enrol", "password": "enrol"}
    broker = {"host": "b", "port": 5672, "vhost": "v", "accounts": {"enrol": enrol}}
    told = {"version": 1, "run": "r", "pool": "p", "launch_id": "l", "token": "t"}
    (tmp_path / "user-data").write_text(json.dumps({**told, "broker": broker}))
    config = read_config(tmp_path / "user-data", tmp_path / "instance-data.json", tmp_path)
    assert config.node_id == "l-22"
