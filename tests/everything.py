"""Every command of the product, in the order of a journey: for tests that hold something of each."""

import json
import shutil

from support import REPOSITORY, SOURCE, Site, every_command, report, run, write_lines

from airgap import home as homes
from airgap.trust import keys

VECTORS = REPOSITORY / "tests" / "vectors"
CONNECTED = {
    ("import",),
    ("ledger", "deadletter", "export"),
    ("ledger", "deadletter", "retry"),
    ("ledger", "list"),
    ("ledger", "move"),
    ("ledger", "resolve"),
    ("ledger", "show"),
    ("receipt", "code"),
    ("report",),
    ("rehearse",),
    ("demo",),
}
"""The commands of the connected workstation; each other one is run below."""


def words_of(command: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    [found] = [c for c in every_command() if tuple(command[: len(c)]) == c]
    return found


NO_USAGE = "2026-01-10..2026-01-11"


def first_half(site: Site) -> list[tuple[object, ...]]:
    """Return what an isolated host does until the stick leaves, in order."""
    home, other = ("--home", site.isolated), ("--home", site.root / "other")
    public, root = site.workstation / "keys" / "default.pub", site.root
    document = root / "document.json"
    document.write_text(json.dumps([report(1, 1), report(2, 2)]))
    lines = write_lines(root / "usage.jsonl", [report(3, 3)])
    head = "id,from_timestamp,to_timestamp,measures\n"
    rows = [
        f'af28dfea-5358-463d-a2dc-37df0000000{n},2026-01-06 00:00:00+00,2026-01-07 00:00:00+00,"{{""users"": 3}}"\n'
        for n in (1, 2)
    ]
    (root / "snapshots.csv").write_text(head + rows[0])
    (root / "psql.csv").write_text("Timing is on.\n" + head + rows[1] + "Time: 1.234 ms\n")
    license_file = ("--license-file", site.license_file)
    run("recipient", "generate", "--home", site.workstation, "--no-passphrase")
    sealing = site.workstation / "sealing" / "default.pub"
    fingerprint = run("recipient", "fingerprint", sealing).output.strip()
    return [
        ("init", *other, "--source", "x"),
        ("key", "generate", *other, "--no-passphrase"),
        ("key", "list", *home),
        ("key", "fingerprint", *home),
        ("trust", "add", *other, public, "--role", "importer"),
        ("trust", "list", *other),
        ("trust", "revoke", *other, site.importer.public.key_id, "--reason", "lost"),
        ("trust", "remove", *other, site.importer.public.key_id),
        ("collect", *home, lines),
        ("collect", *home, document),
        ("collect", *home, VECTORS / "requests.jsonl", "--allow", "*"),
        ("collect", *home, root / "snapshots.csv", *license_file),
        ("collect", *home, root / "psql.csv", *license_file),
        ("export", *home, "--to", site.stick),
        ("inspect", *home, site.stick / f"{SOURCE}-000001.airgap"),
        ("cat", *home, site.stick / f"{SOURCE}-000001.airgap"),
        ("verify", *home, site.stick),
        ("status", *home),
        ("doctor", *home),
        ("media", "list"),
        ("fields",),
        ("config", "show", *home),
        ("config", "check", *home),
        ("config", "path", *home),
        ("completion", "bash"),
        ("man", "--to", root / "man"),
        ("examples", "systemd/", "--to", root / "units"),
        ("recipient", "generate", *home, "--no-passphrase"),
        ("recipient", "list", *home),
        ("recipient", "fingerprint", *home, "default"),
        ("recipient", "add", *home, sealing, "--name", "r", "--fingerprint", fingerprint),
        ("recipient", "remove", *home, "r"),
        *with_reviewer(site),
        *with_roots(site),
    ]


def with_reviewer(site: Site) -> list[tuple[object, ...]]:
    """Return what a second person does on the isolated side."""
    home, name = ("--home", site.isolated), f"{SOURCE}-000001.airgap"
    return [
        ("key", "generate", *home, "--name", "alice", "--role", "reviewer", "--no-passphrase"),
        ("review", *home, site.stick / name),
        ("countersign", *home, site.stick / name, "--key", "alice", "--to", site.isolated),
    ]


def with_roots(site: Site) -> list[tuple[object, ...]]:
    """Return what an office without a network does that says whose signatures count."""
    made, root_key = homes.create(site.root / "office", "isolated", "office"), keys.generate()
    made.add_key("root-1", root_key, None)
    office, other, folder = (
        ("--home", made.path),
        ("--home", site.root / "other"),
        site.root / "out",
    )
    folder.mkdir()
    public, second = made.path / "keys" / "root-1.pub", site.workstation / "keys" / "default.pub"
    return [
        ("trust", "root", "add", *office, public, "--threshold", 1),
        ("trust", "root", "add", *office, second),
        ("trust", "root", "remove", *office, site.importer.public.key_id),
        ("trust", "policy", "set", *office, "--source", "x", "--reviewers", 1),
        ("trust", "policy", "remove", *office, "--source", "x"),
        ("trust", "sign", *office, "--key", "root-1", "--to", folder),
        ("key", "generate", *office, "--name", "own", "--no-passphrase"),
        (
            "trust",
            "add",
            *other,
            made.path / "keys" / "own.pub",
            "--role",
            "exporter",
            "--source",
            "*",
        ),
        ("key", "rotate", *office, "2027", "--key", "own", "--no-passphrase"),
        ("trust", "succeed", *other, made.path / "keys" / "2027.succession"),
        ("trust", "update", *other, folder, "--root", root_key.public.fingerprint),
    ]


def second_half(site: Site) -> list[tuple[object, ...]]:
    """Return what it does when the receipt is back."""
    home = ("--home", site.isolated)
    secret = json.loads(run("receipt", "pair", "--home", site.workstation, SOURCE, "--json").stdout)
    (site.root / "secret").write_text(secret["secret"])
    codes = json.loads(run("receipt", "code", "--home", site.workstation, SOURCE, "--json").stdout)
    run("init", "--home", site.root / "anew", "--source", SOURCE)
    shutil.copy(site.isolated / "trust.json", site.root / "anew")
    [receipt] = site.stick.glob("*.receipt")
    return [
        ("receipt", "pair", *home, "relay-1", "--secret-file", site.root / "secret"),
        ("receipt", "enter", *home, "1", codes["codes"][0]["code"]),
        ("receipt", "apply", *home, site.stick),
        ("export", *home, "--to", site.stick, "--no-usage", NO_USAGE, "--key", "default"),
        ("outbox", "continue", "--home", site.root / "anew", receipt),
        ("outbox", "prune", *home, "--older-than", "0s"),
        ("audit", "verify", *home),
        ("audit", "show", *home),
        ("status", *home, "--check", "--max-age", "9000d", "--gap-over", "9000d"),
    ]
