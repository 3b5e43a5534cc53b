"""A pool in words: what a person did to it, its reason, price and numbers. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def by_hand(pool: Mapping[str, Any]) -> str:
    """That a person suspended something; "" when nobody did. An override is among the reasons."""
    hold = pool.get("hold") or {}
    reason = f" ({hold['reason']})" if hold.get("reason") else ""
    if hold.get("recommend_only"):
        return f"only recommends{reason}"
    if hold.get("suspend"):
        return f"{', '.join(hold['suspend'])} suspended{reason}"
    return ""


def reason_of(pool: Mapping[str, Any]) -> str:
    """A pool's reason, and before it what a person suspended; "-" where nothing is said."""
    reason, held = str(pool.get("reason") or ""), by_hand(pool)
    if held and not reason.startswith("only recommends"):
        return f"{held}; {reason}" if reason else held
    return reason or "-"


def price_of(pool: Mapping[str, Any]) -> str:
    """What a pool's machines cost, $ per hour, as far as their clouds tell; "-": none does."""
    return "-" if pool.get("price") is None else f"{pool['price']:.4g}"


def count_of(pool: Mapping[str, Any], key: str) -> Any:
    """One of a pool's numbers; None while its controller has not looked since its own start.

    Its zeros are no sign that nobody is there: it knows of nobody yet.
    """
    return None if pool.get("decided_age", 0.0) is None else pool.get(key)
