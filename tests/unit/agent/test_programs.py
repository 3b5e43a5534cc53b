"""The files of a role's programs. What supervisord makes of them is an integration test."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages import NodeRole, ProgramSpec
from agent.programs import (
    NodePlace,
    ProgramProblem,
    check_programs,
    launch_file,
    node_environment,
    program_conf,
    program_file,
    role_names,
    worker_names,
    write_programs,
)

PLACE = NodePlace(directory=Path("/n/l1-0"), broker_file=Path("/n/l1-0/broker.json"))


def section(spec: ProgramSpec, place: NodePlace = PLACE, drain_timeout: float = 300.0) -> dict:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    parser.read_string(program_conf("work", spec, place, drain_timeout))
    return dict(parser["program:work"])


def test_a_worker_has_its_drain_timeout_to_finish() -> None:
    found = section(ProgramSpec(command=("x",)), drain_timeout=12.3)
    assert (found["stopsignal"], found["stopwaitsecs"]) == ("TERM", "86400")
    assert (found["autorestart"], found["startretries"]) == ("true", "3")


def test_a_program_that_is_no_worker_is_not_waited_for_so_long() -> None:
    assert section(ProgramSpec(command=("x",), worker=False))["stopwaitsecs"] == "10"


def test_copies_are_processes_of_one_group() -> None:
    spec = ProgramSpec(command=("x",), copies=2)
    found = section(spec)
    assert found["numprocs"] == "2"
    assert found["process_name"] == "%(program_name)s-%(process_num)d"
    role = NodeRole(programs={"work": spec, "log": ProgramSpec(command=("y",), worker=False)})
    assert worker_names(role) == {"work:work-0", "work:work-1"}
    assert role_names(role) == {"work:work-0", "work:work-1", "log"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_nothing_that_a_person_wrote_enters_the_supervisord_file(words: list[str]) -> None:
    plain = program_conf("work", ProgramSpec(command=("x",)), PLACE, 300.0)
    spec = ProgramSpec(command=tuple(words), environment={"A": words[0]}, directory=words[0])
    assert program_conf("work", spec, PLACE, 300.0) == plain


def test_a_percent_sign_in_the_directory_is_escaped() -> None:
    place = NodePlace(directory=Path("/n/50%/it's"), broker_file=Path("/b"))
    found = section(ProgramSpec(command=("x",)), place)
    assert found["stdout_logfile"] == "/n/50%%/it's/logs/%(program_name)s.log"
    assert "'/n/50%%/it'\"'\"'s/programs/work.json'" in found["command"]


@pytest.mark.parametrize("directory", ["/n/a ;b", "/n/a #b", "/n/a\nb", "/n/%(here)s"])
def test_a_directory_that_supervisord_can_not_express_is_refused(directory: str) -> None:
    place = NodePlace(directory=Path(directory), broker_file=Path("/b"))
    with pytest.raises(ProgramProblem, match="can't use the path"):
        check_programs(NodeRole(), place)


@pytest.mark.parametrize("name", ["", "agent", "a b", "a:b", "a/b", "-a", "a\n", "a%"])
def test_a_name_that_supervisord_can_not_use_is_refused(name: str) -> None:
    with pytest.raises(ProgramProblem, match="a name has letters"):
        check_programs(NodeRole(programs={name: ProgramSpec(command=("x",))}), PLACE)


@pytest.mark.parametrize(
    "spec",
    [
        ProgramSpec(command=("a\0b",)),
        ProgramSpec(command=("a",), environment={"A": "\0"}),
        ProgramSpec(command=("a",), environment={"A=B": "c"}),
        ProgramSpec(command=("a",), environment={"": "c"}),
    ],
)
def test_what_no_process_can_be_given_is_refused(spec: ProgramSpec) -> None:
    with pytest.raises(ProgramProblem, match="program 'work'"):
        check_programs(NodeRole(programs={"work": spec}), PLACE)


def test_a_bad_program_keeps_all_files_unwritten(tmp_path: Path) -> None:
    place = NodePlace(directory=tmp_path, broker_file=tmp_path / "b")
    role = NodeRole(programs={"a": ProgramSpec(command=("x",)), "b": ProgramSpec(command=("\0",))})
    with pytest.raises(ProgramProblem):
        write_programs(role, place, {})
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_left_the_role_leaves_the_files(tmp_path: Path) -> None:
    place = NodePlace(directory=tmp_path, broker_file=tmp_path / "b")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "foreign.conf").touch()
    write_programs(NodeRole(programs={"a": ProgramSpec(command=("x",))}), place, {})
    write_programs(NodeRole(programs={"b": ProgramSpec(command=("x",))}), place, {})
    assert {path.name for path in place.conf_dir.iterdir()} == {"b.conf", "foreign.conf"}
    assert [path.name for path in place.program_dir.iterdir()] == ["b.json"]
    assert program_file(place, "b").stat().st_mode & 0o777 == 0o600


def test_the_programs_own_variables_win_over_the_nodes() -> None:
    environment = node_environment(PLACE, "l1-0", "run1", "workers")
    spec = ProgramSpec(command=("x",), environment={"EPU_POOL": "mine"})
    role = NodeRole(programs={"work": spec})
    told = json.loads(launch_file(spec, "work", role, PLACE, environment))
    assert told["environment"]["EPU_POOL"] == "mine"
    assert told["environment"]["EPU_NODE_ID"] == "l1-0"


def test_several_workers_have_busy_files_of_their_own() -> None:
    spec = ProgramSpec(command=("x",), copies=2)
    role = NodeRole(programs={"work": spec}, busy_file="busy")
    told = json.loads(launch_file(spec, "work", role, PLACE, {}))
    assert told["busy_files"] == ["/n/l1-0/busy.work.0", "/n/l1-0/busy.work.1"]
    alone = ProgramSpec(command=("x",))
    role = NodeRole(programs={"work": alone}, busy_file="busy")
    assert json.loads(launch_file(alone, "work", role, PLACE, {}))["busy_files"] == ["/n/l1-0/busy"]
