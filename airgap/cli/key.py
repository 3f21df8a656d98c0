"""``airgap key``: this side's own keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import click

from airgap import catalog, timestamps
from airgap.audit import record
from airgap.cli.common import (
    Output,
    airgap_command,
    ask_passphrase,
    key_option,
    passphrase_option,
)
from airgap.cli.passphrases import new_passphrase
from airgap.cli.trusting import changing
from airgap.errors import UsageError
from airgap.files import exclusive, write_atomically
from airgap.home import Home, open_home
from airgap.outbox import Outbox
from airgap.trust import keys, spoken, succession
from airgap.trust import store as trust_store
from airgap.trust.entries import ANY_SOURCE, Role, TrustedKey
from airgap.trust.keys import ED25519, HYBRID, PrivateKey, PublicKey


@click.group("key")
def command() -> None:
    """Make and show this side's own keys."""


@airgap_command("generate", audited=True)
@click.option("--name", default="default", show_default=True, help="The key's name in this home.")
@click.option("--hybrid", is_flag=True, help="Ed25519 and ML-DSA-65: both must be broken to forge.")
@click.option(
    "--role",
    type=click.Choice(("exporter", "importer", "reviewer", "root")),
    help="What it is for; default: exporter on the isolated host, importer on the workstation.",
)
@click.option("--no-passphrase", is_flag=True, help="Do not ask for a passphrase.")
@passphrase_option
def _generate(
    out: Output,
    home_path: Path,
    name: str,
    role: str | None,
    passphrase_file: Path | None,
    *,
    hybrid: bool,
    no_passphrase: bool,
) -> None:
    """Make a key pair to sign with: Ed25519, or a hybrid one.

    This side trusts it for its own role; a root key, which signs trust stores, for none.
    On a terminal a passphrase is asked for; an empty one leaves the key file unprotected.
    Elsewhere only --no-passphrase does.

    \b
    Example:
      airgap key generate
      airgap key generate --hybrid --passphrase-file /etc/airgap/passphrase
      airgap key generate --name alice --role reviewer
    """
    home = open_home(home_path)
    own: Role = "exporter" if home.side == "isolated" else "importer"
    wanted = role or own
    with changing(home) as store:
        key, (private, public), passphrase = _make(
            home, name, passphrase_file, hybrid=hybrid, no_passphrase=no_passphrase
        )
        if wanted != "root" and not store.signed:
            _trust_own(home, store, key, cast("Role", wanted))
    protected = "protected by the passphrase" if passphrase else "not protected by a passphrase"
    out.result(
        {
            "name": name,
            "key_id": key.public.key_id,
            "algorithm": key.public.algorithm,
            "role": wanted,
            "fingerprint": key.public.fingerprint,
            "private_key": str(private),
            "public_key": str(public),
            "passphrase": bool(passphrase),
        }
    )
    record("key made", fingerprint=key.public.fingerprint)
    out.say(f"Fingerprint: {key.public.fingerprint}")
    out.say(f"Wrote {private} (mode 0600, {protected}).")
    out.say(f"Wrote {public}. {_next_step(home, public, wanted, signed=store.signed)}")


def _next_step(home: Home, public: Path, role: str, *, signed: bool) -> str:
    other = "isolated host" if role == "importer" else "workstation"
    source = f" --source {home.name}" if role != "importer" and home.side == "isolated" else ""
    if role == "root":
        return f"Next, where the trust store is made: airgap trust root add {public.name}"
    if signed:
        return (
            "This home takes its trust from root keys. Next: carry it to their holders, and there: "
            f"airgap trust add {public.name} --role {role}{source}"
        )
    return (
        f"Next: carry it to the {other}, "
        f"and there: airgap trust add {public.name} --role {role}{source}"
    )


