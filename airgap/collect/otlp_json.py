"""OTLP logs in JSON, as the OTLP specification maps them ("JSON Protobuf Encoding").

Ids are hexadecimal, 64-bit integers are strings or numbers, enumerations are numbers, names are in
lowerCamelCase; ``null`` stands for nothing (protobuf's JSON mapping). Unknown names are passed over.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import orjson

from airgap import jsontext
from airgap.catalog import JsonObject
from airgap.collect.bodies import NotReadableError
from airgap.collect.otlp_model import Attributes, Log, Resource, Scalar, Scope

_T = TypeVar("_T")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_HEX = re.compile(r"[0-9A-Fa-f]*")
_MOST_OBJECTS = 2_000_000
"""An object takes at least 64 bytes of memory; a Collector's batch has some 100,000."""
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def read(data: bytes) -> list[Resource]:
    """Return the logs of an export request.

    Raises:
        NotReadableError: not JSON that all readers understand alike, or no export of logs.
    """
    if data.count(b"{") > _MOST_OBJECTS:
        raise NotReadableError(f"more than {_MOST_OBJECTS:,} objects")
    try:
        value = jsontext.parse(data)
    except jsontext.NotExactError as error:
        raise NotReadableError(str(error)) from None
    return _list(_object(value, "the body"), "resourceLogs", _resource)


def write(resources: Iterable[Resource]) -> bytes:
    """Return an export request; what is absent is left out."""
    return orjson.dumps({"resourceLogs": [_resource_json(r) for r in resources]})


def _resource(value: JsonObject) -> Resource:
    about = _part(value, "resource")
    return Resource(
        _attributes(about),
        _dropped(about),
        _text(value, "schemaUrl"),
        tuple(_list(value, "scopeLogs", _scope)),
    )


def _scope(value: JsonObject) -> Scope:
    about = _part(value, "scope")
    return Scope(
        _text(about, "name"),
        _text(about, "version"),
        _attributes(about),
        _dropped(about),
        _text(value, "schemaUrl"),
        tuple(_list(value, "logRecords", _log)),
    )


def _log(value: JsonObject) -> Log:
    body = _scalar(_part(value, "body"))
    return Log(
        _integer(value, "timeUnixNano", 0, 2**64 - 1),
        _integer(value, "observedTimeUnixNano", 0, 2**64 - 1),
        _integer(value, "severityNumber", -(2**31), 2**31 - 1),
        _text(value, "severityText"),
        body if isinstance(body, str) else None,
        _attributes(value),
        _dropped(value),
        _integer(value, "flags", 0, 2**32 - 1),
        _id(value, "traceId", 16),
        _id(value, "spanId", 8),
        _text(value, "eventName"),
    )


def _attributes(value: JsonObject) -> Attributes:
    found = _list(value, "attributes", lambda a: (_text(a, "key"), _scalar(_part(a, "value"))))
    return tuple((key, item) for key, item in found if item is not None)


def _scalar(value: JsonObject) -> Scalar | None:
    """Return an AnyValue, or None where it is an array, a map, bytes or nothing."""
    names = [n for n in _VALUES if value.get(n) is not None]
    if len(names) > 1:
        raise NotReadableError(f"a value is both {names[0]} and {names[1]}")
    if not names or (as_scalar := _VALUES[names[0]]) is None:
        return None
    return as_scalar(value, names[0])


def _text(value: JsonObject, name: str) -> str:
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise NotReadableError(f"{name} is no text")
    return found


def _bool(value: JsonObject, name: str) -> bool:
    if not isinstance(value[name], bool):
        raise NotReadableError(f"{name} is neither true nor false")
    return bool(value[name])


def _integer(value: JsonObject, name: str, low: int, high: int) -> int:
    found = value.get(name)
    if found is None:
        return 0
    if isinstance(found, str) and _INTEGER.fullmatch(found):
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise NotReadableError(f"{name} is no integer, or too large")
    return found


def _double(value: JsonObject, name: str) -> float:
    found = value[name]
    if isinstance(found, float | int) and not isinstance(found, bool):
        return float(found)
    if found in _NOT_FINITE:
        return float(found)
    raise NotReadableError(f"{name} is no number")


def _dropped(value: JsonObject) -> int:
    return _integer(value, "droppedAttributesCount", 0, 2**32 - 1)


def _id(value: JsonObject, name: str, size: int) -> bytes:
    text = _text(value, name)
    if len(text) not in (0, 2 * size) or not _HEX.fullmatch(text):
        raise NotReadableError(f"{name} is not {2 * size} hexadecimal digits")
    return bytes.fromhex(text)


def _part(value: JsonObject, name: str) -> JsonObject:
    found = value.get(name)
    return {} if found is None else _object(found, name)


def _object(value: Any, name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise NotReadableError(f"{name} is no object")
    return value


def _list(value: JsonObject, name: str, item: Callable[[JsonObject], _T]) -> list[_T]:
    found = value.get(name)
    if not isinstance(found, list | None):
        raise NotReadableError(f"{name} is no list")
    return [item(_object(one, f"one of {name}")) for one in found or ()]


_VALUES: dict[str, Callable[[JsonObject, str], Scalar] | None] = {
    "stringValue": _text,
    "boolValue": _bool,
    "intValue": lambda value, name: _integer(value, name, -(2**63), 2**63 - 1),
    "doubleValue": _double,
    "arrayValue": None,
    "kvlistValue": None,
    "bytesValue": None,
}


def _resource_json(resource: Resource) -> JsonObject:
    return _present(
        resource=_present(
            attributes=_attributes_json(resource.attributes),
            droppedAttributesCount=resource.dropped_attributes,
        ),
        scopeLogs=[_scope_json(scope) for scope in resource.scopes],
        schemaUrl=resource.schema_url,
    )


def _scope_json(scope: Scope) -> JsonObject:
    return _present(
        scope=_present(
            name=scope.name,
            version=scope.version,
            attributes=_attributes_json(scope.attributes),
            droppedAttributesCount=scope.dropped_attributes,
        ),
        logRecords=[_log_json(log) for log in scope.logs],
        schemaUrl=scope.schema_url,
    )


def _log_json(log: Log) -> JsonObject:
    return _present(
        timeUnixNano=str(log.time) if log.time else "",
        observedTimeUnixNano=str(log.observed_time) if log.observed_time else "",
        severityNumber=log.severity,
        severityText=log.severity_text,
        body=None if log.body is None else {"stringValue": log.body},
        attributes=_attributes_json(log.attributes),
        droppedAttributesCount=log.dropped_attributes,
        flags=log.flags,
        traceId=log.trace_id.hex(),
        spanId=log.span_id.hex(),
        eventName=log.event_name,
    )


def _present(**fields: Any) -> JsonObject:
    return {name: value for name, value in fields.items() if value}


def _attributes_json(attributes: Attributes) -> list[JsonObject]:
    return [{"key": key, "value": _value_json(value)} for key, value in attributes]


def _value_json(value: Scalar) -> JsonObject:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if math.isfinite(value):
        return {"doubleValue": value}
    return {"doubleValue": "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"}
