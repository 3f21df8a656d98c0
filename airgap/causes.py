"""Why a record is not delivered, and what cures that: one table, for import and for status.

A record's state, the status of the answer and the reason that the ledger keeps (a receipt carries
the same three) choose the first row of ``CAUSES`` that fits. Records of one row with the same
words, but for numbers and ids in them, stand together in one group.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airgap.catalog import Catalog, Kind
from airgap.records import KindTotal, Totals
from airgap.text import printable

STATES = ("dead", "in_doubt", "waiting")
"""The states of what is not delivered, the most urgent first."""

_MOST_GROUPS = 40
_MOST_IDS = 3
_VARIES = re.compile(r"[0-9a-fA-F]{8}[0-9a-fA-F-]*|\d+")
_REFUSED = re.compile(r"answered \d+: refused for good(?:: (?P<said>.*))?", re.DOTALL)
_SENT_OUT = "was sent, and no answer came"
ASK = (
    "ask LangChain whether it was counted (each id went along as Idempotency-Key), then: "
    "airgap ledger resolve ID --delivered --reason TEXT, or --resend in place of --delivered"
)
"""What settles a record that is in doubt."""

_RETRY = "airgap ledger deadletter retry ID|all --reason TEXT, and airgap import --resume"
_RESUME = "with the same options: airgap import --resume"
_ANY: frozenset[int | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Cause:
    """One row: what happened, and what to do about it.

    Args:
        code: names the cause, for machines.
        states: the record's states that it is about.
        statuses: HTTP statuses that it is about, None for no answer; empty for any.
        reason: matched at the beginning of the reason, in any case; what it calls ``said`` are the
            beacon's words.
        title: what happened, for people.
        cure: what to do, on the workstation.
    """

    code: str
    states: tuple[str, ...]
    statuses: frozenset[int | None]
    reason: re.Pattern[str]
    title: str
    cure: str

    def fits(self, state: str, status: int | None, reason: str) -> bool:
        """Tell whether the row is about a record."""
        return (
            state in self.states
            and (not self.statuses or status in self.statuses)
            and self.reason.match(reason) is not None
        )


def _row(
    code: str,
    states: str,
    title: str,
    cure: str,
    *,
    status: Iterable[int | None] = _ANY,
    reason: str = "",
) -> Cause:
    pattern = re.compile(reason, re.IGNORECASE | re.DOTALL)
    return Cause(code, tuple(states.split()), frozenset(status), pattern, title, cure)


CAUSES: tuple[Cause, ...] = (
    # Dead letters: refused for good, or never to be sent.
    _row(
        "other-content",
        "dead",
        "another content came under the id of a record that is there",
        "neither sent nor counted: find out at the source which of the two is right; what is put "
        "right there has an id of its own, or is told to LangChain by hand",
        reason="another content",
    ),
    _row(
        "cannot-be-sent",
        "dead",
        "no request can be made of the record",
        "put it right at its source, collect it there, and it comes in another bundle; a key that "
        "was missing: give it with --license-file or --api-key-file, then " + _RETRY,
        reason="can't be sent",
    ),
    _row(
        "proxy-login",
        "dead",
        "a proxy demands a login",
        "give the proxy's name and password in HTTPS_PROXY, then " + _RETRY,
        status=[407],
    ),
    _row(
        "credential-refused",
        "dead",
        "the beacon refuses the licence or API key",
        "have LangChain check the key: expired, revoked, or of another region (--api-url); with a "
        "valid one in --license-file or --api-key-file: " + _RETRY,
        status=[401, 403],
    ),
    _row(
        "body-refused",
        "dead",
        "the beacon refuses what the record says",
        "read its words. A licence that has ended: have it renewed. A form that it does not know: "
        "choose another with --dialect. Then "
        + _RETRY
        + ". A value that is wrong: put it right at "
        "its source, collect it there, and it comes in another bundle",
        status=[400, 409, 422],
    ),
    _row(
        "wrong-address",
        "dead",
        "nothing takes such a report at this address",
        "check --beacon-url and --api-url, and --dialect for the request's form and path; then "
        + _RETRY,
        status=[404, 405, 410, 421],
    ),
    _row(
        "too-large",
        "dead",
        "the record is too large for the beacon, or for a proxy on the way",
        "have the proxy's limit raised, or collect smaller reports at the source; then " + _RETRY,
        status=[413, 414, 431],
    ),
    _row(
        "wrong-form",
        "dead",
        "the beacon does not take the request's form",
        "choose another with --dialect, or look whether a proxy changes requests; then " + _RETRY,
        status=[406, 411, 412, 415, 417],
    ),
    _row(
        "refused-otherwise",
        "dead",
        "the beacon refuses the record for good",
        "read its words, and ask LangChain's support with the ids; after the fix: " + _RETRY,
        reason=_REFUSED.pattern,
    ),
    # In doubt: it may have been counted, and a person decides.
    _row(
        "not-the-beacon",
        "in_doubt",
        "the answer is not the beacon's",
        "something else answers there, a proxy or a portal: check --beacon-url, --api-url and the "
        "proxy. Where it never reached the beacon: airgap ledger resolve ID --resend --reason TEXT",
        reason=r".*is this the beacon\?",
    ),
    _row(
        "server-error",
        "in_doubt",
        "the beacon, or something before it, failed",
        ASK,
        status=range(500, 1000),
    ),
    _row(
        "counted-otherwise",
        "in_doubt",
        "the beacon counted another number of records than was sent",
        ASK,
        reason=r"sent [\d,]+ records",
    ),
    _row(
        "refused-after-doubt",
        "in_doubt",
        "refused, after an attempt that may have been counted",
        ASK + ". The refusal itself is cured as its words say",
        reason=_REFUSED.pattern,
    ),
    _row(
        "no-answer-in-time",
        "in_doubt",
        f"{_SENT_OUT} in time",
        ASK + ". A slow beacon or proxy: --timeout with more seconds",
        reason=r"no whole answer|cut off after sending began: \w*Timeout",
    ),
    _row(
        "cut-off",
        "in_doubt",
        f"{_SENT_OUT}: the connection was cut",
        ASK,
        reason="cut off after sending began",
    ),
    _row(
        "run-cut-off",
        "in_doubt sending",
        "the import itself was cut off while it was sent",
        ASK,
        reason="the run was cut off",
    ),
    # Waiting: nothing is lost, and the next run goes on.
    _row(
        "decided-by-hand",
        "waiting",
        "decided by hand: to be sent again",
        "nothing to cure; " + _RESUME,
        reason="decided by hand",
    ),
    _row(
        "proxy-login",
        "waiting",
        "a proxy demands a login",
        "give the proxy's name and password in HTTPS_PROXY, then " + _RESUME,
        reason=r"answered 407|not sent: ProxyError: .*(407|auth)",
    ),
    _row(
        "credential-refused",
        "waiting",
        "the beacon refuses the licence or API key; nothing more of it was sent",
        "have LangChain check the key: expired, revoked, or of another region (--api-url); with a "
        "valid one in --license-file or --api-key-file, " + _RESUME,
        status=[401, 403],
    ),
    _row(
        "redirected",
        "waiting",
        "the address leads elsewhere, and redirections are never followed",
        "give the address that it leads to, if it is LangChain's, with --beacon-url or --api-url; a "
        "portal that wants a login is between; then " + _RESUME,
        status=range(300, 400),
    ),
    _row(
        "busy",
        "waiting",
        "the beacon is busy, or limits how many requests may come",
        "wait, then, perhaps with --in-flight 1, " + _RESUME,
        status=[408, 425, 429, 503],
    ),
    _row(
        "batch-refused",
        "waiting",
        "a request of several records was refused; the run ended before each was tried alone",
        _RESUME + " finds the record that is refused",
        reason=_REFUSED.pattern,
    ),
    _row(
        "tls",
        "waiting",
        "the connection is not trusted: TLS failed before anything was sent",
        "where a proxy of yours looks into TLS, give its authority with --ca-file or SSL_CERT_FILE; "
        "else check the host's name, the clock, and who answers there; then " + _RESUME,
        reason=r"not sent: .*(ssl|certificate|tls)",
    ),
    _row(
        "proxy",
        "waiting",
        "the proxy did not let it through",
        "check HTTPS_PROXY and NO_PROXY, and that the proxy allows the beacon's host; then "
        + _RESUME,
        reason="not sent: ProxyError",
    ),
    _row(
        "no-such-host",
        "waiting",
        "the host's name is not known here",
        "check --beacon-url and --api-url, name service, and HTTPS_PROXY where only a proxy knows "
        "names outside; then " + _RESUME,
        reason=r"not sent: .*(name or service|name resolution|getaddrinfo|nodename|no address|not resolve)",
    ),
    _row(
        "wrong-url",
        "waiting",
        "no request can be sent to this address",
        "check --beacon-url, --api-url and the proxy's settings; then " + _RESUME,
        reason=r"not sent: (UnsupportedProtocol|InvalidURL|LocalProtocolError)",
    ),
    _row(
        "unreachable",
        "waiting",
        "the beacon can't be reached",
        "check network, firewall and proxy; then " + _RESUME,
        reason="not sent",
    ),
    _row(
        "server-error",
        "waiting",
        "the beacon, or something before it, failed",
        "wait; it tells these duplicates, so that they are sent again: " + _RESUME,
        status=range(500, 1000),
    ),
    _row(
        "cut-off",
        "waiting",
        f"{_SENT_OUT}",
        "the beacon tells these duplicates, so that they are sent again: " + _RESUME,
        reason="cut off after sending began|no whole answer|the run was cut off",
    ),
    # For what an older or newer airgap wrote.
    _row("unknown", "dead", "refused", "see the reason; after the fix: " + _RETRY),
    _row("unknown", "in_doubt sending", "it may have been counted", ASK),
    _row("unknown", "waiting", "not delivered yet", _RESUME),
)


def cause_of(state: str, status: int | None, reason: str | None) -> Cause:
    """Return the first row that is about a record; the last rows are about every one."""
    return next(cause for cause in CAUSES if cause.fits(state, status, reason or ""))


def said_by_the_beacon(reason: str | None) -> str | None:
    """Return the beacon's own words out of a reason, or None where it holds none."""
    match = _REFUSED.fullmatch(reason or "")
    return match["said"] if match else None


