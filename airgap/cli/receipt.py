"""``airgap receipt``: receipts and codes, back on the isolated host."""

import os
from pathlib import Path
from typing import Any

import click

from airgap import applying, catalog, codes, confirmation, pgurl, timestamps
from airgap.applying import Applied
from airgap.arrivals import trust_of
from airgap.audit import record
from airgap.cli.common import Output, airgap_command, ledger_option, on_side, show_error
from airgap.cli.marks import mark_sent
from airgap.collect import tables
from airgap.errors import UsageError
from airgap.files import write_atomically
from airgap.home import NAME, Home, open_home
from airgap.outbox import Outbox
from airgap.text import plural, printable
from airgap.trust import keys


@click.group("receipt")
def command() -> None:
    """Take receipts, or codes where no file may come back, to the isolated host."""


@airgap_command("apply", audited=True)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--mark",
    metavar="URL",
    help="Mark rows that are confirmed as sent-backfilled in LangSmith's database.",
)
@click.pass_context
def _apply(
    ctx: click.Context, out: Output, home_path: Path, paths: tuple[Path, ...], mark: str | None
) -> None:
    """Confirm what receipts say was delivered.

    A receipt must be signed by a key that this home trusts as importer, and be about a bundle
    of this outbox, record for record. Applying one twice changes nothing. The home keeps a copy.

    With --mark, the rows of LangSmith's tables whose delivery is confirmed, now or before, are
    marked in its database; no other row is, and every row is looked at afterwards.

    \b
    Example:
      airgap receipt apply /media/stick
      airgap receipt apply /media/stick --mark postgresql://owner@db/langsmith
    """
    if not paths and mark is None:
        raise UsageError(
            "there is nothing to apply",
            hint="name the folder with the receipts: airgap receipt apply FOLDER",
        )
    if mark is not None and not pgurl.is_url(mark):
        raise UsageError("--mark takes the database's URL", expected="postgresql://...")
    home = on_side(home_path, "isolated")
    schemas = catalog.load()
    trust = trust_of(home, schemas, timestamps.system_clock())
    outbox = Outbox(home.outbox_path, home.name, schemas)
    try:
        done = applying.run(
            home,
            outbox,
            trust,
            schemas,
            list(paths),
            timestamps.system_clock,
            lambda one: _say_applied(out, one),
        )
        confirmed = outbox.confirmed()
        marked = {} if mark is None else mark_sent(out, outbox, mark, tables.load(schemas))
    finally:
        outbox.close()
    out.result(
        {
            "receipts": [_as_map(one) for one in done],
            "confirmed": confirmed.as_map(),
            "marked": marked,
        }
    )
    out.totals(confirmed)
    newly = sum(one.changed.get("delivered", 0) for one in done)
    out.say(
        f"Wrote {home.outbox_path}: {plural(newly, 'record')} newly confirmed, "
        f"{confirmed.records:,} in all. "
        "Next: airgap status"
    )
    failed = next((one.error for one in done if one.error is not None), None)
    if failed is not None:
        ctx.exit(failed.exit_code)


def _say_applied(out: Output, one: Applied) -> None:
    """Say what became of one receipt."""
    name = printable(str(one.path), 300)
    if one.error is not None:
        out.say(f"{name}: REFUSED")
        show_error(one.error, as_json=False)
    elif one.state == "from_before_the_restore":
        out.say(f"{name}: of a bundle made before this host was restored ({_about(one)})")
    elif one.state == "applied_before":
        out.say(f"{name}: applied before, nothing changed ({_about(one)})")
    elif one.state == "older":
        out.say(f"{name}: older than one applied before, nothing changed ({_about(one)})")
    else:
        words = ", ".join(
            f"{count:,} {state.replace('_', ' ')}" for state, count in one.changed.items() if count
        )
        if one.manifest is not None and not sum(one.manifest["outcomes"].values()):
            words = "the declaration of no usage is confirmed"
        out.say(f"{name}: {_about(one)}: {words or 'nothing new'}")


def _about(one: Applied) -> str:
    assert one.manifest is not None
    return f"bundle {one.manifest['bundle_sequence']} of {one.manifest['source']}"


def _as_map(one: Applied) -> dict[str, Any]:
    if one.error is not None:
        return {"path": str(one.path), "error": one.error.as_json()}
    assert one.manifest is not None
    return {
        "path": str(one.path),
        "receipt_id": one.receipt_id,
        "source": one.manifest["source"],
        "sequence": one.manifest["bundle_sequence"],
        "importer": one.manifest["importer"],
        "state": one.state,
        "changed": one.changed,
    }


@airgap_command("pair", audited=True)
@click.argument("other")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    help="Isolated host: file that holds the secret, instead of typing it.",
)
@click.option("--new", is_flag=True, help="Replace the secret that is there; old codes end.")
def _pair(out: Output, home_path: Path, other: str, secret_file: Path | None, *, new: bool) -> None:
    """Share a secret with the other side, once, so that codes can be typed in instead of receipts.

    On the workstation, OTHER is the source's name: the secret is made and shown. On the isolated
    host, OTHER is the workstation's name: the secret is typed in. Whoever has it can make codes.

    \b
    Example, on the workstation and then on the isolated host:
      airgap receipt pair bank-a.prod
      airgap receipt pair relay-1
    """
    home = open_home(home_path)
    path = _secret_path(home, other)
    if path.exists() and not new:
        raise UsageError(
            f"there is a secret shared with {_name(path)} already",
            where=str(path),
            hint="--new replaces it, on both sides",
        )
    if home.side == "workstation":
        secret = os.urandom(codes.SECRET_SIZE)
    elif secret_file is not None:
        text = keys.read_small(secret_file, "pairing secret").decode("ascii", "replace")
        secret = codes.secret_from_text(text)
    else:
        secret = codes.secret_from_text(_ask(f"Pairing secret that {_name(path)} showed"))
    write_atomically(path, codes.secret_text(secret).encode() + b"\n", mode=0o600)
    record("paired", other=_name(path))
    shown = codes.secret_text(secret) if home.side == "workstation" else None
    out.result({"other": _name(path), "secret": shown, "file": str(path)})
    out.say(f"Wrote {path} (mode 0600).")
    if shown is None:
        out.say(f"Codes of {_name(path)} count now. Next: airgap receipt enter BUNDLE CODE")
        return
    out.say(f"Secret: {shown}")
    out.say(f"Show it to nobody else. Next, on the isolated host: airgap receipt pair {home.name}")


