"""What ``epu simulate`` is given: pool files, and a trace from a file or from a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from agent.rpc_client import CallFailed
from coordinator.errors import ConfigProblem, EpuError, Problem
from coordinator.pool_spec import PoolSpec, parse_engine, parse_pool
from coordinator.simulation.trace_file import trace_from_file
from coordinator.simulation.trace_load import Trace
from coordinator.simulation.trace_recorded import boot_times_of, trace_of_recordings
from coordinator.simulation.trace_times import Times
from mgmt.answers import ask
from mgmt.exit_codes import NoSuchRun, WrongFile
from mgmt.invocation.cli import Invocation

#: Events that a component is asked for at once.
_PAGE = 1000


@dataclass(frozen=True)
class Policy:
    """A pool as a file has it; ``name`` is the file's, made unlike all others'.

    ``engine`` is in this process, whoever's it is: asked by JSON lines, one would take minutes.
    """

    name: str
    spec: PoolSpec
    engine: Any


def policies_of(files: Iterable[Path]) -> list[Policy]:
    """The pools in files like those of ``epu pool add -f``. Raises WrongFile."""
    policies: list[Policy] = []
    problems: list[str] = []
    for file in files:
        try:
            spec = parse_pool(_pool_name(file), _section(file), where=str(file))
            # That it can be imported, and ends, is known by now.
            engine, settings = parse_engine(spec.engine, str(file), "engine")
        except ConfigProblem as problem:
            problems += str(problem).splitlines()
            continue
        same = sum(1 for one in policies if one.name.split("#")[0] == file.stem)
        name = f"{file.stem}#{same + 1}" if same else file.stem
        policies.append(Policy(name, replace(spec, engine_settings=settings), engine))
    if problems:
        raise WrongFile("\n".join(problems))
    return policies


def trace_of(invocation: Invocation, given: str, pool: str | None) -> tuple[Trace, Times | None]:
    """The trace in the file ``given``, or that of the run of this name with its boot times.

    Raises WrongFile, NoSuchRun, and what asking a run raises.
    """
    path = Path(given)
    try:
        if path.exists() or path.suffix or path.name != given:
            return trace_from_file(path), None
        return _of_run(invocation, given, pool)
    except ConfigProblem as problem:
        raise WrongFile(str(problem)) from None
    except NoSuchRun as problem:
        raise NoSuchRun(f"'{given}' is no file, and {problem}") from None


def _of_run(invocation: Invocation, run: str, pool: str | None) -> tuple[Trace, Times | None]:
    from mgmt.replays.cli import stored_rows

    invocation.run = run
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for name, row in stored_rows(invocation, pool, None, None):
        rows.setdefault(name, []).append(row)
    traces, refusals = {}, []
    for name, own in rows.items():
        try:
            traces[name] = trace_of_recordings(own, f"run {run}, pool {name}")
        except ConfigProblem as problem:
            refusals.append(str(problem))
    if len(traces) > 1:
        raise WrongFile(f"run {run} has a queue in pools {', '.join(traces)}: choose with --of")
    if not traces:
        raise WrongFile("\n".join(refusals) or f"run {run} has stored no decision yet")
    ((name, trace),) = traces.items()
    return trace, _boot_times(invocation, name)


def _boot_times(invocation: Invocation, pool: str) -> Times | None:
    """Those of the run's own machines; None, and said, when nothing tells of them."""
    events: list[Mapping[str, Any]] = []
    try:
        with invocation.connection() as client:
            since = 0
            while page := ask(client.call, "provisioner", "events", since, _PAGE):
                events += page
                since = int(page[-1]["sequence"])
    except (CallFailed, EpuError) as problem:
        events = logged_events(invocation)
        if not events:
            invocation.output.note(f"the run's boot times are not known: {problem}")
    return boot_times_of(events, pool)


def logged_events(invocation: Invocation) -> list[Mapping[str, Any]]:
    """What the provisioner of an ended run wrote into its log, where that still is."""
    from mgmt.event_files import read_event_files
    from mgmt.run_locator import open_run, state_dir_of

    try:
        directory = state_dir_of(open_run(str(invocation.run)))
        logs = [] if directory is None else sorted((directory / "logs").glob("provisioner*"))
        return [vars(event) for event in read_event_files(logs).events]
    except (OSError, EpuError):
        return []


def _section(file: Path) -> Any:
    """The YAML of a file, without a ``pool:`` around it. Raises ConfigProblem."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigProblem([Problem(where=str(file), what=str(problem.strerror))]) from None
    except UnicodeDecodeError:
        raise ConfigProblem([Problem(where=str(file), what="not a text in UTF-8")]) from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        what = f"not YAML: {getattr(problem, 'problem', None) or problem}"
        raise ConfigProblem([Problem(where=f"{file}{place}", what=what)]) from None
    if isinstance(document, Mapping) and set(document) == {"pool"}:
        document = document["pool"]
    if not isinstance(document, Mapping):
        remedy = "write the keys of a pool: engine, min, max …"
        raise ConfigProblem([Problem(where=str(file), what="not a pool's section", remedy=remedy)])
    return document


def _pool_name(file: Path) -> str:
    """A name that a pool may have; the file's own where that is one."""
    words = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:30].strip("-")
    return words if words[:1].isalpha() else f"pool-{words}".strip("-")
