"""The driver contract, run against every driver that needs no account anywhere."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.clouds.process import ProcessCloud
from coordinator.clouds.process_table import ProcessTable
from coordinator.clouds.qemu import QemuCloud
from coordinator.provisioner.cloud_process import CloudProcess
from coordinator.testing import CloudDriverContract, FakeClock
from tests.tiny_guest import guest_disk, need_qemu

#: A tiny program in place of the agent; the supervisord around it is real.
SLEEPER = {"agent_command": '["/bin/sleep", "600"]'}


class _RealMachines(CloudDriverContract):
    def setup_method(self):
        super().setup_method()
        self.state_dir = Path(tempfile.mkdtemp(prefix="epu-test-"))

    def teardown_method(self):
        super().teardown_method()
        left = self._processes_below(str(self.state_dir))
        shutil.rmtree(self.state_dir)
        assert not left

    def wait(self, seconds):
        time.sleep(seconds)

    @staticmethod
    def _processes_below(directory):
        wanted = f"EPU_NODE_DIR={directory}".encode()
        found = []
        for members in ProcessTable().by_mark().values():
            for process in members:
                try:
                    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                except OSError:
                    continue
                if wanted in environment:
                    found.append(process)
        return found


class TestProcessCloud(_RealMachines):
    def make_driver(self):
        return ProcessCloud.from_settings(SLEEPER, self.state_dir)


class TestQemuCloud(_RealMachines):
    """Guests of a few instructions on a real QEMU."""

    def setup_method(self):
        need_qemu()
        super().setup_method()
        self.disk = guest_disk(self.state_dir / "guest.img")

    def make_driver(self):
        settings = {"accel": "tcg", "memory": "128", "image": str(self.disk)}
        return QemuCloud.from_settings(settings, self.state_dir / "machines")


class TestHostedProcessCloud(_RealMachines):
    """The same driver in a process of its own, as the provisioner uses it."""

    def setup_method(self):
        super().setup_method()
        self.hosts = []

    def teardown_method(self):
        try:
            super().teardown_method()
        finally:
            for host in self.hosts:
                host.close()

    def make_driver(self):
        if len(self.hosts) < 2:
            settings = {"driver": "process", **SLEEPER}
            self.hosts.append(CloudProcess("here", settings, self.state_dir))
        self.hosts.reverse()  # now one process, now the other
        return self.hosts[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="machines of the container cloud take root")
class TestContainerCloud(_RealMachines):
    """Real namespaces, disk and init; a tiny program in place of cloud-init."""

    def make_driver(self):
        return ContainerCloud.from_settings({"boot_command": '["/bin/true"]'}, self.state_dir)

    @staticmethod
    def _processes_below(directory):
        records = [json.loads(r.read_text()) for r in Path(directory).glob("*/machine.json")]
        return ProcessTable().of([record["mark"] for record in records])


class _SimulatedMachines(CloudDriverContract):
    world = InMemorySettings()

    def setup_method(self):
        super().setup_method()
        self.clock = FakeClock()
        self.cloud = InMemoryCloud(self.world, self.clock)

    def make_driver(self):
        return self.cloud

    def wait(self, seconds):
        self.clock.advance(seconds)


class TestInMemoryCloud(_SimulatedMachines):
    pass


class TestInMemoryCloudOfManyReplicas(_SimulatedMachines):
    world = InMemorySettings(lag=10.0, backwards=True, seed=7)


class TestInMemoryCloudThatBootsSlowly(_SimulatedMachines):
    world = InMemorySettings(lag=0.0, boot_time=3.0, price=0.1)
