"""The live view: what is shown, and where keys lead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mgmt.watch.screen import KEYS, Picture, Place, changes, pressed, split_keys, view_of

UP, DOWN, ENTER, ESCAPE = "\x1b[A", "\x1b[B", "\r", "\x1b"


def pool(name: str, **other: Any) -> dict[str, Any]:
    return {"name": name, "state": "STABLE", "running": 2, "wanted": 2, "pending": 0,
            "draining": 0, "reason": "as wanted", "instances": [], **other}  # fmt: skip


def picture(*pools: dict[str, Any], **other: Any) -> Picture:
    states = {"RUNNING": 4, "BOOTING": 0, "TERMINATED": 9}
    status = {"pools": list(pools), "problems": [], "progress": {"states": states}}
    return Picture(**{"run": "demo", "status": status, **other})


TWO = picture(pool("web"), pool("batch"))


def after(keys: list[str], seen: Picture = TWO) -> Place:
    place = Place()
    for key in keys:
        place = pressed(place, key, seen)
    return place


def test_keys_are_told_apart_however_they_arrive():
    assert split_keys("j\x1b[B\x1bOAq") == ["j", "\x1b[B", "\x1bOA", "q"]
    assert split_keys("\x1b") == ["\x1b"]
    assert split_keys("x\x1b[Z")[0] == "x"


@pytest.mark.parametrize(
    ("keys", "chosen", "opened"),
    [
        (["j"], "batch", ""),
        (["j", DOWN], "web", ""),
        (["j", "j", "j", "j"], "web", ""),
        (["j", "j", UP, "k", "k"], "batch", ""),
        (["G"], "web", ""),
        ([ENTER], "batch", "batch"),
        (["G", ENTER], "web", "web"),
        (["G", ENTER, ESCAPE], "web", ""),
        (["z", "?", "\x00"], "", ""),
    ],
)
def test_keys_choose_open_and_go_back(keys, chosen, opened):
    place = after(keys)
    assert (place.chosen, place.opened, place.left) == (chosen, opened, False)


@pytest.mark.parametrize("key", ["q", "\x03", "\x04"])
def test_quitting_works_everywhere(key):
    assert after([key]).left and after([ENTER, key]).left and after([key], picture()).left


def test_nothing_can_be_opened_where_there_is_nothing():
    assert after(["j", ENTER, "G"], picture()) == Place()
    assert view_of(Place(), picture(), 24).empty == "no pools"


def test_a_chosen_pool_that_is_removed_leaves_the_first_chosen():
    view = view_of(Place(chosen="gone"), TWO, 24)
    assert [row.chosen for row in view.rows] == [True, False]


def test_more_pools_than_lines_scroll_with_the_reader():
    many = picture(*(pool(f"p{n:03}") for n in range(100)))
    view = view_of(after(["G"], many), many, 20)
    assert len(view.rows) == 12 and view.rows[-1].chosen and view.rows[-1].cells[0] == "p099"
    assert len(view_of(Place(), many, 3).rows) == 1, "a terminal of three lines shows one"


def test_an_opened_pool_shows_its_nodes_its_events_and_scrolls():
    nodes = [{"node_id": f"n-{n}", "state": "RUNNING", "busy": True, "age": 90} for n in range(50)]
    told = [{"name": "node_ready", "node": "n-1", "reason": "", "clock": "10:00:00.000"}]
    seen = picture(pool("web"), pool=pool("web", instances=nodes), events=told)
    view = view_of(after(["j", ENTER], seen), seen, 24)
    assert view.rows[0].cells[:2] == ("n-0", "RUNNING") and "busy" in view.rows[0].cells
    assert any("node_ready" in line for line in view.below)
    assert view_of(after([ENTER, "j", "j"], seen), seen, 24).rows[0].cells[0] == "n-2"
    assert after([ENTER, *["j"] * 80], seen).scrolled == 49


def test_until_the_opened_pool_is_told_the_list_stays():
    assert view_of(Place(opened="web"), TWO, 24).columns[0] == "POOL"


def test_an_old_picture_says_so_and_why():
    view = view_of(Place(), picture(pool("web"), age=75.0, problem="no broker"), 24)
    assert "75s ago" in view.title and view.warnings == ("no broker",)


def test_without_a_terminal_only_changes_are_told():
    said = changes({}, TWO)
    assert len(said) == 2 and changes(said, TWO) == {}
    moved = picture(pool("web", running=1), pool("batch"), problem="silent")
    assert list(changes(said, moved)) == ["pool web", "problem silent"]


@pytest.mark.parametrize("height", [14, 24, 50])
@pytest.mark.parametrize("opened", ["", "p-03"])
def test_a_view_with_many_pools_and_problems_is_as_high_as_its_terminal_and_keeps_its_last_line(
    height, opened
):
    reason = "launches wait for a long time, " * 6
    nodes = [{"node_id": f"n-{number}", "state": "RUNNING"} for number in range(60)]
    pools = [pool(f"p-{number:02}", reason=reason, instances=nodes) for number in range(60)]
    seen = picture(*pools, problem="the broker can't be reached")
    seen = replace(seen, pool=pools[3], events=[{"name": "decision", "reason": reason}] * 9)
    view = view_of(Place(chosen="p-40", opened=opened), seen, height, 80)
    lines = 1 + len(view.above) + len(view.warnings) + 1 + 1 + len(view.rows) + 1 + len(view.below)
    assert lines <= height
    assert view.below[-1] == KEYS
    assert opened or any(row.chosen for row in view.rows)
    assert "TERMINATED" not in " ".join(view.above)


def test_what_a_person_suspended_is_said_although_nothing_wants_to_move():
    hold = {"suspend": ["scale_in", "replace"], "reason": "audit", "recommend_only": False}
    (row,) = view_of(Place(), picture(pool("web", hold=hold)), 24).rows
    assert row.cells[-1] == "scale_in, replace suspended (audit); as wanted"
    only = {"suspend": [], "reason": "", "recommend_only": True}
    said = pool("web", hold=only, reason="only recommends: no action")
    (row,) = view_of(Place(), picture(said), 24).rows
    assert row.cells[-1] == "only recommends: no action"
