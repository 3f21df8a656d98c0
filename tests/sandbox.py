"""A kernel that refuses: seccomp, Landlock, a network namespace without interfaces, limits.

Imported by tests for the prefixes of commands, and run by them as a program, which confines itself
and then goes on. Only the standard library and the system's own calls are used (``man 2 seccomp``,
``man 7 landlock``, ``man 7 network_namespaces``).
"""

import ctypes
import errno
import fcntl
import functools
import http.client
import json
import os
import platform
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

PROGRAM = str(Path(__file__).resolve())

# What the verification of a file that is open asks of the system; keys/README.md has the same list.
VERIFICATION_NEEDS = ("read", "lseek", "brk", "mmap", "munmap", "mremap", "madvise")
# What the program below asks besides: to print the verdicts, and to end.
_TO_TELL = ("write", "exit_group")

_ARCHITECTURES: dict[str, tuple[int, dict[str, int]]] = {
    # AUDIT_ARCH_... of linux/audit.h, and the numbers of asm/unistd.h.
    "x86_64": (
        0xC000003E,
        {
            "read": 0,
            "write": 1,
            "lseek": 8,
            "mmap": 9,
            "munmap": 11,
            "brk": 12,
            "mremap": 25,
            "madvise": 28,
            "exit_group": 231,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "lseek": 62,
            "read": 63,
            "write": 64,
            "exit_group": 94,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "mmap": 222,
            "madvise": 233,
        },
    ),
}
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32
_PROT_EXEC = 4

_libc = ctypes.CDLL(None, use_errno=True)


# ---- seccomp


def no_seccomp() -> str | None:
    """Return why a filter can't be had here, or None."""
    if platform.machine() not in _ARCHITECTURES or sys.maxsize < 2**32:
        return f"the filter is written for x86_64 and aarch64, not {platform.machine()}"
    if not Path("/proc/sys/kernel/seccomp").is_dir():
        return "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)"
    return None


def filter_program(calls: Iterable[str], otherwise: int) -> bytes:
    """Return a BPF program (linux/filter.h) that allows ``calls`` and does ``otherwise`` for others.

    Memory may be asked for, but not to be executed.
    """
    architecture, numbers = _ARCHITECTURES[platform.machine()]
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for call in calls:
        if call == "mmap":
            code += [
                (_JUMP_EQUAL, 0, 4, numbers[call]),
                (_LOAD, 0, 0, _THIRD_ARGUMENT),
                (_JUMP_ANY_BIT, 0, 1, _PROT_EXEC),
                (_RETURN, 0, 0, otherwise),
                (_RETURN, 0, 0, _ALLOW),
            ]
        else:
            code += [(_JUMP_EQUAL, 0, 1, numbers[call]), (_RETURN, 0, 0, _ALLOW)]
    code.append((_RETURN, 0, 0, otherwise))
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def confine(calls: Iterable[str], *, kill: bool) -> None:
    """Leave this process nothing but ``calls``; any other ends it, or fails with EPERM."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    code = filter_program(calls, _KILL if kill else _ERRNO | errno.EPERM)
    program = Program(len(code) // 8, code)
    _give_up_privileges()
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    _checked(_libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(program)))


def _give_up_privileges() -> None:
    """Let no program that this process starts gain rights; seccomp and Landlock demand it."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# ---- Landlock

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on both architectures
_EXECUTE, _READ_FILE, _READ_DIR, _REFER, _TRUNCATE, _IOCTL = 1, 4, 8, 1 << 13, 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_OF_FILES = _EXECUTE | 2 | _READ_FILE | _TRUNCATE | _IOCTL


@functools.cache
def landlock_version() -> int:
    """Return the version of the kernel's interface, 0 where it has none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def no_landlock() -> str | None:
    """Return why Landlock can't be had here, or None."""
    if landlock_version():
        return None
    return "this kernel has no Landlock (Linux 5.13 with `landlock` in its lsm= parameter has)"


def landlock(*, read: Iterable[Path], write: Iterable[Path]) -> None:
    """Leave this process these files and folders, and no TCP where the kernel knows how."""
    version = landlock_version()
    rights = _FIRST_RIGHTS
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL)):
        rights |= right if version >= since else 0
    # handled_access_fs, and from version 4 on handled_access_net: bind and connect, never allowed.
    handled = struct.pack("=QQ", rights, 3) if version >= 4 else struct.pack("=Q", rights)
    rules = _checked(
        _libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    )
    for paths, allowed in ((read, _EXECUTE | _READ_FILE | _READ_DIR), (write, rights)):
        for path in paths:
            if not path.exists():
                continue
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            own = allowed if path.is_dir() else allowed & _OF_FILES & rights
            rule = struct.pack("=Qi", own, place)
            _checked(_libc.syscall(_ADD_RULE, rules, 1, rule, ctypes.c_uint32(0)))
            os.close(place)
    _give_up_privileges()
    _checked(_libc.syscall(_RESTRICT_SELF, rules, ctypes.c_uint32(0)))
    os.close(rules)


