"""Kubernetes' own schemas, YAML, and a cluster's part in running a pod's template with Podman.

``podman kube play`` reads pods and claims as a cluster does. What it does not do is done here: the pod is taken
out of its CronJob, claims get the group that ``fsGroup`` names, and the database's name leads to a real one.
"""

import base64
import contextlib
import ctypes
import functools
import json
import os
import socket
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from podman import Podman
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from support import REPOSITORY

FOLDER = REPOSITORY / ".kubernetes"
EXAMPLES = REPOSITORY / "airgap" / "examples" / "kubernetes"
NAMES = ("airgap.yaml", "by-hand.yaml", "capture.yaml")
VERSIONS = ("1.29.0", "1.37.0")
"""The oldest and the newest that the examples are held against."""
CLONE_NEWNET = 0x40000000


def reason() -> str:
    """Return why examples can't be read here, or nothing."""
    if list(FOLDER.glob("kubernetes_validate-*.whl")) and list(FOLDER.glob("pyyaml-*.whl")):
        return ""
    return (
        "Kubernetes' schemas are missing: pip download --no-deps --only-binary=:all: --require-hashes"
        " -d .kubernetes -r tests/kubernetes/requirements.lock"
    )


def documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of an example."""
    [wheel] = FOLDER.glob("pyyaml-*.whl")
    sys.path.insert(0, str(wheel))
    try:
        import yaml
    finally:
        sys.path.remove(str(wheel))
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def of_kind(kind: str, name: str) -> dict[str, Any]:
    """Return the one document of a kind."""
    [found] = [one for one in documents(name) if one["kind"] == kind]
    return found


def violations(document: dict[str, Any], version: str) -> list[str]:
    """Return what Kubernetes' strict schema of that version, which knows every field, has against a document."""
    group, _, number = document["apiVersion"].rpartition("/")
    short = f"{group.partition('.')[0]}-{number}" if group else number
    schema = _schema(version, f"{document['kind'].lower()}-{short}").contents
    validator = Draft202012Validator(schema, registry=_definitions(version))
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(document)]


@functools.cache
def _definitions(version: str) -> Registry[Any]:
    # Gone through once: else each document goes through all of Kubernetes.
    whole = _schema(version, "_definitions")
    return Registry().with_resource("/api/_definitions.json", whole).crawl()


@functools.cache
def _schema(version: str, name: str) -> Resource[Any]:
    [wheel] = FOLDER.glob("kubernetes_validate-*.whl")
    folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"
    with zipfile.ZipFile(wheel) as archive:
        return DRAFT202012.create_resource(json.loads(archive.read(f"{folder}/{name}.json")))


def pod(name: str, template: dict[str, Any]) -> str:
    """Return a pod of a template, in the network of its host."""
    # Ports are told to the cluster; within the host's network they mean nothing.
    containers = [
        {key: value for key, value in one.items() if key != "ports"}
        for one in template["spec"]["containers"]
    ]
    spec = {
        **template["spec"],
        "containers": containers,
        "hostNetwork": True,
    }
    metadata = {"name": name, "labels": template["metadata"]["labels"]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def claim(podman: Podman) -> None:
    """Make the volumes that are claimed, with the group that the pods ask for, as a kubelet does."""
    for one in documents("airgap.yaml"):
        if one["kind"] == "PersistentVolumeClaim":
            podman("kube", "play", "-", stdin=json.dumps(one))
            name = one["metadata"]["name"]
            place = podman("volume", "inspect", "-f", "{{.Mountpoint}}", name).strip()
            os.chown(place, 0, 10001)
            Path(place).chmod(0o2775)


def secret(podman: Podman, name: str, values: dict[str, str], *, variables: bool) -> None:
    """Keep a secret; Podman 4 wants those for variables in another form than those for files."""
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    document = coded if variables else {"data": coded}
    podman("secret", "create", name, "-", stdin=json.dumps(document))


@contextlib.contextmanager
def forwarded(namespace: Path, port: int, to: int) -> Iterator[None]:
    """Let a port on the loopback of a network namespace lead to one on this machine's."""
    made: list[socket.socket] = []

    def listen() -> None:
        # A thread can be in a namespace of its own (man 2 setns); the socket stays where it was made.
        libc = ctypes.CDLL(None, use_errno=True)
        with namespace.open() as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.create_server(("127.0.0.1", port)))

    within = threading.Thread(target=listen)
    within.start()
    within.join()
    [listener] = made

    served: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                served.append(threading.Thread(target=_serve, args=(near, to)))
                served[-1].start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for one in (thread, *served):
            one.join()
        listener.close()


def _serve(near: socket.socket, port: int) -> None:
    """Pass on what comes either way, until both have ended."""
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        back = threading.Thread(target=_pump, args=(far, near))
        back.start()
        _pump(near, far)
        back.join()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)
