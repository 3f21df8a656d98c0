"""Examples that ship with the package, since an isolated host has nothing else: units for systemd.

Each is run by a test as it stands.
"""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable


def names() -> list[str]:
    """Return the names of all examples, as ``systemd/airgap-export.service``, sorted."""
    return sorted(name for name, _ in _walk(files(__name__), ""))


def read(name: str) -> str:
    """Return an example's text.

    Raises:
        KeyError: there is none of that name.
    """
    return dict(_walk(files(__name__), ""))[name].read_text("utf-8")


def purpose(name: str) -> str:
    """Return what an example is for: its description, or its first line."""
    lines = read(name).splitlines()
    told = [line.partition("=")[2] for line in lines if line.startswith("Description=")]
    return told[0] if told else lines[0].lstrip("# ")


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if not entry.name.startswith("__"):
                yield from _walk(entry, f"{path}{entry.name}/")
        elif path:  # this module is none
            yield f"{path}{entry.name}", entry
