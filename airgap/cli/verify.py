"""``airgap verify``."""

from pathlib import Path
from typing import Any

import click

from airgap import catalog, media
from airgap.cli.common import Output, airgap_command, show_error
from airgap.cli.looking import opened, signature_lines
from airgap.cli.trusting import approvals_beside
from airgap.errors import AirgapError
from airgap.home import open_home
from airgap.text import plural

_SUFFIXES = (".airgap", ".receipt")


@airgap_command("verify")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@click.pass_context
def command(ctx: click.Context, out: Output, home_path: Path, paths: tuple[Path, ...]) -> None:
    """Check bundles and receipts fully, by this home's trust store, and act on nothing.

    Each is copied to quarantine and checked as an import would, with the approvals that lie
    beside it. Of several, each is checked; the exit status is the first failure's.

    \b
    Example:
      airgap verify /media/stick
    """
    schemas = catalog.load()
    failed: AirgapError | None = None
    results: list[dict[str, Any]] = []
    found = media.files(list(paths), _SUFFIXES)
    approvals = approvals_beside(open_home(home_path), schemas, paths, out.warn)
    for path in found:
        try:
            with opened(path, home_path, schemas, approvals=approvals) as document:
                results.append({"path": str(path), "ok": True, **document.describe()})
                out.say(f"{path}: verified, {plural(document.manifest['records'], 'record')}")
                for line in signature_lines(document):
                    out.say(f"  {line}")
                for warning in document.warnings:
                    out.warn(warning)
        except AirgapError as error:
            failed = failed or error
            results.append({"path": str(path), "ok": False, **error.as_json()})
            out.say(f"{path}: REFUSED")
            show_error(error, as_json=False)
    out.result({"files": results})
    good = sum(1 for r in results if r["ok"])
    out.say(f"{good} of {plural(len(results), 'file')} verified. Nothing was written.")
    if failed is not None:
        ctx.exit(failed.exit_code)
