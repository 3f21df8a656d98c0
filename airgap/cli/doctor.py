"""``airgap doctor``."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from airgap import __version__, catalog, mounts, timestamps
from airgap.cli import completing
from airgap.cli.common import Output, airgap_command
from airgap.doctor.findings import CHECKS, GROUPS, Finding, counts, exit_code
from airgap.doctor.running import examine
from airgap.doctor.scene import Connection, Scene
from airgap.errors import AirgapError, UsageError
from airgap.home import Home, open_home
from airgap.text import plural, printable, wrapped

_WIDTH = 80


@airgap_command("doctor", configured=False)
@click.option("--list", "list_", is_flag=True, help="Say what is checked, and check nothing.")
@click.option("--strict", is_flag=True, help="Warnings count for the exit status too.")
@click.option(
    "--deep", is_flag=True, help="Also every index, every audit line, every installed file."
)
@click.option(
    "--probe", is_flag=True, help="Workstation only: ask whether the beacon's hosts answer."
)
@click.option("--beacon-url", help="Base URL of the beacon; default: as airgap import has it.")
@click.option("--api-url", help="Base URL of the API; default: as airgap import has it.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    help="Certificate authorities, PEM; default: as airgap import has it.",
)
@click.option(
    "--profile",
    metavar="NAME",
    shell_complete=completing.profiles,
    help="Where the beacon is and how it is reached: us, eu, or one of airgap.toml.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Seconds to wait for each host.",
)
def command(
    out: Output,
    home_path: Path,
    beacon_url: str | None,
    api_url: str | None,
    ca_file: Path | None,
    profile: str | None,
    timeout: float,
    *,
    list_: bool,
    strict: bool,
    deep: bool,
    probe: bool,
) -> None:
    """Examine the home and this machine; each finding with its cure. Nothing is changed.

    Home, permissions, databases, keys, trust store, clock, media, credential files, and on the
    workstation proxy and certificate authorities. Works on a broken home, and without one. URLs, proxy
    and authorities are those that airgap import would use. doctor itself takes no
    defaults from airgap.toml, since that may be what is broken.

    With --probe, one request leaves to each of the two base URLs (beacon.langchain.com and
    api.smith.langchain.com, where nothing else is configured), through the proxy if one is set: after
    a TLS handshake `HEAD /` with the headers Host, User-Agent: airgap/VERSION, Accept: */* and
    Connection: close. No key, no body, no usage; any answer will do. A ledger on a server is connected
    to, and left as it is. Without --probe nothing is sent, and on the isolated side --probe is refused.

    The exit status is that of the gravest finding, 0 where nothing is wrong; in this order: 5
    damaged, 4 trust, keys, permissions, 9 clock or old ledger, 8 disk or medium, 7 a host does not
    answer, 2 configuration or versions, 1 a check broke.

    \b
    Example:
      airgap doctor
      airgap doctor --probe --ca-file /etc/ssl/site-ca.pem
    """
    if list_:
        _list(out)
        return
    home = _home(home_path)
    if probe and (home is None or home.side != "workstation"):
        raise UsageError(
            "--probe is for the workstation: the isolated side opens no connection",
            where=str(home_path),
            expected="a workstation's home",
            found="the isolated side's" if home else "no home that says so",
            hint="run it without --probe, or name the workstation's home with --home",
        )
    scene = Scene(
        home_path,
        home,
        catalog.load(),
        timestamps.system_clock(),
        os.environ,
        os.getuid(),
        mounts.read(),
        deep,
    )
    urls = {"beacon": beacon_url, "api": api_url}
    connection = Connection(urls, ca_file, profile, timeout, probe, timestamps.system_clock)
    found = examine(scene, connection if scene.is_workstation else None)
    code = exit_code(found, strict=strict)
    out.result(
        {
            "version": __version__,
            "home": str(home_path),
            "side": home.side if home else None,
            "name": home.name if home else None,
            "at": timestamps.to_text(scene.now),
            "deep": deep,
            "probed": probe,
            "strict": strict,
            "findings": [one.as_json() for one in found],
            "counts": {state.replace(" ", "_"): n for state, n in counts(found).items()},
            "exit_code": code,
        }
    )
    _show(out, found, code, strict=strict)
    click.get_current_context().exit(code)


def _home(path: Path) -> Home | None:
    """Return the home, or None where there is none that can be read; the checks say why."""
    try:
        return open_home(path).with_ledger(os.environ.get("AIRGAP_LEDGER"))
    except (AirgapError, OSError):
        return None


def _show(out: Output, found: list[Finding], code: int, *, strict: bool) -> None:
    if out.quiet:
        states = ("wrong", "warning") if strict else ("wrong",)
        for line in _lines([one for one in found if one.state in states], named=True):
            click.echo(line, err=out.as_json)
        return
    for group, heading in GROUPS.items():
        here = [one for one in found if one.group == group]
        if here:
            out.say("", heading)
            for line in _lines(here):
                out.say(line)
    number = counts(found)
    said = [f"{number[state]} {state}" for state in ("wrong", "ok", "not checked")]
    said.insert(1, plural(number["warning"], "warning"))
    out.say()
    if code:
        states = ("wrong", "warning") if strict else ("wrong",)
        first = next(one.id for one in found if one.exit_code == code and one.state in states)
        out.say(f"Begin with {first}.")
    status = f"Exit status {code}" if code else "Nothing is wrong"
    out.say(f"{', '.join(said)}. {status}.")


def _lines(found: Iterable[Finding], *, named: bool = False) -> Iterator[str]:
    """Yield what people read: the state in words, what is there, and right below it the cure.

    Args:
        found: the findings.
        named: whether lines say who speaks, as where only what is wrong is printed.
    """
    width = min(shutil.get_terminal_size((_WIDTH, 24)).columns, 120) if _is_terminal() else _WIDTH
    for one in found:
        lead = f"airgap doctor: {one.state}: " if named else f"  {one.state:<12} "
        yield from _wrapped(lead, f"{one.id}: {one.found}", width)
        parts = [("where", one.where)]
        if one.state in ("wrong", "warning"):
            parts += [("expected", one.expected), ("cure", one.cure)]
        for label, text in parts:
            if text:
                yield from _wrapped(f"{'':15}{label + ':':<10}", text, width)


def _wrapped(lead: str, text: str, width: int) -> list[str]:
    """Return lines no wider than the terminal, but for what has no blank, such as paths."""
    return wrapped(printable(text, 10_000), width, lead, " " * len(lead), break_long=False)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _list(out: Output) -> None:
    """Print the table of checks."""
    out.result(
        {
            "checks": [
                {"id": name, "title": check.title, "exit_code": check.exit_code}
                for name, check in CHECKS.items()
            ]
        }
    )
    out.table(
        ("check", "what is looked at", "exit#"),
        [(name, check.title, str(check.exit_code)) for name, check in CHECKS.items()],
    )
    out.say(f"{plural(len(CHECKS), 'check')}. Next: airgap doctor")
