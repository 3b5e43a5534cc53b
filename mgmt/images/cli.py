"""``epu image …``: images for machines of the cloud ``qemu``."""

from __future__ import annotations

from pathlib import Path

import click

from mgmt.invocation.cli import Commands, Invocation, output_options, pass_invocation
from mgmt.output import Table, clock_text

_WHEELHOUSE = click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True)


@click.group(cls=Commands)
def image() -> None:
    """Build images for machines of the cloud qemu, and list them."""


@image.command(name="build")
@click.argument("name", metavar="[NAME]", default="debian")
@click.option("-o", "--output", "target", metavar="DIR",
              type=click.Path(path_type=Path, resolve_path=True),
              help="Copy the image there too.")  # fmt: skip
@click.option("--with-agent", "wheelhouse", metavar="WHEELHOUSE", type=_WHEELHOUSE,
              help="Bake the agent in, from the wheels in this directory: machines need only "
              "register.")  # fmt: skip
@click.option("--package", "packages", metavar="NAME", multiple=True,
              help="A Debian package more; may be repeated.")  # fmt: skip
@click.option("--anew", is_flag=True,
              help="Build it in any case, of the newest packages; an older one stays.")  # fmt: skip
@output_options
@pass_invocation
def image_build(
    invocation: Invocation,
    name: str,
    target: Path | None,
    wheelhouse: Path | None,
    packages: tuple[str, ...],
    anew: bool,
) -> None:
    """Build a Debian image with cloud-init, called NAME (default: debian).

    Made from Debian packages with mmdebstrap, as root. Kept in $EPU_IMAGES, else in
    ~/.cache/epu/images; built only when there is none of the same recipe. May be
    interrupted and run again at any point. Machines keep the image that they were started
    from; an image that nobody needs is a directory to be removed.

    \b
    Examples:
      epu image build
      epu image build with-agent --with-agent ./wheelhouse
      epu image build --package openssh-server -o ./image
    """
    from coordinator.clouds.qemu_image import image_store
    from mgmt.images.build import build, export, recipe_here

    recipe = recipe_here(packages=packages, wheelhouse=wheelhouse)
    built = build(name, recipe, image_store(), invocation.output.note, wheelhouse, anew)
    if target is not None:
        export(built.place, target)
    about = built.about
    document = {
        "name": built.name,
        "path": str(target or built.place),
        "fresh": built.fresh,
        "seconds": round(built.seconds, 1),
        "image": about.document(),
    }
    took = f"built in {built.seconds:.0f} s" if built.fresh else "there already"
    lines = [
        f"image     {built.name} ({took})",
        f"path      {document['path']}",
        f"holds     Debian {about.suite}, kernel {about.kernel}, {about.packages} packages, "
        f"{f'agent {about.agent}' if about.agent else 'no agent'}",
    ]
    invocation.output.result("image", document, lines)


@image.command(name="list")
@output_options
@pass_invocation
def image_list(invocation: Invocation) -> None:
    """List the images in the store.

    \b
    Example:
      epu image list
    """
    from coordinator.clouds.qemu_image import DESCRIPTION, describe, image_store

    store = image_store()
    links = sorted(store.iterdir()) if store.is_dir() else []
    found = [
        (path.name, path.resolve(), describe(path))
        for path in links
        if path.is_symlink() and (path / DESCRIPTION).is_file()
    ]
    document = {
        "store": str(store),
        "images": [
            {"name": name, "path": str(path), "image": about.document()}
            for name, path, about in found
        ],
    }
    rows = [
        [name, about.agent or "-", about.kernel, clock_text(about.built_at)[:16], str(path)]
        for name, path, about in found
    ]
    empty = f"no images in {store}; epu image build makes one"
    table = Table(["NAME", "AGENT", "KERNEL", "BUILT", "PATH"], rows, empty=empty)
    invocation.output.result("images", document, [table])


commands = (image,)
