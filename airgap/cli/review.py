"""``airgap review``: what leaves, for a person."""

import shlex
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from airgap import catalog
from airgap.cli.common import Output, airgap_command, sealing_passphrase_option
from airgap.cli.looking import opened, signature_lines
from airgap.cli.sheets import facts_of, keep, kept_before, require_bundle, since
from airgap.errors import UsageError
from airgap.files import write_atomically
from airgap.home import open_home
from airgap.review.facts import Facts
from airgap.review.news import News, compare
from airgap.review.text import sheet
from airgap.text import printable

_FILE = click.Path(path_type=Path, dir_okay=False)
_PAGE = b"<!DOCTYPE html>"


@airgap_command("review", audited=True)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--since", "before", type=_FILE, help="The bundle before, to say what is new.")
@click.option("--html", type=_FILE, help="Write the sheet with charts, as one HTML file.")
@click.option("--slip", type=_FILE, help="Write a custody slip to print, as one HTML file.")
@sealing_passphrase_option
def command(
    out: Output,
    home_path: Path,
    bundle: Path,
    before: Path | None,
    html: Path | None,
    slip: Path | None,
    sealing_passphrase_file: Path | None,
) -> None:
    """Show what leaves in a bundle: every field, why it is there, how often, and with which values.

    What is new is said against the source's bundle before, where that was reviewed in this home or
    is named with --since. The bundle is verified first, and opened with this home's key where it is
    sealed. The text is kept in the home; its digest goes into the approval that `airgap countersign`
    makes, or with --sheet FILE the digest of the page that --html wrote. `airgap cat` shows every
    record.

    \b
    Example:
      airgap review /media/stick/bank-a.prod-000002.airgap --html review.html --slip slip.html
    """
    home = open_home(home_path)
    schemas = catalog.load()
    for path in (html, slip):
        _require_free(path)
    with opened(bundle, home_path, schemas, sealing_passphrase_file, needs_key=True) as document:
        require_bundle(document, bundle)
        facts = facts_of(document, schemas)
        signed = signature_lines(document)
    kept = (
        kept_before(home, facts)
        if before is None
        else since(before, home_path, schemas, sealing_passphrase_file, facts)
    )
    news = compare(facts, kept)
    text = sheet(facts, news)
    digest = sha256(text.encode()).hexdigest()
    keep(home, facts)
    path = home.folder("reviews") / f"{facts.bundle_id}.txt"
    write_atomically(path, text.encode(), mode=0o600)
    page_digest = None if html is None else _write_page(html, facts, news)
    if slip is not None:
        _write_slip(slip, facts)
    out.result(_result(facts, news, path, digest, html, page_digest, slip))
    out.say(*text.rstrip("\n").split("\n"))
    out.say("")
    out.say(*(f"{line}, by this home's trust store" for line in signed))
    out.say("SHA-256 of this sheet:", f"  {digest}")
    out.say(f"Wrote {path}")
    if html is not None:
        out.say(f"Wrote {html}, with the SHA-256:", f"  {page_digest}")
    if slip is not None:
        out.say(f"Wrote {slip}: print it, one page of A4")
    read = "" if html is None else f" --sheet {shlex.quote(str(html))}"
    out.say(
        f"Next: airgap countersign {shlex.quote(str(bundle))}{read}, "
        "or with --deny --reason TEXT to stop it"
    )


def _require_free(path: Path | None) -> None:
    """Check that a page is written over nothing but a page.

    Raises:
        UsageError: another file is there.
    """
    if path is None or not path.exists():
        return
    with path.open("rb") as file:
        if file.read(len(_PAGE)) not in (_PAGE, b""):
            raise UsageError(
                "another file is there, and it is no page",
                where=printable(str(path), 300),
                expected="a new name, or a page that this command wrote before",
                hint="choose another name",
            )


def _write_page(path: Path, facts: Facts, news: News) -> str:
    from airgap.review.html import page

    made = page(facts, news)
    write_atomically(path, made, mode=0o644)
    return sha256(made).hexdigest()


def _write_slip(path: Path, facts: Facts) -> None:
    from airgap.review import slip
    from airgap.trust import spoken

    words, modules, lacking = None, None, ""
    try:
        words = spoken.words(facts.bundle_id)
        modules = spoken.qr_modules(facts.bundle_id)
    except UsageError as error:
        lacking = f"Words and QR code are left out: {error.message}. To have them: {error.hint}."
    write_atomically(path, slip.page(facts, words, modules, lacking), mode=0o644)


def _result(
    facts: Facts,
    news: News,
    path: Path,
    digest: str,
    html: Path | None,
    page_digest: str | None,
    slip: Path | None,
) -> dict[str, Any]:
    manifest = facts.manifest
    return {
        "bundle_id": facts.bundle_id,
        "source": manifest["source"],
        "sequence": manifest["sequence"],
        "period": manifest["period"],
        "records": manifest["records"],
        "totals": manifest["totals"],
        "credentials": manifest["credentials"],
        "allowed": manifest["allowed"],
        "pseudonymised": manifest["pseudonymised"],
        "no_usage": manifest["no_usage"],
        "look_first": list(facts.first_looks),
        "coverage": [one.as_json() for one in facts.coverage],
        "compared_with": None
        if news.since is None
        else {"bundle_id": news.since_id, "sequence": news.since},
        "new": {
            name: list(lines)
            for name, (_, lines) in zip(
                ("kinds", "fields", "texts", "credentials", "allowed"), news.groups, strict=False
            )
        },
        "fields": {
            kind.name: {
                one.path: {
                    "count": one.tally.count,
                    "different": len(one.tally.values),
                    "more": bool(one.tally.others),
                    "known": one.known,
                    "pseudonym": one.pseudonym,
                    "any_text": one.any_text,
                    "example": one.tally.example,
                    "range": None if one.tally.range is None else list(one.tally.range),
                }
                for one in kind.fields
            }
            for kind in facts.kinds
        },
        "sheet": str(path),
        "sheet_sha256": digest,
        "html": None if html is None else str(html),
        "html_sha256": page_digest,
        "slip": None if slip is None else str(slip),
    }