@airgap_command("code")
@click.argument("source")
@click.option("--bundle", "sequence", type=click.IntRange(1), help="Only this bundle.")
@ledger_option
def _code(
    out: Output, home_path: Path, ledger: str | None, source: str, sequence: int | None
) -> None:
    """Show a code for each bundle of SOURCE that was delivered as a whole.

    A code is typed in where no receipt may come back. It says that every record of the bundle
    was delivered, and proves less than a receipt: both sides can make it, so it convinces nobody
    else, and it holds no answers.

    \b
    Example:
      airgap receipt code bank-a.prod --bundle 3
    """
    from airgap.cli import ledgers

    home = ledgers.workstation(home_path, ledger, out.warn)
    secret = _read_secret(home, source)
    shown: list[dict[str, Any]] = []
    with ledgers.looked_at(home) as opened:
        for bundle in opened.bundles(source):
            if sequence not in (None, bundle.sequence) or not opened.is_delivered(bundle):
                continue
            code = codes.code(secret, source=source, importer=home.name, bundle_id=bundle.bundle_id)
            records = opened.bundle_totals(bundle).records
            shown.append({"sequence": bundle.sequence, "records": records, "code": code})
    if not shown:
        raise UsageError(
            "no such bundle was delivered as a whole",
            where=source,
            hint="see `airgap status`; a bundle with doubt or dead letters needs a receipt",
        )
    out.result({"source": source, "codes": shown})
    out.table(
        ("bundle#", "records#", "code"),
        [(str(s["sequence"]), f"{s['records']:,}", s["code"]) for s in shown],
    )
    out.say("A code proves less than a receipt: both sides can make it.")
    out.say(
        f"Next, on the isolated host: airgap receipt enter {shown[-1]['sequence']} {shown[-1]['code']}"
    )


@airgap_command("enter", audited=True)
@click.argument("sequence", type=click.IntRange(1), metavar="BUNDLE")
@click.argument("code")
@click.option("--importer", help="Whose code it is, where several workstations are paired.")
def _enter(out: Output, home_path: Path, sequence: int, code: str, importer: str | None) -> None:
    """Confirm a whole bundle by the code that the workstation showed.

    \b
    Example:
      airgap receipt enter 3 K7QF-2MZA-XW5D-BH4T
    """
    home = on_side(home_path, "isolated")
    name = importer.lower() if importer else _only_pair(home)
    secret = _read_secret(home, name)
    outbox = Outbox(home.outbox_path, home.name, catalog.load())
    try:
        bundle = next((b for b in outbox.bundles() if b.sequence == sequence), None)
        if bundle is None or bundle.adopted:
            raise UsageError(f"this outbox made no bundle {sequence}", hint="see `airgap status`")
        codes.check_code(code, secret, source=home.name, importer=name, bundle_id=bundle.bundle_id)
        changed = confirmation.confirm_by_code(outbox, bundle, name, timestamps.system_clock())
    finally:
        outbox.close()
    record("code entered", sequence=sequence, bundle_id=bundle.bundle_id, records=changed)
    out.result({"sequence": sequence, "importer": name, "confirmed": changed})
    newly = f"{plural(changed, 'record')} newly confirmed" if changed else "confirmed"
    out.say(f"Bundle {sequence}: {newly}, by a code of {name}; a receipt would prove more.")
    out.say(f"Wrote {home.outbox_path}. Next: airgap status")


def _ask(what: str) -> str:
    try:
        return str(click.prompt(what, hide_input=True, err=True))
    except click.Abort:
        raise UsageError(
            "no pairing secret was given", hint="type it, or name a file with --secret-file"
        ) from None


def _secret_path(home: Home, other: str) -> Path:
    name = other.lower()
    if not NAME.fullmatch(name) or len(other.replace("-", "")) == 32:
        # 32 letters and digits are the secret itself, which is neither shown nor kept.
        raise UsageError(
            "this is no name of a source or workstation",
            expected="the name that the other side's `airgap init` was given",
            found=f"{len(other)} characters",
        )
    return home.folder("codes") / f"{name}.secret"


def _name(path: Path) -> str:
    return path.name.removesuffix(".secret")


def _read_secret(home: Home, other: str) -> bytes:
    path = _secret_path(home, other)
    if not path.exists():
        raise UsageError(
            f"no secret is shared with {printable(other)}",
            where=str(path),
            hint=f"airgap receipt pair {printable(other)}",
        )
    return codes.secret_from_text(
        keys.read_small(path, "pairing secret").decode("ascii", "replace")
    )


def _only_pair(home: Home) -> str:
    names = sorted(_name(path) for path in home.folder("codes").glob("*.secret"))
    if len(names) != 1:
        raise UsageError(
            "several workstations are paired" if names else "no workstation is paired",
            found=", ".join(names) or None,
            hint="name it with --importer" if names else "airgap receipt pair WORKSTATION",
        )
    return names[0]


for _command in (_apply, _pair, _code, _enter):
    command.add_command(_command)
