"""Which controller may claim which pool. PURE.

A pool with a controller of its own is nobody else's, from the moment at which that one is
heard of first, and until it is released.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def claimable(pools: Sequence[str], own_pool: str, dedicated: Iterable[str]) -> list[str]:
    """Those of ``pools`` that a controller may claim.

    ``own_pool``: the one it is dedicated to, "" for the shared controller. ``dedicated``:
    all pools that have a controller of their own.
    """
    if own_pool:
        return [pool for pool in pools if pool == own_pool]
    others = frozenset(dedicated)
    return [pool for pool in pools if pool not in others]


def with_pool(dedicated: Iterable[str], own_pool: str) -> list[str]:
    """``dedicated`` once the controller of ``own_pool`` was heard of."""
    return sorted({*dedicated, own_pool} - {""})


def without_pool(dedicated: Iterable[str], own_pool: str) -> list[str]:
    """``dedicated`` after the controller of ``own_pool`` was given up."""
    return sorted({*dedicated} - {own_pool})
