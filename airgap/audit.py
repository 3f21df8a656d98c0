"""The audit log: one JSON object per line, each with the SHA-256 of the line before it.

Lines are only ever added. Whoever changes, removes or inserts one breaks the chain; whoever cuts
lines off at the end is found by the head (number and digest of a line) that was noted before.
"""

import errno
import fcntl
import json
import os
import secrets
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from airgap import catalog, credentials, timestamps
from airgap.errors import AirgapError, DamagedError, InputRefusedError
from airgap.files import refused

_MOST_LINE = 65_536


@dataclass(frozen=True, slots=True)
class AuditLog:
    """Where one invocation writes what it does.

    Args:
        path: the log; made where it does not exist.
        run: id of the invocation.
        command: what was called.
        clock: the present.
        redact: masks whatever looks like a credential.
    """

    path: Path
    run: str
    command: str
    clock: timestamps.Clock
    redact: Callable[[str], str]

    def write(self, event: str, facts: dict[str, Any]) -> None:
        """Add a line; it is on disk when this returns.

        Args:
            event: what happened.
            facts: what to keep of it, to be written as JSON.

        Raises:
            MediumError: the file system refused.
        """
        try:
            with open(self.path, "a+b", opener=_private) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                before = _last_line(file)
                entry = {
                    "n": before.number + 1,
                    "previous": before.digest,
                    **({"after_a_torn_line": True} if before.torn else {}),
                    "at": timestamps.to_text(self.clock(), precise=True),
                    "run": self.run,
                    "user": _user(),
                    "command": self.command,
                    "event": event,
                    **facts,
                }
                text = self.redact(json.dumps(entry, default=str))
                if len(text) > _MOST_LINE:
                    short = {name: _shortened(value) for name, value in facts.items()}
                    text = self.redact(json.dumps({**entry, **short}, default=str))
                file.write((b"" if before.ended else b"\n") + text.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise refused("written", self.path, error) from None


_RUNNING: ContextVar[AuditLog | None] = ContextVar("airgap_audit_log", default=None)


def record(event: str, **facts: Any) -> None:
    """Write what the running command did to its home's audit log; outside of ``run``, nothing.

    Raises:
        MediumError: the file system refused.
    """
    log = _RUNNING.get()
    if log is not None:
        log.write(event, facts)


@contextmanager
def run(
    log: AuditLog,
    begin: dict[str, Any],
    warn: Callable[[str], None],
    ended_by: Callable[[BaseException], dict[str, Any]] | None = None,
) -> Iterator[None]:
    """Write that a command begins, what ``record`` is told meanwhile, and how it ends.

    Where there is no home yet (``init``), beginning and end are written at the end, if there is one
    then.

    Args:
        log: the home's log.
        begin: facts of the first line.
        warn: takes what is to be said when the last line can't be written.
        ended_by: facts of the last line after a failure; the default knows airgap's errors and Ctrl-C.

    Raises:
        MediumError: the file system refused.
    """
    is_home = (log.path.parent / "airgap.toml").exists()
    if is_home:
        log.write("begin", begin)
    token = _RUNNING.set(log if is_home else None)
    end: dict[str, Any] = {"exit": 0}
    try:
        yield
    except BaseException as failure:
        end = (ended_by or how_it_ended)(failure)
        raise
    finally:
        _RUNNING.reset(token)
        if is_home or (log.path.parent / "airgap.toml").exists():
            if not is_home:
                log.write("begin", begin)
            _write_end(log, end, warn)


def how_it_ended(failure: BaseException) -> dict[str, Any]:
    """Return the facts of a last line, for airgap's own errors and whatever else."""
    if isinstance(failure, AirgapError):
        return {"exit": failure.exit_code, "error": failure.message}
    if isinstance(failure, KeyboardInterrupt):
        return {"exit": 130}
    return {"exit": 1, "error": type(failure).__name__}


@dataclass(frozen=True, slots=True)
class Script:
    """Writes the runs of a script that uses the library to a home's log.

    Args:
        path: the log.
        clock: the present.
    """

    path: Path
    clock: timestamps.Clock

    @contextmanager
    def run(self, name: str) -> Iterator[None]:
        """Write that a method begins and how it ends; see the function ``run``."""
        schemas = catalog.load()
        log = AuditLog(
            self.path,
            secrets.token_hex(8),
            f"python: {name}",
            self.clock,
            lambda text: credentials.redact(text, schemas),
        )
        with run(log, {}, _warn):
            yield


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def _write_end(log: AuditLog, end: dict[str, Any], warn: Callable[[str], None]) -> None:
    """Write the last line; a failure here must not hide how the command ended."""
    try:
        log.write("end", end)
    except AirgapError as error:
        if sys.exc_info()[0] is None and end["exit"] == 0:
            raise
        warn(f"{error.message}: the audit log lacks this run's end")


@dataclass(slots=True)
class Checked:
    """What a log was found to be.

    Args:
        entries: how many lines it has.
        head: ``NUMBER:DIGEST`` of the last line, to be noted elsewhere; empty without lines.
        torn: numbers of lines that a crash cut off; the line after each says so.
        unended: ids and commands of invocations that began and did not end.
    """

    entries: int = 0
    head: str = ""
    torn: list[int] = field(default_factory=list)
    unended: dict[str, str] = field(default_factory=dict)


def check(path: Path, head: str | None = None) -> Checked:
    """Check every line of a log.

    Args:
        path: the log.
        head: a head that was noted before, which the log must still hold.

    Raises:
        DamagedError: a line was changed, removed or inserted, or lines were cut off.
        InputRefusedError: ``head`` is not of the form NUMBER:DIGEST.
    """
    number, digest = (0, "") if head is None else _head_of(head)
    if not path.exists():
        raise DamagedError(
            "there is no audit log",
            where=str(path),
            expected="the log that every home has from `airgap init` on",
            hint="find out who took it away; the next command that changes something begins a new one",
        )
    result = Checked()
    previous: str | None = None
    torn_before = False
    for line in _lines(path):
        result.entries += 1
        entry = _entry(line)
        if entry is None:
            _check_torn(path, result.entries, line, previous)
            result.torn.append(result.entries)
        else:
            _check_entry(path, result.entries, entry, previous, torn_before=torn_before)
            _note_run(result, entry)
        torn_before = entry is None
        previous = sha256(line).hexdigest()
        if result.entries == number and previous != digest:
            raise _broken(path, number, f"{digest}, as noted", previous)
    if number > result.entries:
        raise _broken(path, number, f"{number} lines or more", f"{result.entries} lines")
    result.head = f"{result.entries}:{previous}" if previous else ""
    return result


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every entry that is whole."""
    for line in _lines(path):
        entry = _entry(line)
        if entry is not None:
            yield entry


@dataclass(frozen=True, slots=True)
class _Last:
    number: int
    digest: str | None
    torn: bool
    ended: bool


def _shortened(value: Any) -> Any:
    """Return a value, or its beginning with size and digest where it is long."""
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in list(value.items())[:100]}
    text = json.dumps(value, default=str)
    if len(text) <= 1000:
        return value
    count = len(value) if isinstance(value, list | tuple) else None
    digest = sha256(text.encode()).hexdigest()
    return {"beginning": text[:200], "entries": count, "sha256": digest}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def _last_line(file: BinaryIO) -> _Last:
    """Return number and digest of a log's last line, and whether a crash cut it off."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return _Last(0, None, torn=False, ended=True)
    reach = 4 * _MOST_LINE
    file.seek(max(0, size - reach))
    data = file.read(reach)
    ended = data.endswith(b"\n")
    line = data.removesuffix(b"\n").rpartition(b"\n")[2]
    digest = sha256(line).hexdigest()
    entry = _entry(line)
    if entry is not None and isinstance(entry.get("n"), int):
        return _Last(entry["n"], digest, torn=False, ended=ended)
    file.seek(0)
    count = sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
    return _Last(count + (not ended), digest, torn=True, ended=ended)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield each line without its line feed."""
    try:
        with open(path, "rb", opener=_regular) as file:
            while line := file.readline(8 * _MOST_LINE):
                yield line.removesuffix(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise refused("read", path, error) from None


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _check_entry(
    path: Path, number: int, entry: dict[str, Any], previous: str | None, *, torn_before: bool
) -> None:
    if entry.get("n") != number:
        raise _broken(path, number, f"entry {number}", f"entry {entry.get('n')}")
    if entry.get("previous") != previous:
        raise _broken(
            path, number, f"the digest of line {number - 1}, {previous}", str(entry.get("previous"))
        )
    if bool(entry.get("after_a_torn_line")) != torn_before:
        raise _broken(path, number, "a torn line named by the next one", "it is not")


def _check_torn(path: Path, number: int, line: bytes, previous: str | None) -> None:
    """Check that a line that is no entry is the beginning of the one that stands at its place."""
    begins = json.dumps({"n": number, "previous": previous}).encode()[:-1]
    size = min(len(begins), len(line))
    if len(line) > _MOST_LINE or line[:size] != begins[:size]:
        raise _broken(path, number, f"entry {number}, or its beginning", "something else")


def _note_run(result: Checked, entry: dict[str, Any]) -> None:
    if entry.get("event") == "begin":
        result.unended[str(entry.get("run"))] = str(entry.get("command"))
    elif entry.get("event") == "end":
        result.unended.pop(str(entry.get("run")), None)


def _head_of(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if (
        not (number.isascii() and number.isdecimal())
        or int(number) < 1
        or len(digest) != 64
        or digest.strip("0123456789abcdef")
    ):
        raise InputRefusedError(
            "this is not a head",
            expected="NUMBER:DIGEST, as `airgap audit verify` printed it",
            found=text[:80],
            hint="type it as it was noted; without --head, all but the end is checked",
        )
    return int(number), digest


def _broken(path: Path, number: int, expected: str, found: str) -> DamagedError:
    return DamagedError(
        "the audit log was changed",
        where=f"{path}, line {number}",
        expected=expected,
        found=found,
        hint="what comes before that line is as it was written; compare with a copy of the log",
    )


def _user() -> str:
    """Return the user's number and, by /etc/passwd alone, name: no directory service is asked."""
    number = os.getuid()
    try:
        for line in Path("/etc/passwd").read_text("utf-8", "replace").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[2] == str(number):
                return f"{fields[0]} ({number})"
    except OSError:
        pass
    return str(number)