def python_itself() -> list[Path]:
    """Return the files and folders of this Python, of its packages and of the system's libraries."""
    paths = sysconfig.get_paths()
    found = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    repository = Path(PROGRAM).parent.parent
    here = [repository / name for name in ("airgap", "schemas", "pyproject.toml")]
    system = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
    return [*map(Path, sorted(found)), *here, *map(Path, system)]


# ---- namespaces


@functools.cache
def _unshare(kind: str) -> tuple[tuple[str, ...] | None, str]:
    if shutil.which("unshare") is None:
        return None, "unshare is not installed (Debian: util-linux)"
    said = ""
    for options in ((kind,), ("-r", kind)):
        tried = subprocess.run(
            ["unshare", *options, "true"], capture_output=True, text=True, check=False, timeout=30
        )
        if tried.returncode == 0:
            return ("unshare", *options), ""
        said = tried.stderr.strip()
    return None, f"no namespace can be made here, as root or with user namespaces: {said}"


def no_namespace(kind: str = "-n") -> str | None:
    """Return why a namespace can't be had here, or None; ``-n`` network, ``-m`` mounts."""
    prefix, reason = _unshare(kind)
    return None if prefix else reason


def offline(command: Iterable[object], *, loopback: bool = False) -> list[str]:
    """Return a command that runs where there is no interface but ``lo``, which is down or up."""
    prefix, reason = _unshare("-n")
    assert prefix, reason
    lo_up = (sys.executable, PROGRAM, "loopback") if loopback else ()
    return [*prefix, *lo_up, *map(str, command)]


def watched(trace: object, command: Iterable[object]) -> list[str]:
    """Return a command whose calls about networks are written to a file."""
    strace = (
        "strace",
        "--seccomp-bpf",
        "-f",
        "-qq",
        "-e",
        "trace=%network",
        "-e",
        "signal=none",
        "-o",
        trace,
    )
    return [*map(str, strace), *map(str, command)]


def read_only(place: Path, command: Iterable[object]) -> list[str]:
    """Return a command that runs where a folder is a read-only mount (a bind mount of itself)."""
    prefix, reason = _unshare("-m")
    assert prefix, reason
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    return [*prefix, "sh", "-ec", script, str(place), *map(str, command)]


def _loopback(arguments: Sequence[str]) -> None:
    """Bring ``lo`` up (man 7 netdevice), and become another command."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS
    os.execvp(arguments[0], arguments)


# ---- programs that confine themselves


def _verdicts(trust: str, files: Sequence[str]) -> Callable[[], list[Any]]:
    """Return what verifies the files, each opened already, with every module loaded."""
    from airgap import catalog, verify
    from airgap.errors import AirgapError
    from airgap.trust import recipients, store

    schemas = catalog.load()
    schemas.prepare()
    trusted = store.load(Path(trust), schemas)
    index = json.loads((Path(__file__).parent / "vectors" / "index.json").read_bytes())
    first, second = (index["recipients"][name] for name in ("recipient", "hybrid"))
    own = {
        first["key_id"]: recipients.from_seeds(first["x25519_ascii"].encode()),
        second["key_id"]: recipients.from_seeds(
            second["x25519_ascii"].encode(), second["mlkem768_seed_ascii"].encode()
        ),
    }

    def opener(sealing: Any, context: Any, where: str) -> Any:
        wanted = {recipient.key_id for recipient in sealing.recipients}
        key = next((key for key_id, key in own.items() if key_id in wanted), None)
        if key is None:
            raise recipients.cannot_open(sealing, list(own), where=where)
        return key.unwrap(sealing, context, where=where)

    streams: list[BinaryIO] = [open(name, "rb") for name in files]  # noqa: SIM115, PTH123

    def verdict(stream: BinaryIO) -> Any:
        name = Path(stream.name).name
        try:
            if name.endswith(".receipt"):
                receipt = verify.verify_receipt(stream, name=name, trust=trusted, catalog=schemas)
                ids = [bytes.fromhex(outcome["id"]) for outcome in receipt.outcomes()]
                return [receipt.document_id, len(ids), sha256(b"".join(ids)).hexdigest()]
            bundle = verify.verify_bundle(
                stream, name=name, trust=trusted, catalog=schemas, opener=opener
            )
            ids = [identifier for identifier, _ in bundle.records()]
            return [bundle.document_id, len(ids), sha256(b"".join(ids)).hexdigest()]
        except AirgapError as error:
            return error.as_json()

    return lambda: [verdict(stream) for stream in streams]


def _tell(value: Any) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")
    os._exit(0)


def _verify(arguments: Sequence[str]) -> None:
    """``verify plain|confined TRUST FILE...``: print the verdicts."""
    how, trust, *files = arguments
    run = _verdicts(trust, files)
    if how == "confined":
        confine((*VERIFICATION_NEEDS, *_TO_TELL), kill=True)
    _tell(run())


def _try(arguments: Sequence[str]) -> None:
    """``try kill|refuse TRUST FILE NAME...``: try what verification doesn't need; print what came."""
    how, trust, file, *names = arguments
    run = _verdicts(trust, [file])
    tries: dict[str, Callable[[], object]] = {
        "open": lambda: os.open(file, os.O_RDONLY),
        "create": lambda: os.open(f"{file}.new", os.O_WRONLY | os.O_CREAT),
        "list": lambda: os.listdir("."),  # noqa: PTH208 - the call itself
        "unlink": Path(file).unlink,
        "rename": lambda: Path(file).rename(f"{file}.new"),
        "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "fork": os.fork,
        "kill": lambda: os.kill(os.getppid(), 0),
        "code": lambda: __import__("mmap").mmap(-1, 4096, prot=_PROT_EXEC | 1),
    }
    __import__("mmap")
    confine((*VERIFICATION_NEEDS, *_TO_TELL), kill=how == "kill")
    found: dict[str, Any] = {}
    for name in names or tries:
        try:
            tries[name]()
            found[name] = None
        except OSError as error:
            found[name] = error.errno
    found["verified"] = run()
    _tell(found)


