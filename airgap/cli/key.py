"""``airgap key``: this side's own keys."""

import os
import sys
from pathlib import Path

import click

from airgap import catalog, timestamps
from airgap.cli.common import Output, airgap_command, passphrase_option
from airgap.cli.recording import record
from airgap.errors import UsageError
from airgap.files import exclusive
from airgap.home import Home, open_home
from airgap.trust import keys
from airgap.trust import store as trust_store
from airgap.trust.keys import PrivateKey, PublicKey
from airgap.trust.store import ANY_SOURCE, Role, TrustedKey

_LONGEST_PASSPHRASE = 1023


@click.group("key")
def command() -> None:
    """Make and show this side's own keys."""


@airgap_command("generate", audited=True)
@click.option("--name", default="default", show_default=True, help="The key's name in this home.")
@click.option("--no-passphrase", is_flag=True, help="Do not ask for a passphrase.")
@passphrase_option
def _generate(
    out: Output, home_path: Path, name: str, passphrase_file: Path | None, *, no_passphrase: bool
) -> None:
    """Make an Ed25519 key pair.

    This side trusts it for its own role.
    On a terminal a passphrase is asked for; an empty one leaves the key file unprotected.

    \b
    Example:
      airgap key generate
      airgap key generate --passphrase-file /etc/airgap/passphrase
    """
    home = open_home(home_path)
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise UsageError("the name can't be used", expected="letters, digits, - and _")
    with exclusive(home.path / "trust.lock", "change of keys"):
        store = trust_store.load(home.trust_path, catalog.load())
        passphrase = None if no_passphrase else _new_passphrase(passphrase_file)
        if passphrase is not None and len(passphrase) > _LONGEST_PASSPHRASE:
            raise UsageError(
                "the passphrase is too long", expected=f"at most {_LONGEST_PASSPHRASE} bytes"
            )
        key = keys.generate()
        private, public = home.add_key(name, key, passphrase)
        _trust_own(home, store, key)
    protected = "protected by the passphrase" if passphrase else "not protected by a passphrase"
    out.result(
        {
            "name": name,
            "key_id": key.public.key_id,
            "fingerprint": key.public.fingerprint,
            "private_key": str(private),
            "public_key": str(public),
            "passphrase": bool(passphrase),
        }
    )
    record("key made", fingerprint=key.public.fingerprint)
    out.say(f"Fingerprint: {key.public.fingerprint}")
    out.say(f"Wrote {private} (mode 0600, {protected}).")
    other = "workstation" if home.side == "isolated" else "isolated host"
    role = "exporter" if home.side == "isolated" else "importer"
    out.say(
        f"Wrote {public}. Next: carry it to the {other}, "
        f"and there: airgap trust add {public.name} --role {role}"
        + (f" --source {home.name}" if home.side == "isolated" else "")
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
        {"keys": [{"name": n, "key_id": k.key_id, "fingerprint": k.fingerprint} for n, k in found]}
    )
    if not found:
        out.say(f"No keys in {home.keys_path}. Next: airgap key generate")
        return
    out.table(("name", "fingerprint"), [(name, key.fingerprint) for name, key in found])


@airgap_command("fingerprint")
@click.argument("key", required=False)
def _fingerprint(out: Output, home_path: Path, key: str | None) -> None:
    """Show a key's fingerprint.

    KEY is a public key file, or one of this side's keys by name.

    \b
    Example:
      airgap key fingerprint
      airgap key fingerprint /media/stick/default.pub
    """
    public = _find_public(home_path, key)
    out.result({"key_id": public.key_id, "fingerprint": public.fingerprint})
    out.say(public.fingerprint)


def _find_public(home_path: Path, key: str | None) -> PublicKey:
    if key is not None and Path(key).is_file():
        return keys.public_from_bytes(keys.read_small(Path(key), "public key"), where=key)
    home = open_home(home_path)
    names = home.key_names()
    name = key or (names[0] if len(names) == 1 else None)
    if name not in names:
        raise UsageError(
            "there is no such key",
            expected=f"a public key file, or one of: {', '.join(names) or 'no keys yet'}",
            found=key or "no name",
            hint="see `airgap key list`",
        )
    return home.public_key(str(name))


def _new_passphrase(file: Path | None) -> bytes | None:
    if file is not None:
        return keys.read_small(file, "passphrase").split(b"\n")[0].rstrip(b"\r") or None
    given = os.environ.get("AIRGAP_PASSPHRASE")
    if given is not None:
        return os.fsencode(given) or None
    if sys.stdin.isatty() and sys.stderr.isatty():
        answer = click.prompt(
            "Passphrase for the new key (empty: none)",
            default="",
            show_default=False,
            hide_input=True,
            confirmation_prompt="Once more",
            err=True,
        )
        return str(answer).encode() or None
    return None


def _trust_own(home: Home, store: trust_store.TrustStore, key: PrivateKey) -> None:
    """Let this side verify what it signs itself."""
    role: Role = "exporter" if home.side == "isolated" else "importer"
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


for _command in (_generate, _list, _fingerprint):
    command.add_command(_command)
