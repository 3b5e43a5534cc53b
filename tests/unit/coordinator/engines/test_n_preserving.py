"""n_preserving: the rows of its table that are the engine's own business."""

from __future__ import annotations

import pytest

from coordinator.engines.n_preserving import NPreserving, NPreservingSettings
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool


def decide(view, **settings):
    return NPreserving().decide(view(NPreservingSettings(**settings)))


@pytest.mark.parametrize("n", [0, 1, 5])
def test_it_wants_exactly_n(view, n):
    assert decide(view, preserve_n=n).size == n


def test_it_needs_no_reading_to_decide(view):
    assert not decide(view, preserve_n=2).held


def test_it_is_content_only_when_all_are_there_and_none_is_pending(view):
    settings = NPreservingSettings(preserve_n=2)
    engine = NPreserving()
    assert engine.decide(view(settings, running=2)).stable
    assert not engine.decide(view(settings, running=1)).stable
    assert not engine.decide(view(settings, running=1, pending=1)).stable


def test_unique_ids_come_with_their_variables(view):
    assert decide(view, preserve_n=2, unique_instances={"1": {"a": "x"}}).unique_ids == {
        "1": {"a": "x"}
    }


@pytest.mark.parametrize("wrong", ["asd", -1, 1_000_000, None, [1]])
def test_np3_a_wrong_n_is_rejected_and_the_key_is_named(wrong):
    with pytest.raises(ConfigProblem, match="preserve_n"):
        parse_pool("workers", {"engine": {"preserve_n": wrong}})


def test_more_unique_ids_than_n_are_rejected():
    engine = {"preserve_n": 1, "unique_instances": {"1": {}, "2": {}}}
    with pytest.raises(ConfigProblem, match="unique_instances names 2"):
        parse_pool("workers", {"engine": engine})


def test_an_unknown_key_is_rejected_with_the_nearest_known_one():
    with pytest.raises(ConfigProblem, match="did you mean 'preserve_n'"):
        parse_pool("workers", {"engine": {"preserv_n": 1}})


def test_a_pool_without_an_engine_preserves_n_and_wants_nobody(view):
    spec = parse_pool("workers", {})
    assert spec.engine_type == "n_preserving"
    assert spec.engine_settings.preserve_n == 0


@pytest.mark.parametrize("alias", ["n_preserving", "npreserving"])
def test_both_names_are_accepted(alias):
    spec = parse_pool("workers", {"engine": {"type": alias, "preserve_n": 3}})
    assert spec.engine_settings == NPreservingSettings(preserve_n=3)
