"""The short-lived secret in user-data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.enrolment_token import (
    TokenKind,
    TokenRejected,
    check,
    mint,
    mint_base,
    mint_pool,
)

KEY = b"k" * 32


def test_a_token_is_good_for_its_launch_until_it_expires() -> None:
    token = mint(KEY, "run", "launch-1", 1000.0)
    check(KEY, token, "run", "launch-1", 999.0)
    with pytest.raises(TokenRejected, match="expired"):
        check(KEY, token, "run", "launch-1", 1001.0)


@pytest.mark.parametrize(
    ("key", "run", "launch"),
    [(b"x" * 32, "run", "launch-1"), (KEY, "other", "launch-1"), (KEY, "run", "launch-2")],
)
def test_a_token_is_good_for_nothing_else(key: bytes, run: str, launch: str) -> None:
    token = mint(KEY, "run", "launch-1", 1000.0)
    with pytest.raises(TokenRejected, match="not for this launch"):
        check(key, token, run, launch, 1.0)


def test_the_same_launch_always_gets_the_same_token() -> None:
    assert mint(KEY, "r", "l", 1000.4) == mint(KEY, "r", "l", 1000.4)


def test_the_expiry_cannot_be_moved() -> None:
    _, _, signature = mint(KEY, "r", "l", 1000.0).partition(".")
    with pytest.raises(TokenRejected):
        check(KEY, f"9999.{signature}", "r", "l", 1500.0)


@given(st.text())
def test_nonsense_is_rejected_and_never_raises_anything_else(token: str) -> None:
    with pytest.raises(TokenRejected):
        check(KEY, token, "r", "l", 1.0)


def test_each_kind_says_what_it_allows() -> None:
    base = check(KEY, mint_base(KEY, "r", "l", 1000.0), "r", "l", 1.0)
    pool = check(KEY, mint_pool(KEY, "r", "l", "web-1", 3, 1000.0), "r", "l", 1.0)
    assert (base.kind, base.expires_at) == (TokenKind.BASE, 1000.0)
    assert (pool.kind, pool.pool, pool.uses) == (TokenKind.POOL, "web-1", 3)
    assert check(KEY, mint(KEY, "r", "l", 1000.0), "r", "l", 1.0).kind is TokenKind.LAUNCH


@given(
    st.lists(st.text(alphabet="abl.-0123", max_size=6), min_size=4, max_size=4),
    st.lists(st.text(alphabet="abl.-0123", max_size=6), min_size=4, max_size=4),
)
def test_no_two_grants_share_a_signature(one: list[str], other: list[str]) -> None:
    def signatures(run: str, launch: str, pool: str, _: str) -> dict[tuple[str, ...], str]:
        return {
            ("launch", run, launch): mint(KEY, run, launch, 9.0),
            ("base", run, launch): mint_base(KEY, run, launch, 9.0),
            ("pool", run, launch, pool): mint_pool(KEY, run, launch, pool, 1, 9.0),
        }

    made = {**signatures(*one), **signatures(*other)}
    assert len({token.rpartition(".")[2] for token in made.values()}) == len(made)
