"""The short form of the fuzzing in ``tests/fuzz``: the same inputs each time, a few seconds.

The long form is guided by coverage; ``tests/fuzz/README.md`` has its command and what it found.
"""

import re
import subprocess
import sys

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from fuzz import run, table
from support import REPOSITORY

from airgap import verify
from airgap.bundle import codec
from airgap.records import Totals
from airgap.trust import keys, points
from airgap.trust.entries import TrustedKey


def test_no_input_gives_a_traceback_or_breaks_an_invariant(tmp_path):
    """Corpus, golden files and changes of them, under limits on memory and processor time."""
    done = subprocess.run(
        [sys.executable, "tests/fuzz/run.py", "all", "--inputs", "0", "--work", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = dict(re.findall(r"^(\w+): (\d+) inputs tried, 0 findings$", done.stdout, re.MULTILINE))
    assert tried.keys() == table.TARGETS.keys()
    for name, target in table.TARGETS.items():
        assert int(tried[name]) > target.inputs, "neither seeds nor corpus were tried"


@pytest.mark.parametrize("name", table.TARGETS)
def test_the_same_seed_tries_the_same_inputs(name):
    count = len(table.TARGETS[name].seeds()) + len(run.corpus(name)) + 40
    first, second, other = (list(run.inputs(name, 40, seed)) for seed in (1, 1, 2))
    assert first == second != other
    assert len(first) == count
    assert len(set(first[-40:])) > 30


@pytest.mark.parametrize(
    ("name", "place", "attribute", "defect"),
    [
        ("encoding", codec, "_same", lambda *_: True),
        ("encoding", codec, "_LENGTH_FOLLOWS", {}),
        ("signatures", keys.PublicKey, "verifies", lambda *_: True),
        ("file", keys.PublicKey, "verifies", lambda *_: True),
        ("resigned", verify, "_compare", lambda *_, **__: ()),
        ("resigned", TrustedKey, "check", lambda *_, **__: None),
        ("resigned", verify, "_check_declaration", lambda *_, **__: None),
        ("resigned", verify, "_require_exact", lambda *_, **__: 1 / 0),
        ("answered", Totals, "require_equal", lambda *_, **__: None),
        ("statements", keys.PublicKey, "verifies", lambda *_: True),
        ("public_key", points, "_SMALL_ORDER_Y", frozenset()),
        ("public_key", keys, "_UNREADABLE", (ValueError, UnsupportedAlgorithm)),
    ],
)
def test_the_fuzzer_finds_a_defect_that_is_put_there(monkeypatch, name, place, attribute, defect):
    monkeypatch.setattr(place, attribute, defect)

    def fuzz():
        for data in run.inputs(name, 3000, 1):
            table.TARGETS[name].run(data)

    with pytest.raises((AssertionError, ArithmeticError, RuntimeError)):
        fuzz()
