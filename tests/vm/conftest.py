"""What the tests with real virtual machines share: an image, wheels, a system.

Building an image takes minutes and every boot one or more, so all of it is made once. The
images stay in the store of whoever runs the tests: the next run finds them there.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mgmt.broker_launch import server_script
from tests.e2e.conftest import System
from tests.e2e.conftest import figure as figure

#: Programs that these tests need, each with its Debian package.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "genisoimage": "genisoimage",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
}
#: Python of the image (Debian bookworm); a wheelhouse holds wheels for the version it was
#: made with.
PYTHON_OF_IMAGE = (3, 11)
#: A boot on an emulated processor, s; a busy machine needs several times what an idle one does.
BOOT_WITHIN = float(os.environ.get("EPU_TEST_BOOT_WITHIN", "900"))


def epu(*words: str, timeout: float = 1800.0) -> None:
    """The command, as a person would run it."""
    subprocess.run([sys.executable, "-m", "mgmt.cli", *words], check=True, timeout=timeout)


@pytest.fixture(scope="session")
def tools() -> None:
    """Fails in CI, and skips elsewhere, what can't be run here."""
    missing = [package for tool, package in PROGRAMS.items() if not shutil.which(tool)]
    if server_script() is None:
        missing.append("rabbitmq-server")
    reason = f"missing here: {', '.join(missing)} (apt-get install)" if missing else ""
    if os.geteuid() != 0:
        reason = reason or "building an image needs root"
    if reason:
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(scope="session")
def wheelhouse(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.version_info[:2] != PYTHON_OF_IMAGE:
        pytest.skip(f"wheels of Python {sys.version_info[:2]} do not fit the image's 3.11")
    directory = tmp_path_factory.mktemp("wheels") / "wheelhouse"
    epu("wheelhouse", "build", str(directory))
    return directory


@pytest.fixture(scope="session")
def plain_image(tools: None) -> str:
    """The name of an image without the agent, and with sshd."""
    epu("image", "build", "test-plain", "--package", "openssh-server")
    return "test-plain"


@pytest.fixture(scope="session")
def image_with_agent(wheelhouse: Path) -> str:
    epu("image", "build", "test-with-agent", "--with-agent", str(wheelhouse))
    return "test-with-agent"


@pytest.fixture(scope="session")
def wheels_by_http(wheelhouse: Path) -> Iterator[int]:
    """The port of this host's loopback interface at which the wheels are."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    serve = functools.partial(Quiet, directory=str(wheelhouse))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def system_of(directory: Path, driver: str, **settings: str) -> Iterator[System]:
    """A broker, and a coordinator with one cloud of that driver."""
    system = System(directory, "vm", "qemu" if driver == "qemu" else "process")
    try:
        system.start({"driver": driver, **settings})
        yield system
    finally:
        system.end()