@airgap_command("rotate", audited=True)
@click.argument("name")
@click.option("--hybrid", is_flag=True, help="Make a hybrid key, also where the old one is none.")
@click.option("--no-passphrase", is_flag=True, help="Do not ask for a passphrase for the new key.")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path),
    help="First line: the new key's passphrase; else the old one's file.",
)
@key_option
@passphrase_option
def _rotate(
    out: Output,
    home_path: Path,
    name: str,
    key_choice: str | None,
    passphrase_file: Path | None,
    new_passphrase_file: Path | None,
    *,
    hybrid: bool,
    no_passphrase: bool,
) -> None:
    """Make the key NAME, which follows this side's key; the old one signs that it does.

    The other side then trusts it without another call (airgap trust succeed), in the same roles.
    The chain of bundles goes on. The old key is kept in keys/retired and signs nothing more.

    \b
    Example:
      airgap key rotate 2027
      airgap key rotate 2027 --hybrid --key default
    """
    home = open_home(home_path)
    schemas = catalog.load()
    with changing(home) as store, _nothing_signed(home):
        if store.signed:
            raise UsageError(
                "this home takes its trust from root keys: a key follows another there",
                where=str(home.path),
                hint="airgap key generate --name NEW, and carry NEW.pub to the holders of the root keys",
            )
        path = home.keys_path / f"{name}{succession.SUFFIX}"
        if path.exists() and _end_cut_off(home, store, path):
            out.result({"name": name, "succession": str(path)})
            out.say(f"{path} was in force; the old key is now in {home.keys_path / 'retired'}")
            out.say(
                f"Next: carry it to the other side, and there: airgap trust succeed {path.name}"
            )
            return
        own: Role = "exporter" if home.side == "isolated" else "importer"
        old = home.private_key(key_choice, ask_passphrase(passphrase_file), store.is_for(own))
        old_name = next((n for n in home.key_names() if home.public_key(n) == old.public), None)
        if old_name is None or old.public.key_id not in store.keys:
            raise UsageError(
                "only one of this home's own, trusted keys can be followed by another",
                where=str(home.keys_path),
                found=old.public.fingerprint,
                hint="see `airgap key list` and `airgap trust list`",
            )
        entry, now = store.keys[old.public.key_id], timestamps.system_clock()
        succession.require_able(entry, now, where=old_name)
        first = _next_sequence(home) if "exporter" in entry.roles else None
        new, (_, public), _ = _make(
            home,
            name,
            new_passphrase_file or passphrase_file,
            hybrid=hybrid or old.public.algorithm == HYBRID,
            no_passphrase=no_passphrase,
        )
        now = timestamps.system_clock()
        made = succession.make(old, new, home.name, first, schemas, now).encode()
        write_atomically(path, made, mode=0o644)
        following, _, _ = succession.follow(store, made, schemas, now, where=str(path))
        trust_store.save(home.trust_path, following)
        home.retire_key(old_name)
    out.result(
        {
            "name": name,
            "old": old.public.key_id,
            "key_id": new.public.key_id,
            "algorithm": new.public.algorithm,
            "fingerprint": new.public.fingerprint,
            "from_sequence": first,
            "public_key": str(public),
            "succession": str(path),
        }
    )
    record("key rotated", old=old.public.fingerprint, fingerprint=new.public.fingerprint)
    out.say(f"Old key:  {old.public.fingerprint}, now in {home.keys_path / 'retired'}")
    out.say(f"New key:  {new.public.fingerprint} ({new.public.algorithm})")
    if first is not None:
        out.say(f"It signs from bundle {first} on.")
    out.say(
        f"Wrote {path}. Next: carry it to the other side, and there: airgap trust succeed {path.name}"
    )


@airgap_command("list")
def _list(out: Output, home_path: Path) -> None:
    """Show this side's own keys.

    \b
    Example:
      airgap key list
    """
    home = open_home(home_path)
    found = [(name, home.public_key(name)) for name in home.key_names()]
    out.result(
        {
            "keys": [
                {
                    "name": n,
                    "key_id": k.key_id,
                    "algorithm": k.algorithm,
                    "fingerprint": k.fingerprint,
                }
                for n, k in found
            ]
        }
    )
    if not found:
        out.say(f"No keys in {home.keys_path}. Next: airgap key generate")
        return
    out.table(
        ("name", "algorithm", "fingerprint"),
        [(name, key.algorithm, key.fingerprint) for name, key in found],
    )


