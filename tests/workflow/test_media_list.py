"""Which stick: listed, taken when it is the only one, never guessed. In a mount namespace of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import report

PRELUDE = """\
set -e
mount -t tmpfs airgap-test /media
for name in $STICKS; do
    folder=/media/${name%:*}
    mkdir "$folder"
    mount -t tmpfs -o "size=1m,${name#*:}" airgap-test "$folder"
done
exec "$@"
"""


@pytest.fixture
def plugged(site):
    """Run airgap where exactly the given sticks are mounted; the namespace goes with the process."""
    if os.geteuid() or shutil.which("unshare") is None or not Path("/media").is_dir():
        pytest.skip("a mount namespace needs root, unshare (apt-get install util-linux) and /media")

    def run(sticks, *arguments, code=0):
        environment = {**os.environ, "STICKS": " ".join(sticks)}
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRELUDE, "sh",
             sys.executable, "-m", "airgap", *map(str, arguments)],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no mount namespace can be made here: {probe.stderr.decode().strip()}")
    return run


def test_without_to_the_only_writable_stick_is_taken_and_named(site, plugged):
    site.collect([report(1)])
    done = plugged(["one:rw", "two:ro"], "export", "--home", site.isolated)
    assert "To the only stick: /media/one (tmpfs)" in done.stdout
    assert "Wrote /media/one/bank-a.prod-000001.airgap, read back and compared" in done.stdout
    [bundle] = site.status()["bundles"]
    assert bundle["written_to"] == "/media/one"


@pytest.mark.parametrize(
    ("sticks", "said", "found"),
    [
        ([], "there is no stick to write to", "no removable medium is mounted"),
        pytest.param(
            ["one:ro"],
            "there is no stick to write to",
            "/media/one (tmpfs, read-only)",
            marks=pytest.mark.soak,
        ),
        (
            ["one:rw", "two:rw"],
            "there are several sticks",
            "/media/one (tmpfs), /media/two (tmpfs)",
        ),
    ],
    ids=["none", "only-a-read-only-one", "two"],
)
def test_without_to_nobody_guesses(site, plugged, sticks, said, found):
    site.collect([report(1)])
    done = plugged(sticks, "export", "--home", site.isolated, code=2)
    assert said in done.stderr
    assert found in done.stderr
    assert "--to" in done.stderr
    # Nothing was made, and the next try with a name works.
    assert site.status()["bundles"] == []
    site.export()


def test_media_list_shows_each_stick_its_room_and_what_is_on_it(site, plugged):
    site.collect([report(1)])
    airgap = f'"{sys.executable}" -m airgap'
    script = f'{airgap} export --home "{site.isolated}" --to /media/one >/dev/null; cd /media/one; '
    script += (
        f"touch holiday.mov .hidden.airgap; {airgap} media list >&2; {airgap} media list --json"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRELUDE, "sh", "sh", "-ec", script],
        env={**os.environ, "STICKS": "one:rw two:ro"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"/media/one +tmpfs +1\.0 MiB .* yes +bank-a\.prod-000001\.airgap\n", done.stderr
    )
    assert re.search(r"/media/two +tmpfs +1\.0 MiB .* no\n", done.stderr)
    assert "2 media. Next: airgap export" in done.stderr
    one, two = json.loads(done.stdout)["media"]
    assert (one["path"], one["writable"], one["file_system"]) == ("/media/one", True, "tmpfs")
    assert one["files"] == ["bank-a.prod-000001.airgap"]
    assert one["size"] == 1024**2
    assert 0 < one["free"] < one["size"]
    assert (two["path"], two["writable"], two["files"]) == ("/media/two", False, [])


def test_media_list_says_when_there_is_none(plugged):
    done = plugged([], "media", "list", "--json")
    assert json.loads(done.stdout) == {"media": []}
    assert "No removable medium is mounted" in done.stderr


def test_export_into_the_folder_of_a_stick_that_is_not_mounted_says_so(site, plugged):
    site.collect([report(1)])
    folder = Path("/mnt/airgap-test-no-stick")
    script = f'mount -t tmpfs none /media; exec "{sys.executable}" -m airgap "$@"'
    folder_is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
             "export", "--home", str(site.isolated), "--to", str(folder)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"warning: no medium is mounted at {folder}" in done.stderr
    finally:
        if folder_is_new:
            shutil.rmtree(folder)


def test_a_link_to_a_folder_on_a_stick_is_not_followed(exported, plugged):
    script = f'ln -s "{exported.stick}" /media/one/january; shift; exec "$0" "$@"'

    def airgap(code, *words):
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRELUDE, "sh",
             "sh", "-c", script, sys.executable, "", "-m", "airgap", *map(str, words)],
            env={**os.environ, "STICKS": "one:rw"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr

    verify = ("verify", "--home", exported.workstation)
    export = ("export", "--home", exported.isolated, "--again", "--to")
    before = sorted(exported.stick.iterdir())
    for path in ("/media/one/january", f"/media/one/january/{exported.bundle.name}"):
        assert "/media/one/january is a link" in airgap(3, *verify, path)
    said = airgap(8, *export, "/media/one/january")
    assert "a link on the medium leads elsewhere" in said
    assert f"found:    {exported.stick}" in said
    assert sorted(exported.stick.iterdir()) == before
    # A link of this machine's own is followed.
    (exported.root / "mine").symlink_to(exported.stick)
    airgap(0, *verify, exported.root / "mine")
    airgap(0, *export, exported.root / "mine")
