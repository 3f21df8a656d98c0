"""The workstation's way to the beacon: its settings, and only when asked for, whether hosts answer."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from airgap import timestamps
from airgap.doctor.findings import Finding, not_checked, ok, warning, wrong
from airgap.doctor.scene import Connection, Scene
from airgap.errors import UsageError
from airgap.findings import AHEAD
from airgap.replay import network, probe
from airgap.replay.probe import Authority, Reached, Stage, Unreached
from airgap.replay.requests import check_base
from airgap.text import plural, printable
from airgap.trust.store import SOON

_MOST_OWN = 8
"""Most authorities of a file that a site made; in larger ones of a system, some have always expired."""
_AUTHORITY = (
    "ask who runs this network for its certificate authority as a PEM file, and name it: "
    "--ca-file FILE, or ca_file in airgap.toml under [import]"
)
_PROXY = "correct HTTPS_PROXY, or ask who runs the proxy; NO_PROXY names hosts that need none"
_CURES: Mapping[Stage, str] = {
    "name": "check the name, and the DNS of this machine: getent hosts NAME; where only a proxy resolves "
    "names, set HTTPS_PROXY",
    "refused": "nothing listens there, or a firewall refuses: ask who runs this network to let HTTPS "
    "out to this host, or for the proxy to set in HTTPS_PROXY",
    "route": "this machine has no way there: check its network and default route, or set HTTPS_PROXY",
    "timeout": "a firewall may drop it: ask who runs this network to let HTTPS out to this host, or for "
    "the proxy to set in HTTPS_PROXY; --timeout waits longer",
    "certificate name": "another machine answers in its place, or the base URL is not the host's name: "
    "correct the URL; a proxy that opens TLS must put the host's name into its certificates",
    "authority": _AUTHORITY,
    "expired": "set the clock right if it is ahead; else the host, or a proxy that opens TLS, "
    "needs a new certificate: tell who runs it",
    "not yet valid": "set the clock right if it is behind; else tell who runs the host or proxy",
    "tls": "what answers there speaks no TLS, or none that this machine accepts: check host, port and "
    "scheme, of the proxy in HTTPS_PROXY as well (most are http://)",
    "proxy login": "put user and password into HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT), "
    "in a file that only airgap's user reads",
    "proxy": "the proxy does not let this host through: ask who runs it to allow HTTPS to it",
    "answer": "what answers there speaks no HTTP, or cuts the connection: check host and port, and that "
    "no firewall cuts it off",
}
_SAID: Mapping[Stage, str] = {
    "name": "its name can't be resolved",
    "refused": "the connection is refused",
    "route": "there is no route to it",
    "timeout": "it does not answer in time",
    "certificate name": "the certificate there is for another name",
    "authority": "an authority that this machine does not know signed the certificate there",
    "expired": "the certificate there has expired",
    "not yet valid": "the certificate there is not valid yet, by this machine's clock",
    "tls": "no TLS connection came about",
    "proxy login": "the proxy demands a login (407)",
    "proxy": "the proxy refuses",
    "answer": "the connection broke without an answer",
}


def look(scene: Scene, connection: Connection) -> Iterator[Finding]:
    """Look at the settings, and where that was asked for at the hosts."""
    yield ok("network.client", probe.library())
    try:
        found = scene.effective(("import",), connection.profile)
    except UsageError as error:
        yield _no_urls(error)
        return
    set_ = {one.name: str(one.value) for one in found}
    ca_file = connection.ca_file or (Path(set_["ca_file"]) if "ca_file" in set_ else None)
    usable = True
    for finding in (*proxy(scene.environment), *certificates(ca_file, scene.now)):
        usable = usable and finding.state != "wrong"
        yield finding
    bases: dict[str, str] = {}
    for name, documented in scene.catalog.bases.items():
        chosen = connection.urls.get(name) or set_.get(f"{name}_url") or documented
        try:
            bases[name] = check_base(chosen)
        except UsageError as error:
            cure = f"correct --{name}-url, AIRGAP_{name.upper()}_URL, or {name}_url in airgap.toml"
            yield _no_urls(error, cure)
        else:
            yield ok("network.urls", f"{name}: {bases[name]}")
    if not connection.probe:
        yield not_checked(
            "network.reachable", "nothing was sent; --probe asks whether hosts answer"
        )
        return
    if not usable:
        yield not_checked("network.reachable", "nothing was sent: the settings can't be used")
        return
    for url in dict.fromkeys(bases.values()):
        before = connection.clock()
        answer = probe.probe(url, timeout=connection.timeout, ca_file=ca_file)
        after = connection.clock()
        yield reachable(url, answer)
        if isinstance(answer, Reached):
            yield clock(url, answer.date, before, after)


def _no_urls(error: UsageError, cure: str | None = None) -> Finding:
    return wrong(
        "network.urls",
        error.message + (f": {error.found}" if error.found else ""),
        where=error.where,
        expected=error.expected,
        cure=cure or error.hint,
    )


def proxy(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the proxy variables."""
    found = probe.proxies(environment)
    shown = ", ".join(f"{name}={value}" for name, value in found.items())
    try:
        network.check_proxies()
    except UsageError as error:
        yield wrong(
            "network.proxy",
            printable(error.message, 300),
            where=shown or None,
            expected="http://HOST:PORT, or no variable",
            cure="correct the variable; a password's special characters are written as %40 and the like",
        )
    else:
        yield ok("network.proxy", shown or "no proxy is set")