def endpoint(kind: Kind, dialect: str) -> str:
    """Return where records of a kind and dialect go: the base's name and the path."""
    found = kind.dialects.get(dialect)
    return f"{found.base} {found.path}" if found else dialect


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One record that is not delivered.

    Args:
        id: its id, hexadecimal.
        source: whose it is.
        kind: its kind.
        endpoint: where it goes, as ``endpoint`` says it.
        state: one of ``STATES``.
        status: HTTP status of the answer, or None.
        reason: why, as ledger or receipt keep it.
        payload: its payload, or None where it is not known any more.
    """

    id: str
    source: str
    kind: str
    endpoint: str
    state: str
    status: int | None
    reason: str | None
    payload: Mapping[str, Any] | None


@dataclass(slots=True)
class Group:
    """Records that are not delivered for one and the same cause.

    Args:
        cause: why, and what cures it.
        state: their state.
        source: whose they are.
        kind: their kind.
        endpoint: where they go.
        status: HTTP status of the answers, or None.
        reason: the reason of the first, printable and short.
        said: the beacon's own words in it, or None.
        records: how many.
        sums: sum per measure, of those whose payload is known.
        ids: the first ids.
        alike: whether all have these words; else the group also holds records with others.
    """

    cause: Cause
    state: str
    source: str
    kind: str
    endpoint: str
    status: int | None
    reason: str
    said: str | None
    records: int = 0
    sums: dict[str, int] = field(default_factory=dict[str, int])
    ids: list[str] = field(default_factory=list[str])
    alike: bool = True

    def as_json(self) -> dict[str, object]:
        """Return it as ``--json`` prints it."""
        return {
            "state": self.state,
            "source": self.source,
            "kind": self.kind,
            "endpoint": self.endpoint,
            "status": self.status,
            "cause": self.cause.code,
            "title": self.cause.title,
            "reason": self.reason,
            "records": self.records,
            "sums": dict(sorted(self.sums.items())),
            "ids": self.ids,
            "cure": self.cause.cure,
        }


def grouped(records: Iterable[Undelivered], catalog: Catalog) -> list[Group]:
    """Return records that are not delivered by their cause, the most urgent and largest first.

    However many there are and whatever the beacon said, there are few groups: where the words
    are too many, those that are left stand together.
    """
    groups: dict[tuple[object, ...], Group] = {}
    for record in records:
        cause = cause_of(record.state, record.status, record.reason)
        about = (
            STATES.index("in_doubt" if record.state == "sending" else record.state),
            record.source,
            record.kind,
            record.endpoint,
            cause.code,
        )
        words = (*about, record.status, _VARIES.sub("#", record.reason or "")[:200])
        key = words if words in groups or len(groups) < _MOST_GROUPS else about
        group = groups.get(key)
        if group is None:
            group = groups[key] = _new(record, cause, alike=key is words)
        _count(group, record, catalog)
    return [
        group
        for _, group in sorted(
            groups.items(), key=lambda item: (item[0][0], -item[1].records, *item[0][1:5])
        )
    ]


def _new(record: Undelivered, cause: Cause, *, alike: bool) -> Group:
    said = said_by_the_beacon(record.reason)
    return Group(
        cause,
        record.state,
        record.source,
        record.kind,
        record.endpoint,
        record.status,
        printable(record.reason or "", 200),
        printable(said, 160) if said else None,
        alike=alike,
    )


def _count(group: Group, record: Undelivered, catalog: Catalog) -> None:
    group.records += 1
    if len(group.ids) < _MOST_IDS:
        group.ids.append(record.id)
    if record.payload is not None:
        totals = Totals({record.kind: KindTotal(0, group.sums)})
        totals.add(catalog.kind(record.kind), record.payload)
