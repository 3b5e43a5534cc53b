"""The contract for apache-libcloud's providers: its EC2 on hard-mode EC2, and its dummy."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from libcloud.common.exceptions import BaseHTTPError
from libcloud.compute.base import Node
from libcloud.compute.drivers.dummy import DummyNodeDriver
from libcloud.compute.types import NodeState

from coordinator.clouds.libcloud import LibcloudCloud
from coordinator.clouds.libcloud_terms import LibcloudSettings
from coordinator.testing import CloudDriverContract, FakeClock
from tests.hard_ec2 import Chaos, HardEc2, Lag
from tests.hard_ec2.account import IMAGE


class _OnHardEc2(CloudDriverContract):
    settings = {"image": IMAGE, "type": "c5.large"}
    window = 0.0

    def setup_method(self):
        super().setup_method()
        self.clock = FakeClock()
        self.state_dir = Path(tempfile.mkdtemp(prefix="epu-test-"))
        self.ec2 = HardEc2(self.clock)
        self.ec2.__enter__()

    def teardown_method(self):
        self.ec2.script.chaos = Chaos()
        super().teardown_method()
        self.ec2.__exit__()
        shutil.rmtree(self.state_dir)

    def make_driver(self):
        settings = LibcloudSettings(
            provider="ec2",
            access_key="AKIATEST",
            secret_key="secret",
            endpoint=self.ec2.url,
            consistency_window=self.window,
        )
        return LibcloudCloud(settings, self.state_dir, clock=self.clock)

    def wait(self, seconds):
        self.clock.advance(seconds)


class TestLibcloudsEc2(_OnHardEc2):
    pass


class TestLibcloudsEc2ThatLags(_OnHardEc2):
    window = 10.0

    def setup_method(self):
        super().setup_method()
        self.ec2.world.lag = Lag(seconds=10.0, backwards=True)


class NamingDummy(DummyNodeDriver):
    """libcloud's dummy, but with names that stay, ids that differ, and user-data."""

    def __init__(self):
        super().__init__("0")
        self.nl = []
        self.made = 0

    def create_node(self, name, size, image, ex_userdata=None):
        self.made += 1
        node = Node(f"node-{self.made:08d}", name, NodeState.RUNNING, ["127.0.0.1"], [], self, size)
        self.nl.append(node)
        return node

    def destroy_node(self, node):
        found = [one for one in self.nl if one.id == node.id]
        if not found:
            raise BaseHTTPError(404, "node not found")
        self.nl.remove(found[0])
        return True


class TestLibcloudsDummy(CloudDriverContract):
    settings = {"image": "1", "type": "1"}

    def setup_method(self):
        super().setup_method()
        self.state_dir = Path(tempfile.mkdtemp(prefix="epu-test-"))
        self.dummy = NamingDummy()

    def teardown_method(self):
        super().teardown_method()
        shutil.rmtree(self.state_dir)

    def make_driver(self):
        settings = LibcloudSettings(provider="dummy", consistency_window=0.0)
        return LibcloudCloud(settings, self.state_dir, lambda: self.dummy)

    def wait(self, seconds):
        time.sleep(seconds)
