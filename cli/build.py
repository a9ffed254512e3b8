"""`autonomic build`."""

from pathlib import Path
from typing import Annotated

import typer

from autonomic.cli.options import HomeOption

FolderArgument = Annotated[Path | None, typer.Argument(help="A folder whose requirements.txt says what its steps need.")]
TagOption = Annotated[str, typer.Option("--tag", "-t", help="The image's name and tag, such as registry.example.com/ml/steps:1.")]
FullOption = Annotated[
    bool, typer.Option("--full", help="With all that autonomic depends on: for agents, host, replicas of services, detectors, searches.")
]
WithoutOption = Annotated[list[str] | None, typer.Option(help="With --full: a dependency to leave out, such as torch.", metavar="PROJECT")]
ConstraintsOption = Annotated[Path | None, typer.Option(help="A file with the versions that pip may take.", metavar="FILE")]
BaseOption = Annotated[str, typer.Option(help="An image with Python 3.11 or newer; default: one of this machine's distribution.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Make the base anew, or look for a newer one, with its security updates.")]
WheelOption = Annotated[Path | None, typer.Option(help="The package autonomic; default: made of the checkout.", metavar="FILE")]
ArchiveOption = Annotated[Path | None, typer.Option(help="Write the image to this file, for docker, podman or a cluster.", metavar="FILE")]
LoadOption = Annotated[bool, typer.Option("--load", help="Import the image into every node of this home's local cluster.")]
ContextOption = Annotated[
    Path | None, typer.Option(help="Write what the image is built from into this folder, and build nothing.", metavar="FOLDER")
]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(build)


def build(
    folder: FolderArgument = None,
    tag: TagOption = "",
    full: FullOption = False,
    without: WithoutOption = None,
    constraints: ConstraintsOption = None,
    base: BaseOption = "",
    fresh: FreshOption = False,
    wheel: WheelOption = None,
    archive: ArchiveOption = None,
    load: LoadOption = False,
    context: ContextOption = None,
    home: HomeOption = None,
) -> None:
    """Build a container image for steps (or, with --full, for every part) by buildah: no daemon, no registry.

    The image has the package autonomic and what FOLDER/requirements.txt asks for, and runs as user 10001. The code of
    workflows is not in it: that travels with `autonomic apply`. It stays in buildah's store, from where `buildah push` brings
    it to a registry.

    Examples:

        autonomic build steps --tag registry.example.com/ml/steps:1 --load

        autonomic build --full --constraints constraints.txt --tag registry.example.com/autonomic:0.1.0

        autonomic build steps --context context && docker build --tag steps:1 context
    """
    from tempfile import TemporaryDirectory

    from autonomic.cli.cluster import running
    from autonomic.cli.output import working
    from autonomic.seams.errors import Permanent
    from autonomic.workflows.images import build as images
    from autonomic.workflows.images.context import write

    if not folder and not full:
        raise typer.BadParameter("name the folder of the steps, or give --full")
    if without and not full:
        raise typer.BadParameter("--without is for --full: steps get only what they need")
    requirements = folder / "requirements.txt" if folder else None
    if folder and not folder.is_dir():
        raise Permanent(f"there is no folder {folder}; nothing was built")
    if context:
        with working("Making the wheel"):
            write(context, requirements, constraints, wheel, full, without or ())
        return
    images.check_name(tag)
    images.check_tools(base)
    cluster = running(home) if load else None
    with TemporaryDirectory(prefix="autonomic-build-") as name, working(f"Building {tag}") as status:
        place = Path(name)
        write(place / "context", requirements, constraints, wheel, full, without or ())
        images.build(place / "context", tag, base, fresh, lambda said: status.update(f"Building {tag}: {said[:100]} …"))
        if archive or cluster:
            written = archive or place / "image.tar"
            images.write_archive(tag, written.absolute())
            if cluster:
                status.update(f"Importing {tag} …")
                cluster.load(written)
    typer.echo(tag)