def certificates(ca_file: Path | None, now: datetime) -> Iterator[Finding]:
    """Judge the certificate authorities."""
    try:
        chosen, found, others = probe.authorities(ca_file)
    except UsageError as error:
        yield wrong(
            "network.authorities",
            error.message,
            where=error.where,
            expected=error.expected,
            cure="correct --ca-file, ca_file in airgap.toml, SSL_CERT_FILE or REQUESTS_CA_BUNDLE",
        )
        return
    if chosen is None:
        said = plural(len(found), "authority", "authorities") + " of the system"
        yield ok("network.authorities", said if found else "those that Python's certifi brings")
        return
    yield authority_file(chosen, found, others, now)


def authority_file(chosen: str, found: list[Authority], others: int, now: datetime) -> Finding:
    """Judge the authorities of a file that the site chose."""
    over = [one for one in found if one.ends <= now]
    soon = [one for one in found if now < one.ends <= now + SOON]
    if not found or len(over) == len(found):
        return wrong(
            "network.authorities",
            f"{over[0].name} expired at {timestamps.to_text(over[0].ends)}"
            if over
            else f"the file holds no authority's certificate, but {plural(others, 'other')}",
            where=chosen,
            expected="the certificate of the authority that signs for the hosts or the proxy, in its time",
            cure=_AUTHORITY,
        )
    if (over or soon) and len(found) <= _MOST_OWN:
        first = (over or soon)[0]
        return warning(
            "network.authorities",
            f"{first.name} {'expired' if over else 'expires'} at {timestamps.to_text(first.ends)}, "
            f"one of {plural(len(found), 'authority', 'authorities')}",
            where=chosen,
            cure="ask who runs this network for the authority that follows it, and put it into the file",
        )
    said = plural(len(found), "authority", "authorities")
    return ok("network.authorities", said + (f", {len(over)} expired" if over else ""), chosen)


def reachable(url: str, answer: Reached | Unreached) -> Finding:
    """Judge what came of asking a host. Every answer counts that could be the host's own."""
    through = f" through {answer.proxy}" if answer.proxy else ""
    if isinstance(answer, Unreached):
        by_proxy = answer.proxy is not None and answer.stage in ("name", "refused", "route")
        return wrong(
            "network.reachable",
            f"the proxy {answer.proxy} can't be reached: {answer.said}"
            if by_proxy
            else f"{_SAID[answer.stage]}{through} ({answer.said})",
            where=url,
            expected="an answer",
            cure=_PROXY if by_proxy else _CURES[answer.stage],
        )
    if answer.status == 407:
        return wrong(
            "network.reachable",
            f"{_SAID['proxy login']}{through}",
            where=url,
            expected="an answer of the host",
            cure=_CURES["proxy login"],
        )
    if answer.elsewhere or answer.status == 511:
        return wrong(
            "network.reachable",
            f"answered {answer.status}{through}"
            + (f", and sends on to {answer.elsewhere}" if answer.elsewhere else ", log in first"),
            where=url,
            expected="an answer of the host itself; redirections are never followed",
            cure="log in to this network first, or ask for a way that needs no login page",
        )
    if answer.is_page:
        return warning(
            "network.reachable",
            f"answered {answer.status}{through} with a web page",
            where=url,
            expected="an answer of the host itself",
            cure="look at it in a browser: a login page of this network stands in the way of an import; "
            "the host's own page does not",
        )
    return ok("network.reachable", f"answered {answer.status}{through}; nothing was reported", url)


def clock(url: str, date: datetime | None, before: datetime, after: datetime) -> Finding:
    """Judge this machine's clock by the Date of an answer that came between two moments."""
    if date is None:
        return not_checked("clock.beacon", "the answer has no Date", url)
    if before - AHEAD <= date <= after + AHEAD:
        return ok("clock.beacon", f"the answer's Date is {timestamps.to_text(date)}", url)
    off = before - date
    return wrong(
        "clock.beacon",
        f"the clock is {_about(abs(off.total_seconds()))} {'ahead' if off.total_seconds() > 0 else 'behind'}"
        f": the answer's Date is {timestamps.to_text(date)}",
        where=url,
        expected=f"a clock within {int(AHEAD.total_seconds() // 60)} minutes of it",
        cure="set the clock right (timedatectl, chrony): receipts are dated by it",
    )


def _about(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600)):
        if seconds >= 1.5 * length:
            return plural(round(seconds / length), unit)
    return plural(round(seconds / 60), "minute")
