"""The examples for Kubernetes: valid by its own schemas, and their pods run as they stand, by Podman."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kube
import pytest
import releasing
from podman import Podman
from postgres import READER, PostgresServer
from support import LICENSE, SOURCE, report

pytestmark = pytest.mark.skipif(bool(kube.reason()), reason=kube.reason())
POST = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 8787, timeout=30)
connection.request("GET", sys.argv[2])
answer = connection.getresponse()
answer.read()
connection.request("POST", "/v1/metadata/submit", sys.argv[1], {"Content-Type": "application/json"})
print(answer.status, connection.getresponse().status)
"""


@pytest.fixture
def podman(images: Path, tmp_path: Path) -> Iterator[Podman]:
    (tmp_path / "podman").mkdir()
    with Podman(tmp_path / "podman", images) as running:
        yield running


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Yield what is a pod's specification within a document."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from pods(inner)


@pytest.mark.parametrize("version", kube.VERSIONS)
@pytest.mark.parametrize("name", kube.NAMES)
def test_each_document_is_valid_by_kubernetes_own_schemas(name: str, version: str):
    for document in kube.documents(name):
        assert kube.violations(document, version) == [], document["kind"]
        broken = {**document, "spec": {**document["spec"], "shedule": 1}}
        assert kube.violations(broken, version), "the schemas know every field"


@pytest.mark.parametrize("name", kube.NAMES)
def test_each_pod_is_confined_has_no_account_and_takes_this_release(name: str):
    found = [one for document in kube.documents(name) for one in pods(document)]
    assert len(found) == 1
    [spec] = found
    assert spec["automountServiceAccountToken"] is False
    asked = spec["securityContext"]
    assert asked["runAsNonRoot"] is True
    assert asked["runAsUser"] == asked["fsGroup"] == 10001
    assert asked["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        assert container["image"] == f"registry.example/airgap:{releasing.version()}"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    policy = kube.of_kind("NetworkPolicy", name)["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert ("egress" in policy) == (name == "airgap.yaml")
    reached = [rule["ports"] for rule in policy.get("egress", [])]
    assert [one["port"] for ports in reached for one in ports] in ([], [5432, 53, 53])


def test_the_pods_of_the_examples_set_up_capture_collect_from_the_database_and_export(
    podman: Podman, postgres: PostgresServer, tmp_path: Path
):
    postgres.fill(transactions=40, metrics=10, status="pending")
    database = {
        "postgres_user": READER,
        "postgres_password": postgres.password,
        "postgres_db": "langsmith",
    }
    kube.secret(podman, "langsmith-postgres", database, variables=True)
    kube.secret(
        podman,
        "langsmith-secrets",
        {"langsmith_license_key": LICENSE, "api_key_salt": "x"},
        variables=False,
    )
    kube.secret(podman, "airgap", {"passphrase": "battery staple\n"}, variables=False)
    kube.claim(podman)

    podman(
        "kube", "play", "-", stdin=kube.pod("airgap-by-hand", kube.of_kind("Pod", "by-hand.yaml"))
    )
    for command in (
        "init --source bank-a.prod",
        "key generate --passphrase-file /run/passphrase/passphrase",
    ):
        podman("exec", "airgap-by-hand-airgap", "airgap", *command.split())

    template = kube.of_kind("Deployment", "capture.yaml")["spec"]["template"]
    podman("kube", "play", "-", stdin=kube.pod("capture", template))
    with podman.start("logs", "--follow", "capture-capture") as logs:
        podman.awaited("0.0.0.0:8787", logs)
        logs.terminate()
    probe = template["spec"]["containers"][0]["readinessProbe"]["httpGet"]
    assert probe["port"] == 8787
    words = ("/usr/bin/python3", "-c", POST, json.dumps(report(7, 9)), probe["path"])
    assert podman.outside(*words).split() == ["200", "204"]

    template = kube.of_kind("CronJob", "airgap.yaml")["spec"]["jobTemplate"]["spec"]["template"]
    with kube.forwarded(podman.namespace(), 5432, postgres.port):
        podman("kube", "play", "-", stdin=kube.pod("nightly", template))
    ended = podman("wait", "nightly-export").strip()
    assert ended == "0", podman("logs", "nightly-export")
    podman("cp", "airgap-by-hand-airgap:/outgoing", tmp_path / "stick")
    [bundle] = (tmp_path / "stick").glob("*.airgap")
    look = f"airgap inspect /outgoing/{bundle.name} --json"
    told = json.loads(podman("exec", "airgap-by-hand-airgap", *look.split()))
    totals = told["manifest"]["totals"]
    rows = postgres.execute("SELECT count(*) FROM trace_count_transactions WHERE source = 'local'")
    assert totals["trace_transactions"]["records"] == int(rows)
    assert totals["usage_report"]["records"] == 10 + 1
    assert told["manifest"]["source"] == SOURCE
