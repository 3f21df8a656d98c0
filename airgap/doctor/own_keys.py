"""This side's own keys: there, readable, in pairs, trusted by itself, and for how long."""

import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from airgap import timestamps
from airgap.doctor.findings import Finding, not_checked, ok, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError
from airgap.text import plural
from airgap.trust import keys, recipients
from airgap.trust.entries import Role, TrustedKey, moment_text
from airgap.trust.keys import Passphrase, PublicKey
from airgap.trust.store import SOON, TrustStore

_MAKE = "airgap key generate"
_ROLES: dict[str, Role] = {"isolated": "exporter", "workstation": "importer"}


@dataclass(frozen=True, slots=True)
class _Sort:
    """One of the two sorts of keys: to sign with, and to open sealed bundles with."""

    folder: str
    make: str
    variable: str
    options: tuple[str, ...]
    private: Callable[[bytes, Passphrase, str], Any]
    public: Callable[[bytes, str], Any]


_SORTS = (
    _Sort(
        "keys",
        _MAKE,
        "AIRGAP_PASSPHRASE",
        ("passphrase_file",),
        lambda data, ask, where: keys.private_from_bytes(data, ask, where=where),
        lambda data, where: keys.public_from_bytes(data, where=where),
    ),
    _Sort(
        "sealing",
        "airgap recipient generate",
        "AIRGAP_SEALING_PASSPHRASE",
        ("sealing_passphrase_file",),
        lambda data, ask, where: recipients.private_from_bytes(data, ask, where=where),
        lambda data, where: recipients.public_from_bytes(data, where=where),
    ),
)


def look(scene: Scene) -> Iterator[Finding]:
    """Look at the home's key files."""
    home = scene.home
    assert home is not None
    if not home.key_names():
        yield wrong(
            "keys.present",
            "there is no key to sign with",
            where=str(home.keys_path),
            expected="a key pair of this side's own",
            cure=f"{_MAKE}, then exchange the public halves with the other side",
        )
    else:
        names = home.key_names()
        yield ok("keys.present", f"{plural(len(names), 'key')}: {', '.join(names)}")
    for sort in _SORTS:
        folder = home.path / sort.folder
        found = sorted(folder.glob("*.pem")) if folder.is_dir() else []
        for path in found:
            yield from _pair(path, sort, _passphrases(scene, sort))
        alone = sorted(folder.glob("*.pub")) if folder.is_dir() else []
        for path in alone:
            if not path.with_suffix(".pem").exists():
                yield warning(
                    "keys.pair",
                    "the private half of this key is gone",
                    where=str(path),
                    expected=path.with_suffix(".pem").name,
                    cure=f"restore it from a copy, or make a new key: {sort.make} --name NEW",
                )


def look_at_trust(scene: Scene) -> Iterator[Finding]:
    """Look at what this side's trust store says of its own keys."""
    home = scene.home
    assert home is not None
    own = scene.own_keys()
    try:
        store = scene.trust()
    except AirgapError:
        yield not_checked("keys.trusted", "the trust store can't be read")
        return
    if own:
        yield from trusted(own, store, _ROLES[home.side], scene.now)
        yield from expiry(own, store, scene.now)


def trusted(
    own: dict[str, PublicKey], store: TrustStore, role: Role, now: datetime
) -> Iterator[Finding]:
    """Judge whether one of a side's own keys may sign in the side's role.

    Args:
        own: its keys by name.
        store: its trust store.
        role: what it signs as.
        now: the present.
    """
    able = [n for n, key in own.items() if _can_sign(store.keys.get(key.key_id), role, now)]
    if able:
        yield ok("keys.trusted", f"{', '.join(able)} may sign as {role}")
        return
    roots = store.root.by_id() if store.root else {}
    if any(key.key_id in roots for key in own.values()):
        yield ok("keys.trusted", "this home holds a root key, which signs trust stores")
        return
    entries = [store.keys.get(key.key_id) for key in own.values()]
    if any(entry is not None and _can_sign(entry, "reviewer", now) for entry in entries):
        yield ok(
            "keys.trusted", "this home holds a reviewer's key, and none that exports or imports"
        )
        return
    yield wrong(
        "keys.trusted",
        f"no key of this side may sign as {role}: {_why(entries, now)}",
        expected=f"one of {', '.join(own)} with the role {role} in this side's own trust store",
        cure="ask the holders of the root keys for a trust store with it: airgap trust update FILE"
        if store.signed
        else f"make a new key and exchange it: {_MAKE} --name NEW; "
        f"or airgap trust add KEY.pub --role {role}",
    )


