"""``airgap verify``."""

from pathlib import Path
from typing import Any

import click

from airgap import catalog
from airgap.arrivals import approvals_beside, files_to_read
from airgap.cli.common import Output, airgap_command, sealing_passphrase_option, show_error
from airgap.cli.looking import Document, opened, sealing_lines, signature_lines
from airgap.errors import AirgapError
from airgap.home import open_home
from airgap.text import plural, printable

_SUFFIXES = (".airgap", ".receipt")


@airgap_command("verify")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@click.option(
    "--digests-only",
    is_flag=True,
    help="Check signatures, approvals and digests, and look into no record. Quick, and no verification.",
)
@sealing_passphrase_option
@click.pass_context
def command(
    ctx: click.Context,
    out: Output,
    home_path: Path,
    paths: tuple[Path, ...],
    *,
    digests_only: bool,
    sealing_passphrase_file: Path | None,
) -> None:
    """Check bundles and receipts fully, by this home's trust store, and act on nothing.

    Each is copied to quarantine and checked as an import would, with the approvals that lie
    beside it. Of several, each is checked; the exit status is the first failure's. A sealed bundle
    that this home has no key for is verified as far as it can be without opening: signatures,
    approvals, digests, and what the manifest says of itself.

    With --digests-only no file is verified: it is read where it lies, in a fraction of the time, and
    whether its records are what the manifest says stays open. An import checks everything all the same.

    \b
    Example:
      airgap verify /media/stick
    """
    schemas = catalog.load()
    failed: AirgapError | None = None
    results: list[dict[str, Any]] = []
    found = files_to_read(paths, _SUFFIXES)
    approvals = approvals_beside(open_home(home_path), schemas, paths, out.warn)
    for path in found:
        shown = printable(str(path), 300)
        try:
            with opened(
                path,
                home_path,
                schemas,
                sealing_passphrase_file,
                approvals=approvals,
                digests_only=digests_only,
            ) as document:
                results.append(
                    {
                        "path": str(path),
                        "ok": True,
                        "digests_only": digests_only,
                        **document.describe(),
                    }
                )
                out.say(f"{shown}: {_said(document)}")
                for line in (*signature_lines(document), *sealing_lines(document)):
                    out.say(f"  {line}")
                for warning in document.warnings:
                    out.warn(warning)
        except AirgapError as error:
            failed = failed or error
            results.append({"path": str(path), "ok": False, **error.as_json()})
            out.say(f"{shown}: REFUSED")
            show_error(error, as_json=False)
    out.result({"files": results})
    good = sum(1 for r in results if r["ok"])
    of = f"{good} of {plural(len(results), 'file')}"
    out.say(
        f"{of} with right signatures and digests. No record was looked into, nothing was written."
        if digests_only
        else f"{of} verified. Nothing was written."
    )
    if failed is not None:
        ctx.exit(failed.exit_code)


def _said(document: Document) -> str:
    records = plural(document.manifest["records"], "record")
    if not document.is_read:
        return f"signatures and digests are right; NOT LOOKED INTO: {records}, as the signer says"
    how = "" if document.is_open else " as far as it can be without opening"
    return f"verified{how}, {records}"
