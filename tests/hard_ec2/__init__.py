"""Hard-mode EC2: a stand-in for Amazon's API that is as nasty as the real one may be.

``HardEc2`` serves HTTP on the loopback interface for boto3 and libcloud. Machines live in
``world`` (state, listings that lag), what else a client may ask is answered by moto, and
the object itself is the script: throttles, errors, lost replies, capacity, credentials.
With ``boots`` each machine that is launched really boots (see ``boots``).
"""

import functools

import botocore.session

from tests.hard_ec2.machine import Machine
from tests.hard_ec2.script import Call, Chaos, Fault
from tests.hard_ec2.server import HardEc2
from tests.hard_ec2.world import Lag

# Each test's driver has a session of its own, and each session would read the megabytes in which
# the library describes EC2's API. They are never changed: all sessions of a process share them.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

__all__ = ["Call", "Chaos", "Fault", "HardEc2", "Lag", "Machine"]
