"""Tokens that people and the boot tool ask for, each with the file that an agent reads.

Minting is all: nothing is stored, the token itself says what it allows. It is handed to the
caller and is nowhere else, not in an event, a log or a store.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.messages import POOL_TOKEN, WIRE_VERSION, BrokerAccess
from agent.wire import to_wire
from coordinator.enrolment_token import mint_base, mint_pool
from coordinator.errors import ConfigProblem, Problem
from coordinator.registrar.refusals import LAUNCH_ID_LIMIT

#: How long a token may be good, s: long enough to build an image, and it ends.
SHORTEST, LONGEST = 1.0, 90 * 86400.0
#: How many machines may join with one token.
MOST_USES = 10_000


class Tokens:
    """Mints tokens with the run's key. ``enrol`` is the only account that goes along."""

    def __init__(self, run: str, access: BrokerAccess, key: bytes) -> None:
        self._run = run
        self._key = key
        public = {"enrol": access.accounts["enrol"]} if "enrol" in access.accounts else {}
        self._access = replace(access, accounts=public, management_url=None)

    def for_pool(self, pool: str, lifetime: float, uses: int, now: float) -> dict[str, Any]:
        """For up to ``uses`` machines that a person boots; see ``_document``.

        ``lifetime`` in seconds. Raises ConfigProblem. Whether there is such a pool is for
        the caller to know.
        """
        problems = _problems(lifetime)
        if not 1 <= uses <= MOST_USES:
            what = f"must be between 1 and {MOST_USES}, not {uses}"
            problems.append(Problem(key="uses", what=what))
        if problems:
            raise ConfigProblem(problems)
        launch_id = f"{pool}-a{secrets.token_hex(5)}"
        expires_at = float(int(now + lifetime))
        token = mint_pool(self._key, self._run, launch_id, pool, uses, expires_at)
        assert token.startswith(POOL_TOKEN)
        found = self._document(token, launch_id, pool, expires_at)
        return {**found, "kind": "pool", "uses": uses}

    def for_base(self, launch_id: str, lifetime: float, now: float) -> dict[str, Any]:
        """For the machines of a base launch; node *i* becomes ``<launch_id>-<i>``.

        Raises ConfigProblem.
        """
        problems = _problems(lifetime)
        plain = launch_id.replace("-", "").replace("_", "").isalnum() and launch_id.isascii()
        if not plain or len(launch_id) > LAUNCH_ID_LIMIT:
            what = f"'{launch_id[:80]}' must be letters, digits, - and _, at most {LAUNCH_ID_LIMIT}"
            problems.append(Problem(key="launch_id", what=what))
        if problems:
            raise ConfigProblem(problems)
        expires_at = float(int(now + lifetime))
        token = mint_base(self._key, self._run, launch_id, expires_at)
        return {**self._document(token, launch_id, "base", expires_at), "kind": "base"}

    def _document(self, token: str, launch_id: str, pool: str, expires_at: float) -> dict[str, Any]:
        """``agent_config`` is the content of the file that ``epu-agent --config`` reads."""
        config = {
            "version": WIRE_VERSION,
            "run": self._run,
            "pool": pool,
            "launch_id": launch_id,
            "token": token,
            "broker": to_wire(self._access),
        }
        return {
            "run": self._run,
            "pool": pool,
            "launch_id": launch_id,
            "token": token,
            "expires_at": expires_at,
            "agent_config": config,
        }


def worker_terms(pool: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker of a pool is to be, from the pool's section: wire form of its role …"""
    from coordinator.pool_spec import parse_pool  # a registrar without adoptions needs none of it

    spec = parse_pool(pool, section)
    return {
        "role": to_wire(spec.role),
        "template": spec.template,
        "boot_timeout": spec.health.boot_timeout,
    }


def _problems(lifetime: float) -> list[Problem]:
    if SHORTEST <= lifetime <= LONGEST:
        return []
    what = f"must be between {SHORTEST:g} s and {LONGEST / 86400:g} days, not {lifetime:g} s"
    return [Problem(key="expires", what=what)]
