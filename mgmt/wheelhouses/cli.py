"""``epu wheelhouse …``: wheels for machines that have no index."""

from __future__ import annotations

from pathlib import Path

import click

from mgmt.invocation.cli import Commands, Invocation, output_options, pass_invocation

_DIRECTORY = click.Path(file_okay=False, path_type=Path, resolve_path=True)


@click.group(cls=Commands)
def wheelhouse() -> None:
    """Wheels of this installation, for machines that have no index."""


@wheelhouse.command(name="build")
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@output_options
@pass_invocation
def wheelhouse_build(invocation: Invocation, directory: Path) -> None:
    """Make DIR a wheelhouse: epu as it runs here and all it stands on, with a manifest.

    Needs no network. Only what changed is written again. Let machines reach DIR as a
    directory of theirs or by http (any server of files will do), and name it in the section
    of their cloud: ``wheelhouse: URL``, and to pin it ``wheelhouse_sha256``, printed here.

    \b
    Examples:
      epu wheelhouse build ./wheelhouse
      python -m http.server --directory ./wheelhouse 8000
    """
    from mgmt.wheelhouses.build import build_wheelhouse

    made = build_wheelhouse(directory, invocation.output.note)
    document = {
        "directory": str(made.directory),
        "sha256": made.digest,
        "wheels": {name: dict(about) for name, about in made.wheels.items()},
        "fresh": made.fresh,
    }
    lines = [
        f"wheelhouse         {made.directory}",
        f"wheelhouse_sha256  {made.digest}",
        f"{len(made.wheels)} wheels, {made.size / 1e6:.0f} MB; {made.fresh} of them written now",
    ]
    invocation.output.result("wheelhouse", document, lines)


commands = (wheelhouse,)
