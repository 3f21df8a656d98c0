"""Run the capture endpoint in the foreground, until a signal ends it."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from airgap.capture import systemd
from airgap.capture.door import Door
from airgap.capture.keeping import Keeper
from airgap.capture.server import serve
from airgap.errors import UsageError
from airgap.outbox import Outbox
from airgap.timestamps import Clock


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where it listens: address, port, and for HTTPS the files of certificate chain and key."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


@contextlib.contextmanager
def kept(open_outbox: Callable[[], Outbox], clock: Clock) -> Iterator[Keeper]:
    """Provide a keeper; at the end it keeps what it was asked to, and closes the outbox.

    Raises:
        AirgapError: the outbox can't be opened.
    """
    keeper = Keeper(open_outbox, clock)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()


def run(door: Door, endpoint: Endpoint, ready: Callable[[list[str]], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        door: answers.
        endpoint: where; sockets that systemd has handed over come first.
        ready: told the URLs.

    Raises:
        UsageError: the address or the certificate can't be used.
    """
    context = _context(endpoint)
    sockets = systemd.listening()

    def tell(urls: list[str]) -> None:
        systemd.notify(systemd.READY)
        ready(urls)

    async def main() -> None:
        stop = asyncio.Event()

        def end() -> None:
            systemd.notify(systemd.STOPPING)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end)
        await serve(
            door,
            host=endpoint.host,
            port=endpoint.port,
            sockets=sockets,
            tls=context,
            stop=stop,
            ready=tell,
            health=door.health,
        )

    asyncio.run(main())


def _context(endpoint: Endpoint) -> ssl.SSLContext | None:
    if endpoint.certificate is None or endpoint.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a callback OpenSSL would ask on the terminal for a key's passphrase.
        context.load_cert_chain(endpoint.certificate, endpoint.key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"certificate and key can't be used: {getattr(error, 'reason', None) or error}",
            where=f"{endpoint.certificate}, {endpoint.key}",
            expected="a certificate chain and its key without a passphrase, both PEM",
            hint="check both paths: --tls-certificate FILE and --tls-key FILE",
        ) from None
    return context
