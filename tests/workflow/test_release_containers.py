"""The container file: built from the release without a network, it captures and exports, and imports."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from podman import Podman, build, build_words, reason
from support import SOURCE, report

CONFINED = (
    "--network",
    "host",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "all",
)
POST = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 8787, timeout=30)
connection.request("POST", "/v1/metadata/submit", sys.argv[1], {"Content-Type": "application/json"})
print(connection.getresponse().status)
"""


@pytest.fixture
def podman(images: Path, tmp_path: Path) -> Iterator[Podman]:
    (tmp_path / "podman").mkdir()
    with Podman(tmp_path / "podman", images) as running:
        yield running


def journey(podman: Podman, stick: Path, isolated: str, workstation: str) -> None:
    """Capture in a container, export to a stick, import in another one, and apply the receipt."""
    stick.mkdir(mode=0o777)
    stick.chmod(0o777)
    (stick / "license.key").write_text("lcl_EXAMPLE_not_a_real_key\n")
    options = (*CONFINED, "-v", f"{stick}:/media/stick")

    def here(script: str) -> str:
        home = ("-v", "home:/var/lib/airgap", "--entrypoint", "sh")
        return podman("run", *options, *home, isolated, "-ec", script)

    def there(script: str) -> str:
        home = ("-v", "relay:/var/lib/airgap", "--entrypoint", "sh")
        return podman("run", *options, *home, workstation, "-ec", script)

    keys = "airgap key generate --no-passphrase --quiet; cat $AIRGAP_HOME/keys/default.pub >"
    here(
        f"test $(id -u):$(id -g) = 10001:10001; airgap init --source {SOURCE}; {keys} /media/stick/site.pub"
    )
    there(f"airgap init --workstation relay-1; {keys} /media/stick/relay.pub")
    there(f"airgap trust add /media/stick/site.pub --role exporter --source {SOURCE}")
    with podman.start(
        "run", *CONFINED, "-v", "home:/var/lib/airgap", "--name", "c", isolated
    ) as capture:
        podman.awaited("0.0.0.0:8787", capture)
        podman("healthcheck", "run", "c")
        answered = podman.outside("/usr/bin/python3", "-c", POST, json.dumps(report(7, 9)))
        assert answered.strip() == "204"
        podman("kill", "--signal", "TERM", "c")
        said, _ = capture.communicate(timeout=60)
    assert capture.returncode == 0, said
    here("airgap trust add /media/stick/relay.pub --role importer; airgap export --to /media/stick")
    with podman.start("run", *CONFINED, "--name", "b", workstation, "rehearse") as beacon:
        podman.awaited("127.0.0.1:8321", beacon)
        place = "http://127.0.0.1:8321"
        there(
            "airgap import /media/stick --license-file /media/stick/license.key"
            f" --beacon-url {place} --api-url {place}"
        )
        podman("kill", "--signal", "INT", "b")
        said, _ = beacon.communicate(timeout=60)
    assert "usage_report" in said.partition("\n\n")[2], said
    told = here("airgap receipt apply /media/stick --quiet; airgap status --json")
    confirmed = json.loads(told)["confirmed"]["usage_report"]
    assert (confirmed["records"], confirmed["sums"]["langgraph.platform.runs"]) == (1, 7)


def test_the_image_captures_exports_and_imports_with_nothing_to_write_to_but_its_home(
    podman: Podman, tmp_path: Path
):
    journey(podman, tmp_path / "stick", "airgap", "airgap")


@pytest.mark.soak
def test_each_side_has_an_image_of_its_own_and_the_isolated_one_no_http_client(
    unpacked: Path, tmp_path: Path
):
    if reason():
        pytest.skip(reason())
    folder = tmp_path / "podman"
    folder.mkdir()
    build(folder, unpacked, "-t", "airgap")
    with Podman(folder) as podman:
        parts = ("--target", "airgap", "--build-arg", "PARTS=--workstation")
        podman(*build_words(unpacked, *parts, "-t", "workstation"))
        for image, has in (("airgap", False), ("workstation", True)):
            python = ("--entrypoint", "/opt/airgap/current/bin/python", image, "-c", "import httpx")
            podman("run", "--network", "none", *python, code=0 if has else 1)
        journey(podman, tmp_path / "stick", "airgap", "workstation")
