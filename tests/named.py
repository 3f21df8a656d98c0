"""Command lines in messages: found, and typed as a person would who reads them."""

import re
import shlex
from collections.abc import Iterator

import click
from click.testing import Result
from support import run

from airgap.cli.main import cli

CALLED = re.compile(r"(?P<before>\S+ )?(?<![\w./-])airgap (?P<rest>[a-z].*)")
END = re.compile(r"[`;,):|#>]|\.(?= |$)")
PLACE = re.compile(r"[A-Z][A-Z_]*([.|][A-Za-z.]+)*|.*[\d\"/'].*|all")
"""What stands for a value, or is one: ``FOLDER``, ``FILE.pub``, ``ID|all``, ``90d``, ``a/b``."""


def calls(text: str) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each command line in a text, and whether it stands there to be typed.

    The words of the sentence behind it are among them; see ``spelt``.
    """
    for line in text.splitlines():
        found = CALLED.search(line)
        while found:
            before, rest = found["before"] or "", found["rest"]
            said = END.split(rest.replace("|all", ""))[0]
            yield shlex.split(said.replace("'", "")), before.endswith(": ")
            found = CALLED.search(rest)


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that a line begins with, and the words behind it."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            break
        command, words = inner, words[1:]
    return command, words


def spelt(words: list[str]) -> list[str]:
    """Return a command line without the words of the sentence behind it."""
    command, rest = command_of(words)
    options = {name: p for p in command.params for name in p.opts}
    taken = len(words) - len(rest)
    while taken < len(words):
        word = words[taken]
        if not (word in options or PLACE.fullmatch(word)):
            break
        taken += 2 if word in options and takes_value(options[word]) else 1
    return words[:taken]


def takes_value(option: click.Parameter) -> bool:
    return isinstance(option, click.Option) and not option.is_flag and not option.count


def is_value(option: click.Parameter, word: str) -> bool:
    chosen = isinstance(option.type, click.Choice) and word in option.type.choices
    return chosen or PLACE.fullmatch(word) is not None


def follow(said: str, command: str, *more: object, code: int = 0, **places: object) -> Result:
    """Do what a message says: run the command line in it that begins so.

    Args:
        said: what was printed.
        command: the words that the command line begins with, after ``airgap``.
        more: what the message leaves to the person: the home, and the same options as before.
        code: the exit status that it must have.
        places: what the person puts in the place of its words in capital letters, each of which must
            be there; ``FILE_pub`` is ``FILE.pub``.
    """
    wanted = command.split()
    lines = [spelt(words) for words, _ in calls(said) if words[: len(wanted)] == wanted]
    assert lines, f"no `airgap {command}` in:\n{said}"
    values = {name.replace("_pub", ".pub"): value for name, value in places.items()}
    assert not set(values) - set(lines[0]), (lines[0], values)
    return run(*(values.get(word, word) for word in lines[0]), *more, code=code)
