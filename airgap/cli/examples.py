"""``airgap examples``: what a host needs beside airgap, as files to start from."""

from pathlib import Path

import click

from airgap import examples
from airgap.cli.common import Output, airgap_command
from airgap.errors import UsageError
from airgap.files import make_folder, write_atomically
from airgap.text import plural, printable


@airgap_command("examples", home=False)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write them to this folder; nothing else that is there is replaced.",
)
def command(out: Output, names: tuple[str, ...], to: Path | None) -> None:
    """List examples, print one, or write some to a folder: systemd's units, a container file, Kubernetes.

    NAME is an example's name, or what the names of some begin with. Each says in its first lines what it
    expects: airgap in /opt/airgap, its home in /var/lib/airgap, and the user airgap.

    \b
    Example:
      airgap examples
      airgap examples systemd/airgap-export.service
      airgap examples systemd/ --to /etc/systemd/system
    """
    chosen = _chosen(names)
    written = [] if to is None else _written(to, chosen)
    out.result(
        {
            "examples": [
                {"name": n, "purpose": examples.purpose(n), "text": examples.read(n)}
                for n in chosen
            ],
            "written": list(map(str, written)),
        }
    )
    if to is not None:
        out.say(
            f"Wrote {plural(len(written), 'file')} to {to}. Next: read what each one says first"
        )
    elif len(chosen) == 1:
        out.say(*examples.read(chosen[0]).rstrip("\n").split("\n"))
    else:
        out.table(("example", "what it is for"), [(n, examples.purpose(n)) for n in chosen])
        out.say("Next: airgap examples NAME, or airgap examples NAME --to FOLDER")


def _chosen(names: tuple[str, ...]) -> list[str]:
    """Return the names that were asked for, all where none was.

    Raises:
        UsageError: there is no such example.
    """
    known = examples.names()
    for name in names:
        if not any(one.startswith(name) for one in known):
            raise UsageError(
                f"there is no example {printable(name, 80)}",
                expected=", ".join(known),
                hint="airgap examples lists them",
            )
    return [one for one in known if one.startswith(names)] if names else known


def _written(folder: Path, names: list[str]) -> list[Path]:
    """Write examples to a folder, each under its last name, or none of them.

    Raises:
        UsageError: another file is there, two want the same name, or the folder can't be made.
        MediumError: the file system refused.
    """
    paths: dict[Path, bytes] = {}
    for name in names:
        path = folder / name.rpartition("/")[2]
        if path in paths:
            raise UsageError(
                f"two examples are named {path.name}",
                expected="those for one folder",
                found=", ".join(names),
                hint="write each to its own folder with --to",
            )
        paths[path] = examples.read(name).encode()
    for path, text in paths.items():
        if path.is_symlink() or (path.exists() and not _holds(path, text)):
            raise UsageError(
                "another file is there",
                where=printable(str(path), 300),
                expected="a new name, or the example as it is",
                hint="move it away, or choose another folder with --to",
            )
    make_folder(folder, "choose another folder with --to")
    for path, text in paths.items():
        write_atomically(path, text, mode=0o644)
    return list(paths)


def _holds(path: Path, text: bytes) -> bool:
    """Return whether a file holds this and nothing else; one that can't be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(len(text) + 1) == text
    except OSError:
        return False