def expiry(own: dict[str, PublicKey], store: TrustStore, now: datetime) -> Iterator[Finding]:
    """Judge how long a side's own keys are good for."""
    said = False
    for name, key in own.items():
        entry = store.keys.get(key.key_id)
        end = entry.not_after if entry and not entry.revoked and not entry.followed_by else None
        if end is None or end - SOON > now:
            continue
        said = True
        over = end <= now
        yield (wrong if over else warning)(
            "keys.expiry",
            f"the key {name} {'expired' if over else 'expires'} at {moment_text(end)}",
            where=key.fingerprint,
            expected=f"a time that lasts {SOON.days} days or longer",
            cure=f"make a new one and exchange it: {_MAKE} --name NEW; or set the clock right"
            if over
            else f"make its successor while it counts: airgap key rotate NEW --key {name}",
        )
    if not said:
        yield ok("keys.expiry", f"no key of this side ends within {SOON.days} days")


def _can_sign(entry: TrustedKey | None, role: Role, now: datetime) -> bool:
    return (
        entry is not None
        and role in entry.roles
        and entry.followed_by is None
        and entry.revoked is None
        and (entry.not_before is None or entry.not_before <= now)
    )


def _why(entries: Iterable[TrustedKey | None], now: datetime) -> str:
    """Return what keeps keys from signing, of the first of them."""
    entry = next((e for e in entries if e is not None), None)
    if entry is None:
        return "none is in its trust store"
    if entry.revoked is not None:
        return f"{entry.public.fingerprint} is revoked"
    if entry.followed_by is not None:
        return f"another key followed {entry.public.fingerprint}"
    if entry.not_before is not None and entry.not_before > now:
        return f"{entry.public.fingerprint} is valid from {timestamps.to_text(entry.not_before)} on"
    return f"{entry.public.fingerprint} is trusted as {', '.join(entry.roles)}"


def _pair(path: Path, sort: _Sort, passphrases: list[bytes]) -> Iterator[Finding]:
    """Look at a private key and the public half beside it."""
    mode = stat.S_IMODE(path.stat().st_mode)
    asked: list[str] = []

    def ask(secret: bytes | None) -> Passphrase:
        def answer(what: str) -> bytes | None:
            asked.append(what)
            return secret

        return answer

    private = None
    failure: AirgapError | None = None
    for secret in (*passphrases, None) if passphrases else (None,):
        try:
            data = keys.read_small(path, "private key", regular=True)
            private = sort.private(data, ask(secret), str(path))
            break
        except AirgapError as error:
            failure = error
    locked = private is None and bool(asked)
    if private is None and not locked:
        assert failure is not None
        yield wrong(
            "keys.readable",
            failure.message,
            where=str(path),
            expected=failure.expected,
            cure=f"restore it from a copy, or make a new key: {sort.make} --name NEW",
        )
        return
    if locked and passphrases:
        yield warning(
            "keys.readable",
            "the passphrase that is configured does not open the key",
            where=str(path),
            expected=f"the one of this key, in {sort.variable} or the passphrase file",
            cure="correct the variable or the file; or another key is the one that signs",
        )
    else:
        protected = "protected by a passphrase" if asked else "not protected by a passphrase"
        yield ok("keys.readable", f"{path.stem} is {protected}, mode {mode:04o}")
    yield from _half(path.with_suffix(".pub"), sort, private)


def _half(path: Path, sort: _Sort, private: Any) -> Iterator[Finding]:
    try:
        public = sort.public(keys.read_small(path, "public key", regular=True), str(path))
    except AirgapError as error:
        yield wrong(
            "keys.pair",
            error.message,
            where=str(path),
            expected="the public half of the key",
            cure="restore it from a copy; the other side has one: it was given this file",
        )
        return
    if private is None:
        yield not_checked(
            "keys.pair",
            f"{path.stem}: whether the halves fit shows the passphrase only",
        )
    elif private.public.key_id != public.key_id:
        yield wrong(
            "keys.pair",
            f"the public key is not the one of the private key beside it: {public.fingerprint}",
            where=str(path),
            expected=private.public.fingerprint,
            cure="put both files back from one copy; receipts and bundles would be refused",
        )
    else:
        yield ok("keys.pair", f"{path.stem}: both halves are one key's, {public.fingerprint}")


def _passphrases(scene: Scene, sort: _Sort) -> list[bytes]:
    """Return the passphrases that commands would take without asking anybody."""
    found = [scene.environment.get(sort.variable, "").encode("utf-8", "surrogateescape")]
    for setting in scene.settings:
        if setting.name in sort.options and isinstance(setting.value, str):
            try:
                data = keys.read_small(Path(setting.value), "passphrase", regular=True)
            except (AirgapError, ValueError):
                continue  # Said where files of credentials are looked at.
            found.append(data.split(b"\n")[0].rstrip(b"\r"))
    return [one for one in dict.fromkeys(found) if one]