@airgap_command("fingerprint")
@click.argument("key", required=False)
@click.option("--words", is_flag=True, help="As twelve words too, to read over the phone.")
@click.option("--qr", is_flag=True, help="The whole key id as a QR code too.")
def _fingerprint(out: Output, home_path: Path, key: str | None, *, words: bool, qr: bool) -> None:
    """Show a key's fingerprint.

    KEY is a public key file, or one of this side's keys by name. Where a fingerprint is asked
    for, the twelve words can be typed in its place.

    \b
    Example:
      airgap key fingerprint
      airgap key fingerprint /media/stick/default.pub --words
    """
    public = _find_public(home_path, key)
    said = spoken.words(public.key_id) if words else None
    code = spoken.qr_code(public.key_id) if qr else None
    out.result(
        {
            "key_id": public.key_id,
            "algorithm": public.algorithm,
            "fingerprint": public.fingerprint,
            "words": said,
        }
    )
    out.say(public.fingerprint)
    if said is not None:
        out.say(*said.split("\n"))
    if code is not None:
        out.say(*code.split("\n"))


def _find_public(home_path: Path, key: str | None) -> PublicKey:
    if key is not None and Path(key).is_file():
        return keys.public_from_bytes(keys.read_small(Path(key), "public key"), where=key)
    home = open_home(home_path)
    names = home.key_names()
    if key is None and len(names) > 1:
        raise UsageError(
            f"there are {len(names)} keys; name one: {', '.join(names)}",
            where=str(home.keys_path),
            hint="airgap key fingerprint NAME",
        )
    name = key or (names[0] if names else None)
    if name not in names:
        raise UsageError(
            "there is no such key",
            expected=f"a public key file, or one of: {', '.join(names) or 'no keys yet'}",
            found=key or "no name",
            hint="see `airgap key list`",
        )
    return home.public_key(str(name))


def _make(
    home: Home, name: str, passphrase_file: Path | None, *, hybrid: bool, no_passphrase: bool
) -> tuple[PrivateKey, tuple[Path, Path], bytes | None]:
    """Make a key pair in the home; return it, its files, and its passphrase."""
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise UsageError("the name can't be used", expected="letters, digits, - and _")
    home.require_no_key(name)
    passphrase = (
        None
        if no_passphrase
        else new_passphrase(passphrase_file, "AIRGAP_PASSPHRASE", "the new key")
    )
    key = keys.generate(HYBRID if hybrid else ED25519)
    return key, home.add_key(name, key, passphrase), passphrase


@contextmanager
def _nothing_signed(home: Home) -> Iterator[None]:
    """Keep export or import from signing with a key that another one is about to follow."""
    is_isolated = home.side == "isolated"
    lock = home.path / "export.lock" if is_isolated else home.import_lock
    with exclusive(lock, "export" if is_isolated else "import"):
        yield


def _end_cut_off(home: Home, store: trust_store.TrustStore, path: Path) -> bool:
    """Put the old key aside where a run was cut off before it did; tell whether it is in force.

    A succession that was written and never came into force is removed: bundles may have been made
    since that it does not know of.
    """
    data = keys.read_small(path, "succession")
    _, value, new = succession.successor(data, catalog.load(), where=str(path))
    old = store.keys.get(value["old"])
    if old is None or new.key_id not in (home.public_key(n).key_id for n in home.key_names()):
        return False
    if old.followed_by is None:
        path.unlink()
        return False
    if old.followed_by != new.key_id:
        return False
    for left in [n for n in home.key_names() if home.public_key(n) == old.public]:
        home.retire_key(left)
    return True


def _next_sequence(home: Home) -> int:
    """Return the number of the next bundle."""
    outbox = Outbox(home.outbox_path, home.name, catalog.load())
    try:
        return outbox.next_bundle()[0]
    finally:
        outbox.close()


def _trust_own(home: Home, store: trust_store.TrustStore, key: PrivateKey, role: Role) -> None:
    """Let this side verify what it signs itself."""
    entry = TrustedKey(
        public=key.public,
        roles=(role,),
        sources=(home.name,) if home.side == "isolated" else (ANY_SOURCE,),
        not_before=None,
        not_after=None,
        revoked=None,
        comment="this side's own key",
        added_at=timestamps.system_clock(),
    )
    trust_store.save(home.trust_path, store.with_key(entry))


for _command in (_generate, _rotate, _list, _fingerprint):
    command.add_command(_command)
