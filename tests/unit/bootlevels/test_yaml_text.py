from __future__ import annotations

import pytest

from bootlevels.yaml_text import overlaid, path_of, read_yaml, shown_key
from coordinator.errors import ConfigProblem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("10:30", "10:30"),
        ("2026-01-02", "2026-01-02"),
        ("0o17", "0o17"),
        ("0x1f", "0x1f"),
        ("010", 10),
        ("1_000", "1_000"),
        ("true", True),
        ("-5", -5),
        ("2.5", 2.5),
        ("1e3", 1000.0),
        ("~", None),
        ('"5"', "5"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_plain_scalars_mean_what_people_expect(text: str, value: object) -> None:
    found = read_yaml(f"key: {text}", "f").plain()
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_every_value_knows_its_line() -> None:
    tree = read_yaml("a:\n  b:\n    - 1\n    - x: 2\n", "f.yaml")
    assert tree.place_of(path_of("a.b[1].x")) == "f.yaml:4"
    assert tree.place_of(["a", "b"]) == "f.yaml:2"
    assert tree.place_of(["a", "b", 7, "gone"]) == "f.yaml:2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a: [1", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("a: 1\na: 2", "'a' is written twice, first in f:1"),
        ("? [1]\n: 2", "a key must be a text"),
        ("a: !!python/object:os.system x", "values are not used here"),
        ("a: !!binary aGk=", "values are not used here"),
        ("a: !!int nope", "values are not used here"),
        ("a: *missing", "undefined alias"),
        ("a: &x [*x]", "not YAML|nested too deeply|undefined alias"),
        ("[" * 5000, "nested too deeply|not YAML"),
        ("a: \x00", "not YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_one_clear_problem(text: str, words: str) -> None:
    with pytest.raises(ConfigProblem, match=words):
        read_yaml(text, "f")


def test_aliases_that_explode_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigProblem, match="too many values"):
        read_yaml("\n".join(lines), "f")


def test_an_overlay_merges_sections_removes_with_null_and_replaces_another_kind() -> None:
    below = read_yaml(
        "a: {x: 1, y: 2}\nlist: [1, 2]\nengine: {type: one, only_one: 1}\ngone: 3", "below"
    )
    above = read_yaml("a: {y: 3}\nlist: [9]\nengine: {type: two}\ngone: null", "above")
    merged = overlaid(below, above)
    assert merged.plain() == {"a": {"x": 1, "y": 3}, "list": [9], "engine": {"type": "two"}}
    assert merged.place_of(["a", "y"]) == "above:1"
    assert merged.place_of(["a", "x"]) == "below:1"


def test_an_overlay_of_the_same_kind_keeps_the_other_keys() -> None:
    below = read_yaml("engine: {type: one, n: 1, keep: 2}", "below")
    above = read_yaml("engine: {type: one, n: 5}", "above")
    assert overlaid(below, above).plain() == {"engine": {"type": "one", "n": 5, "keep": 2}}


def test_keys_are_shown_as_they_are_parsed() -> None:
    path = ("levels", 0, "services", "web", "ready", 2, "tcp")
    assert shown_key(path) == "levels[0].services.web.ready[2].tcp"
    assert path_of(shown_key(path)) == path
