"""Timeline files: what is right is read, what is wrong is named with line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import ConfigProblem
from mgmt.exercise.timeline import Timeline
from mgmt.exercise.timeline_file import read_timeline

SYSTEM_TESTS = sorted((Path(__file__).parents[3] / "system").glob("*.yaml"))
RIGHT = """\
exercise: a storm
pool: epu-workers
timeline:
  - {at: 5, kill: worker}
  - {at: 0, submit: 10, seconds: 0.5}
  - {at: 5, restart: broker}
expect:
  workers: 2
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "storm.yaml"
    path.write_text(text)
    return path


def test_steps_are_done_in_the_order_of_their_times(tmp_path: Path) -> None:
    found = read_timeline(written(tmp_path, RIGHT))
    assert [str(step) for step in found.steps] == [
        "submit 10 jobs of 0.5 s",
        "kill a worker's machine",
        "restart the broker",
    ]
    assert [str(step) for step in found.disturbances] == [str(step) for step in found.steps[1:]]
    assert (found.expect.workers, found.expect.done, found.submits) == (2, True, True)


def test_the_example_of_the_page_is_a_timeline(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "exercises.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    assert read_timeline(written(tmp_path, text)).expect.launches == 2


@pytest.mark.parametrize("path", SYSTEM_TESTS, ids=lambda path: path.name)
def test_every_shipped_timeline_is_read(path: Path) -> None:
    assert isinstance(read_timeline(path), Timeline)


@pytest.mark.parametrize(
    ("change", "line", "key", "said"),
    [
        (("kill: worker", "kill: everybody"), 4, "timeline.0", "kill must be one of worker"),
        (("kill: worker", "kil: worker"), 4, "timeline.0", "kil"),
        (("submit: 10", "submit: 0"), 5, "timeline.1", "1 to 1000000"),
        (("submit: 10", "submit: ten"), 5, "timeline.1.submit", "not 'ten'"),
        (("restart: broker", "restart: broker, kill: worker"), 6, "timeline.2", "kill, restart"),
        (("restart: broker", "restart: host"), 6, "timeline.2", "must be broker"),
        (("{at: 5, kill", "{at: -5, kill"), 4, "timeline.0", "at must be 0"),
        (("{at: 5, kill", "{kill"), 4, "timeline.0.at", "required"),
        (("workers: 2", "worker: 2"), 8, "expect", "worker"),
        (("pool: epu-workers\n", ""), 1, "pool", "required"),
        (("expect:", "expected:"), 7, "expected", "did you mean 'expect'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_key(
    tmp_path: Path, change: tuple[str, str], line: int, key: str, said: str
) -> None:
    path = written(tmp_path, RIGHT.replace(*change))
    with pytest.raises(ConfigProblem) as found:
        read_timeline(path)
    text = str(found.value)
    assert f"{path}:{line}" in text and key in text and said in text, text


@pytest.mark.parametrize("text", ["", "- a", "exercise: [", "\0", "a: 1\na: 2"])
def test_what_is_no_timeline_at_all_is_one_clear_problem(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigProblem, match=r"storm\.yaml"):
        read_timeline(written(tmp_path, text))


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="can't be read: No such file"):
        read_timeline(tmp_path / "none.yaml")
