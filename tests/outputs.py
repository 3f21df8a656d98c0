"""Every ``--json`` output that a test sees is held against its schema in ``schemas/output``."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

FOLDER = Path(__file__).parent.parent / "schemas" / "output"
SHARED = "common.schema.json#/$defs/"
ERROR = {"error", "exit_code", "message"}
seen: Counter[str] = Counter()
"""How many outputs of which command passed."""


def whole(name: str) -> dict[str, Any]:
    """Return a schema with all that it refers to inside: what other files hold goes to ``$defs``."""
    found: dict[str, Any] = {}

    def place(reference: str, base: Path) -> str:
        file, _, pointer = reference.partition("#")
        if not file:
            return place(f"{base.name}#{pointer}", base)
        target = (base.parent / file).resolve()
        key = f"{target.name}{pointer}".replace("/", ".").replace("$", "")
        if key not in found:
            found[key] = {}
            part: Any = json.loads(target.read_text())
            for word in pointer.split("/")[1:]:
                part = part[word]
            found[key] = moved(part, target)
        return f"#/$defs/{key}"

    def moved(part: Any, base: Path) -> Any:
        if isinstance(part, dict):
            return {
                k: place(v, base) if k == "$ref" and isinstance(v, str) else moved(v, base)
                for k, v in part.items()
            }
        return [moved(one, base) for one in part] if isinstance(part, list) else part

    path = FOLDER / f"{name}.schema.json"
    made = moved(json.loads(path.read_text()), path)
    return {**made, "$defs": found}


@cache
def validator(name: str) -> Any:
    return jsonschema_rs.validator_for(whole(name))


def check(words: tuple[str, ...], stdout: str, exit_code: int) -> None:
    """Hold what a command printed against its schema, or that of errors.

    Raises:
        AssertionError: it is not one object and a line feed, or the schema has none like it.
    """
    assert stdout.endswith("\n"), stdout
    assert stdout.count("\n") == 1, stdout
    value = json.loads(stdout)
    name = "-".join(words)
    if value.keys() >= ERROR:
        assert value["exit_code"] == exit_code
        name = "error"
    problem = next(validator(name).iter_errors(value), None)
    assert problem is None, f"{name}: {problem}"
    seen[name] += 1
