"""A private broker beyond its own machine: TLS only, with an authority of the run's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from agent.broker_link import EventPublisher, connect_once, connection_to
from agent.broker_tls import nameko_address
from agent.messages import BrokerAccess
from agent.rpc_client import CallFailed, RpcClient
from coordinator.management_api import session_for
from mgmt.broker import start_broker, use_existing_broker
from mgmt.broker_certificates import AUTHORITY, KEY, make_certificate
from tests.own_network import own_network as own_network
from tests.private_broker import kill_broker

pytestmark = pytest.mark.integration

SERVICE = Path(__file__).parent / "echo_service.py"


@pytest.fixture
def place(own_network: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of a broker that is ended, whatever becomes of the test."""
    yield tmp_path / "broker"
    kill_broker(tmp_path / "broker")


def problem_of(access: BrokerAccess) -> str:
    """Why nobody gets in like that; "" when one does."""
    connection = connection_to(access.amqp_url("coordinator"), connect_timeout=5)
    try:
        connect_once(connection, 5)
    except OSError as problem:
        return f"{type(problem).__name__} {problem}"
    finally:
        connection.close()
    return ""


def test_everything_goes_by_tls_and_only_the_runs_own_authority_is_trusted(
    place: Path, own_network: str, tmp_path: Path, eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    access = start_broker(place, "run-1", host=own_network)
    assert access.public_url.startswith(f"amqps://{own_network}:")
    assert {one.stat().st_mode & 0o777 for one in (place / "tls").iterdir()} == {0o600}
    assert not list(place.rglob("*ca*key*")), "nobody can sign another certificate"

    # Who trusts somebody else, everybody, or speaks plainly, gets nothing; its password stays.
    make_certificate(tmp_path / "other", own_network, "run-1")
    others = replace(access, ca=(tmp_path / "other" / AUTHORITY).read_text())
    for wrong in (others, replace(access, ca="")):
        assert "CERTIFICATE_VERIFY_FAILED" in problem_of(wrong)
        with pytest.raises(requests.exceptions.SSLError), session_for(wrong) as session:
            session.get(f"{access.management_url}/api/whoami", timeout=5)
    assert problem_of(replace(access, tls=False))
    assert problem_of(access) == ""
    with socket.create_connection((own_network, access.port), 5) as plain:
        plain.sendall(b"AMQP\x00\x00\x09\x01")
        plain.settimeout(5)
        assert b"AMQP" not in plain.recv(1024)

    # A nameko service, calls, events and the HTTP API.
    config = tmp_path / "echo.yaml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(nameko_address(access, "coordinator")))
    log = tmp_path / "echo.log"
    words = [sys.executable, str(SERVICE), "--config", str(config)]
    with log.open("wb") as file:
        echo = subprocess.Popen(
            words, env={**os.environ, "ECHO": "service"}, stdout=file, stderr=file
        )
    try:
        with RpcClient(access.amqp_url("coordinator"), timeout=5) as client:

            def said() -> Any:
                try:
                    return client.call("echo", "say", "well", timeout=2)
                except CallFailed:
                    return None

            eventually(lambda: said() == "well", 30, lambda: log.read_text()[-2000:])
            publisher = EventPublisher(access.amqp_url("coordinator"))
            assert publisher.publish("beat.web.n-0", {"at": 1}, 5.0)
            publisher.close()

            # A broker that was killed comes back with the same certificate, and is believed.
            kill_broker(place)
            assert start_broker(place, "run-1") == access
            eventually(lambda: said() == "well", 60, lambda: log.read_text()[-2000:])
    finally:
        echo.kill()
        echo.wait(10)

    # As somebody else's broker, whose authority a person names.
    admin = access.amqp_url("admin").partition("?")[0].rpartition("/")[0]
    monkeypatch.setenv("EPU_BROKER_CA", str(place / "tls" / AUTHORITY))
    adopted = use_existing_broker(
        tmp_path / "existing", f"{admin}/run-2", access.management_url, "run-2"
    )
    assert (adopted.tls, adopted.ca, adopted.shared) == (True, access.ca, False)
    assert problem_of(adopted) == ""
    secret = (place / "tls" / KEY).read_text().splitlines()[1]
    assert secret not in (place / "accounts.json").read_text()


def test_a_broker_beyond_its_machine_speaks_plainly_only_when_told_to(
    place: Path, own_network: str
) -> None:
    access = start_broker(place, "run-1", host=own_network, insecure=True)
    assert access.public_url.startswith("amqp://") and not access.ca
    assert problem_of(access) == ""
    assert not (place / "tls").exists()
