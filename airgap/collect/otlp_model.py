"""OTLP logs as far as any of them may leave: what is not here is gone once it was read.

Names and meanings are those of opentelemetry-proto, ``logs/v1/logs.proto``. There is no place for
arrays, maps and bytes: an attribute or body of that sort is read as if it were not there.
"""

from dataclasses import dataclass

Scalar = str | bool | int | float
Attributes = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, slots=True)
class Log:
    """One log record. Times are nanoseconds since 1970, ids are bytes, 0 and empty mean absent."""

    time: int
    observed_time: int
    severity: int
    severity_text: str
    body: str | None
    attributes: Attributes
    dropped_attributes: int
    flags: int
    trace_id: bytes
    span_id: bytes
    event_name: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The log records of one instrumentation scope."""

    name: str
    version: str
    attributes: Attributes
    dropped_attributes: int
    schema_url: str
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """The scopes of one resource."""

    attributes: Attributes
    dropped_attributes: int
    schema_url: str
    scopes: tuple[Scope, ...]
