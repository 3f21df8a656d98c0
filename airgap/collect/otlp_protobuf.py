"""OTLP logs in protobuf, by opentelemetry-proto, which the extra ``otlp`` brings.

Fields are copied one by one into new messages, so unknown ones stay behind.
"""

from collections.abc import Iterable
from typing import Any

from airgap.collect.bodies import NotReadableError
from airgap.collect.otlp_model import Attributes, Log, Resource, Scalar, Scope
from airgap.errors import UsageError

_MOST_MESSAGES = 100_000
"""Most resources, scopes and log records together. As many would not fit into a record's 4 MiB, and a
Collector sends some 8,000 at once; an empty one is two bytes in a file, and hundreds here."""
_SCALARS = frozenset({"string_value", "bool_value", "int_value", "double_value"})


def read(data: bytes) -> list[Resource]:
    """Return the logs of an export request.

    Raises:
        NotReadableError: not protobuf, no export of logs, too many logs, or an id of another
            length.
        UsageError: opentelemetry-proto is not installed.
    """
    request = _request()
    from google.protobuf.message import DecodeError

    try:
        request.ParseFromString(data)
    except DecodeError:
        raise NotReadableError("not the protobuf of an export of logs") from None
    scopes = [scope for resource in request.resource_logs for scope in resource.scope_logs]
    count = len(request.resource_logs) + len(scopes) + sum(len(s.log_records) for s in scopes)
    if count > _MOST_MESSAGES:
        raise NotReadableError(f"more than {_MOST_MESSAGES:,} log records")
    return [
        Resource(
            _attributes(found.resource),
            found.resource.dropped_attributes_count,
            found.schema_url,
            tuple(_scope(scope) for scope in found.scope_logs),
        )
        for found in request.resource_logs
    ]


def write(resources: Iterable[Resource]) -> bytes:
    """Return an export request; what is absent is left out."""
    request = _request()
    for resource in resources:
        target = request.resource_logs.add(schema_url=resource.schema_url)
        if resource.attributes or resource.dropped_attributes:
            target.resource.dropped_attributes_count = resource.dropped_attributes
            _put(target.resource, resource.attributes)
        for scope in resource.scopes:
            _put_scope(target.scope_logs.add(schema_url=scope.schema_url), scope)
    data: bytes = request.SerializeToString(deterministic=True)
    return data


def _request() -> Any:
    """Return an empty request. Only here is the library loaded: most sites never need it."""
    try:
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
    except ImportError:
        raise UsageError(
            "OTLP logs in protobuf can't be filtered: opentelemetry-proto is not installed",
            hint="pip install 'airgap[otlp]', or let the site export its logs as JSON",
        ) from None
    return logs_service_pb2.ExportLogsServiceRequest()


def _scope(found: Any) -> Scope:
    return Scope(
        found.scope.name,
        found.scope.version,
        _attributes(found.scope),
        found.scope.dropped_attributes_count,
        found.schema_url,
        tuple(_log(log) for log in found.log_records),
    )


def _log(found: Any) -> Log:
    if len(found.trace_id) not in (0, 16) or len(found.span_id) not in (0, 8):
        raise NotReadableError("a trace id is not 16 bytes, or a span id not 8")
    body = _scalar(found.body)
    return Log(
        found.time_unix_nano,
        found.observed_time_unix_nano,
        found.severity_number,
        found.severity_text,
        body if isinstance(body, str) else None,
        _attributes(found),
        found.dropped_attributes_count,
        found.flags,
        found.trace_id,
        found.span_id,
        found.event_name,
    )


def _attributes(found: Any) -> Attributes:
    values = ((attribute.key, _scalar(attribute.value)) for attribute in found.attributes)
    return tuple((key, value) for key, value in values if value is not None)


def _scalar(found: Any) -> Scalar | None:
    """Return an AnyValue, or None where it is an array, a map, bytes or nothing."""
    name = found.WhichOneof("value")
    if name not in _SCALARS:
        return None
    value: Scalar = getattr(found, name)
    return value


def _put_scope(target: Any, scope: Scope) -> None:
    if scope.name or scope.version or scope.attributes or scope.dropped_attributes:
        target.scope.name = scope.name
        target.scope.version = scope.version
        target.scope.dropped_attributes_count = scope.dropped_attributes
        _put(target.scope, scope.attributes)
    for log in scope.logs:
        made = target.log_records.add(
            time_unix_nano=log.time,
            observed_time_unix_nano=log.observed_time,
            severity_number=log.severity,
            severity_text=log.severity_text,
            dropped_attributes_count=log.dropped_attributes,
            flags=log.flags,
            trace_id=log.trace_id,
            span_id=log.span_id,
            event_name=log.event_name,
        )
        if log.body is not None:
            made.body.string_value = log.body
        _put(made, log.attributes)


def _put(target: Any, attributes: Attributes) -> None:
    for key, value in attributes:
        made = target.attributes.add(key=key).value
        if isinstance(value, bool):
            made.bool_value = value
        elif isinstance(value, str):
            made.string_value = value
        elif isinstance(value, int):
            made.int_value = value
        else:
            made.double_value = value
