from __future__ import annotations

import pytest

from bootlevels.plan_text import PlanText, known_keys, parse_duration, parse_words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("30s", 30), ("500ms", 0.5), ("1.5h", 5400), ("2d", 172800), (5, 5), ("7", 7)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "8d", "-1s", "10 minutes", "1h30m", True, None, [1]])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_duration(text)


def test_a_command_is_split_as_a_shell_would_and_never_run_by_one() -> None:
    assert parse_words("sh -c 'echo a; b' \"\" x\\ y") == ["sh", "-c", "echo a; b", "", "x y"]
    assert parse_words(["a", 5, True, ""]) == ["a", "5", "true", ""]


@pytest.mark.parametrize("given", ["", "'open", [], [""], 5, [["a"]], "a\0b"])
def test_what_is_no_command_is_refused(given: object) -> None:
    with pytest.raises(ValueError):
        parse_words(given)


def test_known_keys_are_found_through_lists_and_sections() -> None:
    check = known_keys(PlanText, ("levels", 0, "services", "web", "ready", 1))
    assert {"tcp", "interval"} <= set(check)
    assert "preserve_n" not in known_keys(PlanText, ("levels", 0, "services", "web", "pool"))


def test_the_models_give_a_json_schema() -> None:
    schema = PlanText.model_json_schema()
    assert schema["properties"]["levels"]["minItems"] == 1
    assert schema["additionalProperties"] is False
