"""The quick end of a private broker whose data nobody will want."""

from __future__ import annotations

import signal
from pathlib import Path

from mgmt.broker import stop_broker
from mgmt.broker_files import BrokerFiles
from mgmt.broker_processes import node_processes, send_signal


def kill_broker(directory: Path) -> None:
    """Kill the node of ``directory``: a peaceful end takes RabbitMQ six seconds.

    That one is tested in ``tests/integration/test_broker_node.py``.
    """
    identity = BrokerFiles(directory.resolve()).read_identity()
    for process in () if identity is None else node_processes(identity.mark):
        send_signal(process, signal.SIGKILL)
    stop_broker(directory)
