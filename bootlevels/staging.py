"""Which files of this machine a program takes along, and under which words it then runs.

And where a node's own agent is the way to it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bootlevels.plan import LaunchPlan, Program, ServiceSpec
from bootlevels.transports.program import Stage, StagedFile
from userdata_templates.render import known_templates

BOOTCONF = "bootconf.json"
BOOTENV = "bootenv.sh"
_TARBALLS = (".tar.gz", ".tgz")
_RUN = "run.sh"
#: Form of the templates that are an agent's config: on every cloud these start one.
_AGENT_FORM = "agent-config"


@dataclass(frozen=True)
class Carried:
    """The file that the first word of a program means, and where it goes.

    ``inside`` is the name of a tarball's own directory, empty for a plain file.
    """

    path: Path
    inside: str = ""


def carried_file(program: Program, first: str, directory: str) -> Carried | None:
    """The file to take along for ``first``, the first word expanded; None: nothing is.

    A relative path and a tarball are files of the plan in ``directory``, lexically; a name
    without a slash is looked for where the program runs, an absolute path is one there.
    """
    path = Path(os.path.join(directory, first))
    for ending in _TARBALLS:
        if first.endswith(ending):
            return Carried(path, path.name.removesuffix(ending))
    if program.staged or ("/" in first and not first.startswith("/")):
        return Carried(path)
    return None


def needs_stage(service: ServiceSpec, program: Program, carried: Carried | None) -> bool:
    """Whether a program on this machine runs in a stage; elsewhere every program does."""
    return carried is not None or bool(service.bootconf) or program.staged


def stage_for(
    name: str,
    words: tuple[str, ...],
    carried: Carried | None,
    files: dict[str, str],
) -> tuple[Stage, tuple[str, ...]]:
    """The stage called ``name`` with the texts ``files`` in it, and the words to run there."""
    staged = [StagedFile(name=file, content=text.encode()) for file, text in files.items()]
    if carried is None:
        return Stage(name=name, files=tuple(staged)), words
    if carried.inside:
        stage = Stage(name=name, files=tuple(staged), tarball=carried.path, working=carried.inside)
        return stage, (f"./{_RUN}", *words[1:])
    staged.append(StagedFile(name=carried.path.name, source=carried.path, mode=0o700))
    return Stage(name=name, files=tuple(staged)), (f"./{carried.path.name}", *words[1:])


def agent_is_default(plan: LaunchPlan, home: ServiceSpec) -> bool:
    """Whether programs on the machine of ``home`` are run by its agent unless told otherwise.

    They are where there is one (the template is of those with an agent) and it can enrol:
    above the level of the registrar.
    """
    registrar = plan.registrar()
    if registrar is None or home.machine is None or home.ssh is not None:
        return False
    if plan.level_of(registrar.name) >= plan.level_of(home.name):
        return False
    return _AGENT_FORM in known_templates().get(home.machine.template, ())
