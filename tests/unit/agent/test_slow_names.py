"""A resolver that does not answer holds up whoever asked it, and nobody else."""

from __future__ import annotations

import socket
import subprocess
import sys

AGENT = """
from agent import green
import socket, sys, time
import eventlet
from eventlet.support import greendns

resolver = greendns.resolver._resolver
resolver.nameservers, resolver.port = ["127.0.0.1"], int(sys.argv[1])
resolver.lifetime, resolver.search = 1.5, []  # what a test can wait for
ticks = []

def heartbeats():
    while True:
        ticks.append(time.monotonic())
        time.sleep(0.05)

from agent.rpc_client import CallFailed, RpcClient

eventlet.spawn(heartbeats)
try:
    with RpcClient("amqp://u:p@broker.slow.example:5672/v", timeout=2.0) as client:
        client.call("agent-a-0", "drain")
    print("answered")
except CallFailed as problem:
    print(type(problem).__name__)
print(max(later - earlier for earlier, later in zip(ticks, ticks[1:])), len(ticks))
"""


def test_a_resolver_that_never_answers_stops_no_heartbeat() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        done = subprocess.run(
            [sys.executable, "-c", AGENT, str(silent.getsockname()[1])],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        silent.setblocking(False)
        assert silent.recv(512), "nobody asked the resolver"
    outcome, figures = done.stdout.splitlines()
    longest, ticks = figures.split()
    assert outcome == "BrokerUnreachable"
    assert int(ticks) >= 20, "the heartbeats went on while the name was looked up"
    assert float(longest) < 1.0
