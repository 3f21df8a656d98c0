"""OTLP logs hold exception messages and tracebacks, so customers' data: only what is named leaves.

A site that sends logs at all names the attributes that may leave, and the messages that it has read.
Everything else is gone here, before a record is made.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airgap.catalog import JsonObject
from airgap.collect import bodies, otlp_json, otlp_protobuf, templates
from airgap.collect.otlp_model import Attributes, Log, Resource, Scope
from airgap.errors import InputRefusedError

_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_SCHEMA_URL = re.compile(r"https://opentelemetry\.io/schemas/[0-9]{1,4}(?:\.[0-9]{1,4}){1,2}")
_HIGHEST_SEVERITY = 24
_TRACE_FLAGS = 0xFF
"""The bits that have a meaning; the others are to be zero, and may hold anything."""
_LEVELS = frozenset(
    # The specification's short names, with 2 to 4 behind them; Python, Java, syslog, .NET, Go.
    [
        f"{level}{n}"
        for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
        for n in ("", 2, 3, 4)
    ]
    + ["NOTSET", "WARNING", "CRITICAL", "SEVERE", "CONFIG", "FINE", "FINER", "FINEST"]
    + [
        "EMERG",
        "EMERGENCY",
        "ALERT",
        "CRIT",
        "ERR",
        "NOTICE",
        "INFORMATION",
        "VERBOSE",
        "PANIC",
        "DPANIC",
    ]
)


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """What of a site's logs may leave, beyond times, severities, ids, counts and scope names.

    Args:
        attributes: keys of attributes, and names of events.
        templates: messages, with ``{}`` for what varies. The first that fits is written in the
            message's place, so nothing that stood at a ``{}`` leaves.
    """

    attributes: frozenset[str]
    templates: tuple[str, ...]


def filtered(payload: JsonObject, policy: LogPolicy, *, where: str) -> JsonObject | None:
    """Return an otlp_logs payload with nothing but what may leave, or None where no log is in it.

    The same payload and policy give the same bytes. JSON stays JSON, protobuf stays protobuf, and
    neither is compressed.

    Args:
        payload: as ``schemas/kinds/otlp_logs.schema.json`` has it.
        policy: the site's decision.
        where: file and line, for messages.

    Raises:
        InputRefusedError: the body can't be read as what it says it is, or is far too large.
        UsageError: it is protobuf, and the extra that reads it is not installed.
    """
    content_type = payload.get("content_type")
    if content_type not in (_JSON, _PROTOBUF):
        raise InputRefusedError(
            "unknown content type of OTLP logs", where=where, expected=f"{_JSON} or {_PROTOBUF}"
        )
    try:
        data = bodies.unpacked(payload)
        read = otlp_json.read(data) if content_type == _JSON else otlp_protobuf.read(data)
    except bodies.NotReadableError as error:
        raise InputRefusedError(
            f"OTLP logs can't be read: {error}",
            where=where,
            expected="base64 where encoding says so, at most 64 MiB unpacked, an export of logs",
            found="something else (not shown)",
            hint="correct it at its source; what nobody can read can't be filtered",
        ) from None
    resources = _resources(read, policy)
    if not resources:
        return None
    if content_type == _JSON:
        encoding, body = "utf-8", otlp_json.write(resources).decode()
    else:
        encoding, body = "base64", base64.b64encode(otlp_protobuf.write(resources)).decode()
    return {
        "content_type": content_type,
        "content_encoding": "identity",
        "encoding": encoding,
        "body": body,
    }


def _resources(resources: Sequence[Resource], policy: LogPolicy) -> list[Resource]:
    kept = (
        replace(
            resource,
            attributes=_attributes(resource.attributes, policy),
            schema_url=_schema_url(resource.schema_url),
            scopes=tuple(_scope(scope, policy) for scope in resource.scopes if scope.logs),
        )
        for resource in resources
    )
    return [resource for resource in kept if resource.scopes]


def _scope(scope: Scope, policy: LogPolicy) -> Scope:
    return replace(
        scope,
        attributes=_attributes(scope.attributes, policy),
        schema_url=_schema_url(scope.schema_url),
        logs=tuple(_log(log, policy) for log in scope.logs),
    )


def _log(log: Log, policy: LogPolicy) -> Log:
    return replace(
        log,
        severity=log.severity if 0 <= log.severity <= _HIGHEST_SEVERITY else 0,
        severity_text=log.severity_text if _is_level(log.severity_text) else "",
        body=_body(log.body, policy),
        attributes=_attributes(log.attributes, policy),
        flags=log.flags & _TRACE_FLAGS,
        event_name=log.event_name if log.event_name in policy.attributes else "",
    )


def _attributes(attributes: Attributes, policy: LogPolicy) -> Attributes:
    return tuple((key, value) for key, value in attributes if key in policy.attributes)


def _body(text: str | None, policy: LogPolicy) -> str | None:
    if text is None:
        return None
    return next((t for t in policy.templates if templates.matches(t, text)), None)


def _is_level(text: str) -> bool:
    return text.isascii() and text.upper() in _LEVELS


def _schema_url(url: str) -> str:
    """Return the URL of a published schema; behind any other one could stand anything."""
    return url if _SCHEMA_URL.fullmatch(url) else ""
