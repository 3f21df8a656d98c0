"""``airgap rehearse``."""

import signal
import threading

import click

from airgap import catalog
from airgap.cli.common import Output, airgap_command
from airgap.errors import UsageError
from airgap.text import plural


@airgap_command("rehearse", home=False)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8321,
    show_default=True,
    help="0 takes a free one.",
)
def command(out: Output, port: int) -> None:
    """Run a beacon on this machine that checks every request and answers as documented.

    It listens on 127.0.0.1 only, keeps nothing, and is not LangChain's. Ctrl-C ends it and
    prints what it counted.

    \b
    Example, in one terminal and in another:
      airgap rehearse
      airgap import /media/stick --beacon-url http://127.0.0.1:8321 --api-url http://127.0.0.1:8321
    """
    from airgap.replay.rehearsal import RehearsalBeacon, Seen

    def show(seen: Seen) -> None:
        what = f"{seen.kind}, {plural(seen.records, 'record')}" if seen.kind else seen.note
        out.say(f"{seen.status} POST {seen.path}  {what}")

    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        beacon = RehearsalBeacon(catalog.load(), port=port, on_request=show)
    except OSError as error:
        raise UsageError(
            f"port {port} can't be used: {error.strerror}", hint="choose another with --port, or 0"
        ) from None
    with beacon:
        out.say(f"Rehearsal beacon on {beacon.url}; Ctrl-C ends it.")
        out.say(f"Next: airgap import FOLDER --beacon-url {beacon.url} --api-url {beacon.url}")
        done.wait()
    out.result(
        {
            "url": beacon.url,
            "requests": {str(status): count for status, count in sorted(beacon.requests.items())},
            "totals": beacon.totals.as_map(),
        }
    )
    out.totals(beacon.totals)
    out.say(f"{plural(sum(beacon.requests.values()), 'request')}. Nothing was written.")
