"""Every command that a message or an example names runs as it stands there: words, options, what is required."""

import ast
import re
import shlex
from collections.abc import Iterator

import click
from named import PLACE, calls, command_of, is_value, takes_value
from support import REPOSITORY, every_command

from airgap.cli.main import COMMANDS
from airgap.text import wrapped

SENTENCES = frozenset(
    "again and as brings can't carries does file here home in is it key knows made may never makes on "
    "rehearsal release replaces runs that there was with writes wrote".split()
)
"""Words that follow the program's name where a sentence is about it."""


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string but docstrings; ``VALUE`` stands for what is filled in."""
    tree = ast.parse(source)
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            passed.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            passed.update(map(id, node.values))
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(v.value) if isinstance(v, ast.Constant) else "VALUE" for v in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def wrong(words: list[str], *, typed: bool) -> str | None:
    """Return why a command line does not run, or None; prose behind it ends it.

    A command that is only named, without a word more, need not be whole.
    """
    if words[0] not in COMMANDS:
        return None if words[0] in SENTENCES else "no such command"
    command, words = command_of(words)
    if isinstance(command, click.Group):
        return "no such command" if typed else None
    options = {name: p for p in command.params for name in p.opts if name.startswith("--")}
    places = [p for p in command.params if isinstance(p, click.Argument)]
    lacking = {p.opts[-1] for p in command.params if p.required and p not in places}
    values = 0
    named = not typed
    while words and (words[0].startswith("--") or PLACE.fullmatch(words[0])):
        word, named = words.pop(0), False
        if word == "VALUE" and values == len(places):
            return None  # options that are filled in
        if not word.startswith("--"):
            values += 1
        elif word not in options:
            return f"no option {word}"
        else:
            lacking -= set(options[word].opts)
            if takes_value(options[word]) and not (words and is_value(options[word], words.pop(0))):
                return f"{word} without a value"
    if named:
        return None
    if values < sum(p.required for p in places):
        return "a word is missing"
    return f"{', '.join(lacking)} missing" if lacking else None


def test_every_command_that_a_message_names_runs_as_it_is_named():
    found = []
    for path in sorted((REPOSITORY / "airgap").rglob("*.py")):
        for number, text in messages(path.read_text()):
            for words, typed in calls(text):
                problem = wrong(list(words), typed=typed)
                if problem:
                    place = path.relative_to(REPOSITORY)
                    found.append(f"{place}:{number}: airgap {' '.join(words)}: {problem}")
    assert not found, "\n".join(found)


def test_every_example_in_a_commands_help_runs_as_it_stands():
    for path in every_command():
        lines = re.findall(r"^ +airgap (.*)$", command_of(list(path))[0].help or "", re.MULTILINE)
        assert lines, path
        for line in lines:
            words = shlex.split(re.split(r" [|>#] ", line)[0])
            command, rest = command_of(words)
            context = click.Context(command)
            given, left, _ = command.make_parser(context).parse_args(list(rest))
            assert not left, line
            for parameter in command.params:
                assert not parameter.required or given.get(parameter.name), (line, parameter.name)


def test_what_does_not_run_is_found():
    for line, problem in (
        ("then: airgap trust add FILE", "--role missing"),
        ("see airgap ledgr list", "no such command"),
        ("then: airgap trust list --al", "no option --al"),
        ("`airgap trust add FILE --role x y`", "--role without a value"),
        ("then: airgap ledger show; nothing was changed", "a word is missing"),
        ("then: airgap ledger", "no such command"),
        ("see `airgap ledger list`, and airgap never guesses", None),
    ):
        assert next(wrong(list(w), typed=t) for w, t in calls(line)) == problem, line


def test_a_command_is_never_broken_between_lines():
    said = (
        "ask LangChain whether it was counted, then: airgap ledger resolve ID --delivered "
        "--reason TEXT, or look: airgap inspect /media/stick/bank-a.prod-000001.airgap"
    )
    called = re.findall(r"airgap (?:ledger|inspect)(?: [\w./-]+\b)+,?", said)
    assert [len(line) for line in called] == [51, 53]
    for width in range(44, 160):
        lines = wrapped(said, width, "hint: ", "      ", break_long=False)
        assert " ".join(line.strip() for line in lines) == f"hint: {said}"
        for line in called:
            assert any(line in one for one in lines) == (len(line) + 6 <= width), (width, lines)
        assert max(map(len, lines)) <= width