def _bounded(arguments: Sequence[str]) -> None:
    """``bounded MEMORY SECONDS TRUST FILE``: verify with so many bytes more and so much CPU."""
    memory, seconds, trust, file = arguments
    run = _verdicts(trust, [file])
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + int(memory)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    spent = resource.getrusage(resource.RUSAGE_SELF)
    end = int(spent.ru_utime + spent.ru_stime) + 1 + int(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (end, end))
    _tell(run())


def _landlocked(arguments: Sequence[str]) -> None:
    """``landlocked READ:... WRITE:... ARGUMENT...``: the command line, with these folders only."""
    read, write, *words = arguments
    landlock(
        read=[*python_itself(), *(Path(p) for p in read.split(":") if p)],
        write=[Path(p) for p in write.split(":") if p],
    )
    if words[0] == "try":
        _tell([_errno(lambda p=p: os.open(p, os.O_RDWR | os.O_CREAT, 0o600)) for p in words[1:]])
    from airgap.cli.main import main

    sys.argv = ["airgap", *words]
    main()


def _errno(attempt: Callable[[], object]) -> int | None:
    try:
        attempt()
    except OSError as error:
        return error.errno
    return None


def _capture(arguments: Sequence[str]) -> None:
    """``capture TRACE BODY ARGUMENT...``: run capture under strace, post a report, end it."""
    trace, body, *words = arguments
    command = watched(trace, (sys.executable, "-m", "airgap", "capture", *words))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process, process.stdout or sys.stdin as said:
        port = int(said.readline().rpartition(":")[2])
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        client.request("POST", "/v1/metadata/submit", body, {"Content-Type": "application/json"})
        status = client.getresponse().status
        client.close()
        # strace passes no signal on, so the process is asked by itself.
        [child, *_] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        said.read()
    _tell({"port": port, "status": status, "code": process.wait()})


def _commands(arguments: Sequence[str]) -> None:
    """``commands FILE``: run command lines, each in a process of its own; print how each ended.

    The file holds a JSON list of lists of words. Everything is imported once, before.
    """
    import jsonschema_rs  # noqa: F401
    import rich.table  # noqa: F401
    from forking import become
    from support import every_command

    list(every_command())
    ends: list[dict[str, Any]] = []
    for words in json.loads(Path(arguments[0]).read_bytes()):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(reading)
            become(words)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ends.append({"pid": child, "code": status, "said": said.decode("utf-8", "replace")})
    print(json.dumps(ends), flush=True)  # noqa: T201


if __name__ == "__main__":
    {
        "loopback": _loopback,
        "verify": _verify,
        "try": _try,
        "bounded": _bounded,
        "landlocked": _landlocked,
        "capture": _capture,
        "commands": _commands,
    }[sys.argv[1]](sys.argv[2:])
