"""The driver contract, run against the EC2 driver and the hard-mode EC2."""

import shutil
import tempfile
from pathlib import Path

from coordinator.clouds.ec2 import Ec2Cloud
from coordinator.testing import CloudDriverContract, FakeClock
from tests.hard_ec2 import HardEc2, Lag
from tests.hard_ec2.account import IMAGE


class _Ec2(CloudDriverContract):
    lag = Lag()

    @classmethod
    def setup_class(cls):
        cls.directory = Path(tempfile.mkdtemp(prefix="epu-test-"))
        cls.clock = FakeClock()
        cls.ec2 = HardEc2(cls.clock, seed=7).__enter__()
        cls.ec2.world.lag = cls.lag
        cls.drivers = []  # two for all tests: each loads the library's model of EC2

    @classmethod
    def teardown_class(cls):
        cls.ec2.__exit__()
        shutil.rmtree(cls.directory)

    def make_driver(self):
        if len(self.drivers) < 2:
            settings = {
                "region": "us-east-1",
                "endpoint": self.ec2.url,
                "access_key": "AKIATEST",
                "secret_key": "secret",
                "image": IMAGE,
                "type": "t3.small",
                "consistency_window": str(self.lag.seconds),
            }
            self.drivers.append(Ec2Cloud.from_settings(settings, self.directory))
        self.drivers.reverse()  # now one, now the other
        return self.drivers[0]

    def wait(self, seconds):
        self.clock.advance(seconds)


class TestEc2(_Ec2):
    pass


class TestEc2ThatLags(_Ec2):
    lag = Lag(seconds=10.0, backwards=True)
