"""``airgap capture``."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import click

from airgap import catalog, timestamps
from airgap.audit import record
from airgap.cli.common import (
    Output,
    airgap_command,
    credential_options,
    on_side,
)
from airgap.cli.leaving import leaving_options, rules_of
from airgap.cli.types import Listen
from airgap.collect import otlp, pseudonyms
from airgap.credentials import read_secret_file
from airgap.errors import UsageError
from airgap.outbox import Outbox
from airgap.text import plural

_SHORTEST_TOKEN = 16


@airgap_command("capture", audited=True)
@click.option(
    "--listen",
    type=Listen(),
    default="127.0.0.1:8787",
    show_default=True,
    help="Address and port; 0.0.0.0 is every IPv4 address, port 0 a free one.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="KIND",
    help="Take otlp_traces or otlp_logs as well: they may hold what a run worked on.",
)
@click.option(
    "--log-attribute", multiple=True, metavar="NAME", help="An attribute of logs that may leave."
)
@click.option(
    "--log-template",
    multiple=True,
    metavar="TEXT",
    help="A log's text that may leave; {} stands for what is left out.",
)
@leaving_options
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with a token that each request must show: first in its path, or as a bearer token.",
)
@click.option("--tls-certificate", type=click.Path(path_type=Path), help="Serve HTTPS with this.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The certificate's private key.")
@credential_options
def command(
    out: Output,
    home_path: Path,
    listen: tuple[str, int],
    accept: tuple[str, ...],
    log_attribute: tuple[str, ...],
    log_template: tuple[str, ...],
    allow: tuple[str, ...],
    pseudonymise: tuple[str, ...],
    token_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    license_file: tuple[Path, ...],
    api_key_file: tuple[Path, ...],
) -> None:
    """Receive what LangGraph servers and LangSmith report, and keep it in the outbox.

    Answers as the beacon does, once a report is on disk. Point a server here with
    LANGSMITH_AUTH_ENDPOINT=http://HOST:PORT, LANGSMITH_CONTROL_PLANE_API_KEY and
    LANGSMITH_TRACING=false. Keys in requests become fingerprints; whatever is no usage report is
    refused unread. What a server counted after its last report is lost when it stops, so captured
    usage is a lower bound.

    Runs until SIGTERM or Ctrl-C; systemd's socket activation and readiness are understood.

    \b
    Example:
      airgap capture --listen 127.0.0.1:8787
    """
    running, door_module = _library()
    home = on_side(home_path, "isolated")
    schemas = catalog.load()
    if (tls_certificate is None) != (tls_key is None):
        raise UsageError("--tls-certificate and --tls-key go together")
    asked = [kind.name for kind in schemas.kinds.values() if kind.capture == "asked"]
    if not set(accept) <= set(asked):
        raise UsageError("--accept names no kind that can be asked for", expected=", ".join(asked))
    if (log_attribute or log_template) and "otlp_logs" not in accept:
        raise UsageError("--log-attribute and --log-template go with --accept otlp_logs")
    site = door_module.Site(
        kinds=frozenset(
            k.name for k in schemas.kinds.values() if k.capture == "always" or k.name in accept
        ),
        rules=rules_of(allow, license_file, api_key_file),
        logs=otlp.LogPolicy(frozenset(log_attribute), log_template)
        if "otlp_logs" in accept
        else None,
        pseudonyms=pseudonyms.of_home(pseudonymise, home, schemas),
        token=_token(token_file, schemas),
    )
    endpoint = running.Endpoint(*listen, tls_certificate, tls_key)
    _warn_of(out, listen[0], secure=tls_key is not None, token=site.token)
    with running.kept(
        lambda: Outbox(home.outbox_path, home.name, schemas), timestamps.system_clock
    ) as keeper:
        door = door_module.Door(schemas, site, keeper, out.warn)
        running.run(door, endpoint, partial(_ready, out))
    _finish(out, door.count)


def _library() -> tuple[Any, Any]:
    """Return what needs the network; not loaded for ``--help``.

    Raises:
        UsageError: h11 is not installed.
    """
    try:
        from airgap.capture import door, running
    except ModuleNotFoundError as error:
        if error.name != "h11":
            raise
        raise UsageError(
            f"the capture endpoint needs h11: {error}",
            hint="install the extra: pip install 'airgap[capture]', or requirements-sources.lock",
        ) from None
    return running, door


def _ready(out: Output, urls: list[str]) -> None:
    """Say where the endpoint listens, once it does."""
    for url in urls:
        click.echo(f"Listening on {url}", err=out.as_json)


def _token(path: Path | None, schemas: catalog.Catalog) -> str | None:
    if path is None:
        return None
    token = read_secret_file(str(path), kind="token")
    if any(pattern.search(token.encode()) for pattern in schemas.credential_patterns.values()):
        raise UsageError(
            "this is a licence or API key, and would stand in URLs as a token",
            where=str(path),
            expected="a token of its own",
            hint="make one, for instance with: openssl rand -hex 24",
        )
    if len(token) < _SHORTEST_TOKEN or not re.fullmatch(r"[A-Za-z0-9._~-]+", token):
        raise UsageError(
            "the token is not one that can stand in a path",
            where=str(path),
            expected=f"{_SHORTEST_TOKEN} or more letters, digits, dots, hyphens, underscores, tildes",
            found="something else (not shown)",
            hint="make one, for instance with: openssl rand -hex 24",
        )
    return token


def _warn_of(out: Output, host: str, *, secure: bool, token: str | None) -> None:
    """Say what is open that perhaps should not be."""
    if host in ("localhost", "::1") or host.startswith("127."):
        return
    if not secure:
        out.warn(
            "keys of servers come over the network in the clear: --tls-certificate and --tls-key"
        )
    if token is None:
        out.warn("whoever reaches this address can report usage: --token-file")


def _finish(out: Output, count: Any) -> None:
    """Say what came; ``count`` is the door's."""
    totals: dict[str, Any] = {
        "kept": dict(sorted(count.kept.items())),
        "known": count.known,
        "replaced": count.replaced,
        "refused": dict(count.refused.most_common(20)),
    }
    record("captured", **totals)
    out.result(totals)
    kept = sum(count.kept.values())
    out.say(
        f"Kept {plural(kept, 'report')}; {count.replaced:,} stand in the place of earlier ones, "
        f"{count.known:,} were known, {plural(sum(count.refused.values()), 'request')} refused. "
        "Next: airgap export --to FOLDER"
    )
