"""``airgap examples``: they come with the package, and nothing of a host's own is replaced by them."""

import pytest
from support import REPOSITORY, run

from airgap import examples

FOLDER = REPOSITORY / "airgap" / "examples"


def test_every_file_that_ships_is_listed_with_what_it_is_for_and_printed_as_it_is():
    shipped = {
        p.relative_to(FOLDER).as_posix()
        for p in FOLDER.rglob("*")
        if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts
    }
    assert set(examples.names()) == shipped
    listed = run("examples").stdout
    for name in shipped:
        assert name in listed
        assert examples.purpose(name).strip()
        assert run("examples", name).stdout == (FOLDER / name).read_text()


def test_what_a_name_begins_with_is_written_and_written_again(tmp_path):
    done = run("examples", "--to", tmp_path / "new", code=2)
    assert "two examples are named airgap.conf" in done.output
    assert not (tmp_path / "new").exists()
    for _ in range(2):
        run("examples", "systemd/", "--to", tmp_path / "new")
    names = {p.name for p in (tmp_path / "new").iterdir()}
    assert names == {n.removeprefix("systemd/") for n in examples.names() if "systemd/" in n}


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_another_file_of_that_name_stays_and_nothing_is_written(tmp_path, kind):
    path = tmp_path / "airgap-status.timer"  # the last by name
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to("/nowhere")
    else:
        path.mkdir()
    done = run("examples", "systemd/", "--to", tmp_path, code=2)
    assert "another file is there" in done.output
    assert str(path) in done.output
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_name_is_said_with_those_that_there_are():
    done = run("examples", "systemd/airgap-exprot.service", code=2)
    assert "there is no example systemd/airgap-exprot.service" in done.output
    assert "systemd/airgap-export.service" in done.output
