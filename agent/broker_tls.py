"""Trust in the broker's certificate: in an address, and as what TLS libraries want to hear.

A private broker that listens beyond its own machine has a certificate of the run's own
authority, whose key nobody has: that authority alone is trusted, whatever name or address the
broker is known by. It is no secret, and travels in the addresses of the wire as ``?ca=``
(DER, base64url). A broker of somebody else's is trusted as the machine trusts anybody: by
its name and the authorities that the machine knows.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent.broker_access import BrokerAccess, ca_of_url_text

#: The port of AMQP with TLS.
AMQPS_PORT = 5671
#: py-amqp then shakes hands itself, within the time for connecting: a broker that hangs would
#: else hold whoever connects for ever.
_BOUNDED = {"do_handshake_on_connect": False}


def split_trust(url: str) -> tuple[str, dict[str, Any] | None]:
    """``url`` without ``?ca=``, and py-amqp's ``ssl`` options; None for an address without TLS.

    Raises ssl.SSLError, an OSError, when what stands there is no certificate.
    """
    if not url.startswith("amqps://"):
        return url, None
    plain, _, query = url.partition("?")
    found = parse_qs(query).get("ca")
    if found:
        try:
            return plain, trusting(ca_of_url_text(found[0]))
        except ValueError:  # as what it is to who connects: nobody there can be trusted
            raise ssl.SSLError("the authority in the broker's address is no certificate") from None
    host = urlsplit(plain).hostname or ""
    return plain, {**_BOUNDED, "server_hostname": host, "context": {"check_hostname": True}}


def trusting(ca: str) -> dict[str, Any]:
    """py-amqp's ``ssl`` options that trust the authority ``ca`` (PEM) and nobody else."""
    ssl.PEM_cert_to_DER_cert(ca)
    return {**_BOUNDED, "context": {"cadata": ca, "check_hostname": False}}


def nameko_address(access: BrokerAccess, account: str) -> dict[str, Any]:
    """The keys of a nameko config that say where the broker is. Hold the password."""
    url, options = split_trust(access.amqp_url(account))
    return {"AMQP_URI": url} | ({"AMQP_SSL": options} if options else {})


def address_of(config: Mapping[str, Any]) -> str:
    """The address in a nameko config, with its trust: what ``connection_to`` takes."""
    url: str = config["AMQP_URI"]
    ca = ((config.get("AMQP_SSL") or {}).get("context") or {}).get("cadata")
    if not ca:
        return url
    text = base64.urlsafe_b64encode(ssl.PEM_cert_to_DER_cert(ca)).decode().rstrip("=")
    return f"{url}?ca={text}"


def context_of(access: BrokerAccess) -> ssl.SSLContext:
    """For the broker's HTTP API."""
    context = ssl.create_default_context(cadata=access.ca or None)
    context.check_hostname = not access.ca
    return context
