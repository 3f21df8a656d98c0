"""What an answer means. Pure: no I/O, no clock.

as documented                          delivered
2xx, but not as documented             in doubt, and the run stops: that is not the beacon
3xx                                    waiting, and the run stops: never followed
401, 403, 407                          waiting, and nothing more of this credential is sent;
                                       a verification is dead: that is its answer
408, 425, 429, 503                     sent again after a while
500, 502, 504, other 5xx               in doubt; sent again where duplicates are told
other 4xx                              dead; a batch is halved first, to find the record; in
                                       doubt where an earlier attempt may have been counted
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from airgap.catalog import JsonObject, Kind, matches
from airgap.replay.answers import Answer
from airgap.text import printable

Meaning = Literal["delivered", "dead", "in_doubt", "again", "halve", "held", "stop"]

_AGAIN = frozenset({408, 425, 429, 503})
_REFUSED_CREDENTIAL = frozenset({401, 403, 407})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with the records of one request.

    Args:
        meaning: see the module's table.
        detail: the reason for people; never a credential.
        status: the answer's HTTP status, or None.
        keep: what is kept of the answer.
        stop: whether the run must send nothing more.
        hold: whether nothing more of this credential may be sent.
        doubted: whether the endpoint may have counted the records by this attempt.
        retry_after: seconds that the server asked to wait, or None.
    """

    meaning: Meaning
    detail: str | None = None
    status: int | None = None
    keep: JsonObject = field(default_factory=dict)
    stop: bool = False
    hold: bool = False
    doubted: bool = False
    retry_after: float | None = None


def judge(kind: Kind, answer: Answer, *, sent: int, doubted: int) -> Verdict:
    """Return what an answer means for the records that were sent.

    Args:
        kind: their kind.
        answer: the server's answer.
        sent: how many records the request held.
        doubted: how many of them may have been counted by an earlier attempt.
    """
    status = answer.status
    if status in kind.success.status:
        return _success(kind, answer, sent=sent, doubted=doubted)
    if 200 <= status < 300:
        expected = " or ".join(map(str, sorted(kind.success.status)))
        return _not_the_beacon(status, f"answered {status} where {expected} is documented")
    if 300 <= status < 400:
        detail = f"answered {status}, a redirection, which is never followed"
        return Verdict("stop", detail, status, stop=True)
    if status in _REFUSED_CREDENTIAL:
        detail = f"answered {status}: the credential is refused"
        return Verdict("dead" if kind.gate else "held", detail, status, hold=True)
    if status in _AGAIN:
        return Verdict("again", f"answered {status}", status, retry_after=answer.retry_after)
    if status >= 500:
        detail = f"answered {status}; it may have counted the record before it failed"
        return Verdict(
            "again" if kind.duplicates_told else "in_doubt",
            detail,
            status,
            doubted=True,
            retry_after=answer.retry_after,
        )
    words = printable(answer.body[:2000].decode("utf-8", "replace"), 200)
    detail = f"answered {status}: refused for good" + (f": {words}" if words else "")
    if sent > 1:
        return Verdict("halve", detail, status)
    if doubted and not kind.gate:
        # It is refused now, but an attempt that was cut off may have been counted.
        return Verdict("in_doubt", detail, status, doubted=True)
    return Verdict("dead", detail, status, hold=kind.gate)


def _success(kind: Kind, answer: Answer, *, sent: int, doubted: int) -> Verdict:
    success, status = kind.success, answer.status
    if success.answer is None:
        return Verdict("delivered", None, status)
    try:
        body: Any = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return _not_the_beacon(status, f"answered {status}, but not with JSON")
    if not matches(success.answer, body):
        return _not_the_beacon(status, f"answered {status}, but not as documented")
    if success.count is not None:
        counted = body[success.count]
        if type(counted) is not int or counted > sent or counted < sent - doubted:
            detail = f"sent {sent} records, and {success.count} says otherwise"
            return Verdict("in_doubt", detail, status, doubted=True)
        if counted < sent:
            # What an attempt that was cut off had counted, the endpoint told apart.
            return Verdict("delivered", f"{sent - counted} of {sent} were counted before", status)
    keep = {name: _at(body, pointer) for name, pointer in success.keep.items()}
    return Verdict("delivered", None, status, keep)


def _not_the_beacon(status: int, detail: str) -> Verdict:
    return Verdict("in_doubt", f"{detail}; is this the beacon?", status, stop=True, doubted=True)


def _at(body: Any, pointer: str) -> Any:
    for part in pointer.lstrip("/").split("/"):
        body = body[part]
    return body
