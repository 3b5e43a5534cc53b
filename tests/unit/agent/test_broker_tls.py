"""Addresses that say whom to trust."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.broker_access import mask_url
from agent.broker_link import connect_once, connection_to
from agent.broker_tls import address_of, nameko_address, split_trust
from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import from_wire, to_wire
from mgmt.broker_certificates import AUTHORITY, make_certificate

ACCOUNT = {"coordinator": BrokerAccount(user="me@x", password="p/w?ca=&#")}


@given(st.binary(min_size=1, max_size=900))
def test_a_certificate_survives_the_address_and_a_nameko_config(der: bytes) -> None:
    ca = ssl.DER_cert_to_PEM_cert(der)
    access = BrokerAccess(host="mq", port=5671, vhost="a?b", accounts=ACCOUNT, tls=True, ca=ca)
    url = access.amqp_url("coordinator")
    plain, options = split_trust(url)
    assert options is not None and "?" not in plain
    assert plain == access.amqp_url("coordinator").partition("?")[0]
    assert ssl.PEM_cert_to_DER_cert(options["context"]["cadata"]) == der
    assert options["context"]["check_hostname"] is False
    config = nameko_address(access, "coordinator")
    assert config == {"AMQP_URI": plain, "AMQP_SSL": options}
    assert split_trust(address_of(config)) == (plain, options)
    assert from_wire(BrokerAccess, to_wire(access)) == access


def test_a_broker_without_an_authority_of_its_own_is_known_by_its_name() -> None:
    access = BrokerAccess(host="mq.example", port=1, vhost="v", accounts=ACCOUNT, tls=True)
    plain, options = split_trust(access.amqp_url("coordinator"))
    assert plain == "amqps://me%40x:p%2Fw%3Fca%3D%26%23@mq.example:1/v"
    assert (options or {})["server_hostname"] == "mq.example"
    assert (options or {})["context"] == {"check_hostname": True}


def test_an_address_without_tls_is_left_as_it_is() -> None:
    access = BrokerAccess(host="mq", port=5672, vhost="v", accounts=ACCOUNT, ca="never read")
    url = access.amqp_url("coordinator")
    assert split_trust(url) == (url, None)
    assert nameko_address(access, "coordinator") == {"AMQP_URI": url}


@pytest.mark.parametrize("ca", ["x", "%%%", "a"])
def test_what_is_no_certificate_is_refused(ca: str) -> None:
    with pytest.raises(OSError, match=r"certificate|PEM|BASE64|NOT_ENOUGH|no start"):
        context = split_trust(f"amqps://mq/v?ca={ca}")[1]
        assert context is not None
        ssl.create_default_context(cadata=context["context"]["cadata"])


@pytest.mark.timeout(30)
@pytest.mark.parametrize("own_authority", [True, False])
def test_a_broker_that_hangs_before_the_handshake_holds_nobody(
    own_authority: bool, tmp_path: Path
) -> None:
    make_certificate(tmp_path / "tls", "127.0.0.1", "v")
    ca = (tmp_path / "tls" / AUTHORITY).read_text() if own_authority else ""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        access = BrokerAccess(
            host="127.0.0.1", port=port, vhost="v", accounts=ACCOUNT, tls=True, ca=ca
        )
        with pytest.raises(OSError, match="timed out"):
            connect_once(connection_to(access.amqp_url("coordinator"), connect_timeout=0.3), 0.3)


def test_people_see_neither_password_nor_certificate() -> None:
    ca = ssl.DER_cert_to_PEM_cert(b"of the run")
    access = BrokerAccess(host="mq", port=1, vhost="v", accounts=ACCOUNT, tls=True, ca=ca)
    assert mask_url(access.amqp_url("coordinator")) == "amqps://me%40x:***@mq:1/v"
    assert access.public_url == "amqps://mq:1/v"
