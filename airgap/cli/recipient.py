"""``airgap recipient``: the keys that bundles are sealed to."""

from pathlib import Path
from typing import Any

import click

from airgap import unsealing
from airgap.audit import record
from airgap.cli.common import (
    Output,
    airgap_command,
    on_side,
    sealing_passphrase_option,
)
from airgap.cli.passphrases import new_passphrase
from airgap.errors import UsageError
from airgap.files import exclusive
from airgap.home import open_home
from airgap.trust import recipients, spoken
from airgap.trust.recipients import Recipient


@click.group("recipient")
def command() -> None:
    """Say who can open sealed bundles."""


@airgap_command("generate", audited=True)
@click.option("--name", default="default", show_default=True, help="The key's name in this home.")
@click.option(
    "--hybrid", is_flag=True, help="ML-KEM-768 and X25519 together, against quantum computers."
)
@click.option("--no-passphrase", is_flag=True, help="Do not ask for a passphrase.")
@sealing_passphrase_option
def _generate(
    out: Output,
    home_path: Path,
    name: str,
    sealing_passphrase_file: Path | None,
    *,
    hybrid: bool,
    no_passphrase: bool,
) -> None:
    """Make a key pair that opens what is sealed to it.

    For the workstation, and for who reviews what is sealed. The private half never leaves its home;
    what is sealed to it alone can be opened by nobody once it is lost. On a terminal a passphrase is
    asked for; an empty one leaves the file unprotected. Elsewhere only --no-passphrase does.

    \b
    Example:
      airgap recipient generate
      airgap recipient generate --hybrid --name relay-1
    """
    home = open_home(home_path)
    unsealing.check_name(name)
    with exclusive(home.path / "sealing.lock", "change of keys"):
        passphrase = (
            None
            if no_passphrase
            else new_passphrase(
                sealing_passphrase_file, "AIRGAP_SEALING_PASSPHRASE", "the new sealing key"
            )
        )
        key = recipients.generate(hybrid=hybrid)
        private, public = unsealing.add_own(home, name, key, passphrase)
    protected = "protected by the passphrase" if passphrase else "not protected by a passphrase"
    out.result(
        {
            "name": name,
            **_as_map(key.public),
            "private_key": str(private),
            "public_key": str(public),
            "passphrase": bool(passphrase),
        }
    )
    record("sealing key made", fingerprint=key.public.fingerprint, suite=key.public.suite)
    out.say(f"Fingerprint: {key.public.fingerprint} ({key.public.suite})")
    out.say(f"Wrote {private} (mode 0600, {protected}).")
    if home.side == "isolated":
        out.say(
            f"Wrote {public}. Next: airgap export --to FOLDER --seal-to RECIPIENT --seal-to {name}"
        )
        return
    out.say(
        f"Wrote {public}. Next: carry it to the isolated host, and there: airgap recipient add "
        f'{public.name} --name {home.name} --fingerprint "{key.public.fingerprint}"'
    )


@airgap_command("add", audited=True)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--fingerprint",
    required=True,
    help="What its owner told you, in digits (at least 16) or words.",
)
@click.option("--name", help="What to call it here; default: the file's name.")
def _add(out: Output, home_path: Path, file: Path, fingerprint: str, name: str | None) -> None:
    """Let bundles be sealed to a public key.

    For the isolated host. The fingerprint has to be known from elsewhere, by phone or on paper:
    whoever swaps the file on the stick could otherwise read everything that is sealed from then on.

    \b
    Example:
      airgap recipient add /media/stick/default.pub --name relay-1 --fingerprint "3f2a 91bc 04d7 aa10"
    """
    home = on_side(home_path, "isolated")
    found = recipients.read_public(file)
    spoken.require(found.key_id, fingerprint, where=str(file))
    chosen = name or file.stem
    with exclusive(home.path / "sealing.lock", "change of keys"):
        path = unsealing.add_recipient(home, chosen, found)
    out.result({"name": chosen, **_as_map(found), "path": str(path)})
    record("recipient added", fingerprint=found.fingerprint, suite=found.suite)
    out.say(f"Fingerprint: {found.fingerprint} ({found.suite})")
    out.say(f"Wrote {path}. Next: airgap export --to FOLDER --seal-to {chosen}")


@airgap_command("list")
def _list(out: Output, home_path: Path) -> None:
    """Show the keys that this side seals to, or opens with.

    \b
    Example:
      airgap recipient list
    """
    home = open_home(home_path)
    is_isolated = home.side == "isolated"
    found = unsealing.known_recipients(home)
    out.result({"recipients": [{"name": k.name, **_as_map(k.recipient)} for k in found]})
    if not found:
        out.say(
            f"No recipients in {home.path / 'recipients'}. "
            "Next: airgap recipient add FILE --fingerprint DIGITS"
            if is_isolated
            else f"No sealing keys in {home.path / 'sealing'}. Next: airgap recipient generate"
        )
        return
    out.table(
        ("name", "fingerprint", "suite"),
        [(k.name, k.recipient.fingerprint, k.recipient.suite) for k in found],
    )


@airgap_command("fingerprint")
@click.argument("key")
def _fingerprint(out: Output, home_path: Path, key: str) -> None:
    """Show the fingerprint of a key to seal to.

    KEY is a public key file, or a name from `airgap recipient list`.

    \b
    Example:
      airgap recipient fingerprint /media/stick/default.pub
    """
    if Path(key).is_file():
        found = recipients.read_public(Path(key))
    else:
        home = open_home(home_path)
        there = {k.name: k.recipient for k in unsealing.known_recipients(home)}
        if key not in there:
            raise UsageError(
                "there is no such key",
                where=str(home.path),
                expected=f"a public key file, or one of: {', '.join(there) or 'no keys yet'}",
                found=key,
                hint="see `airgap recipient list`",
            )
        found = there[key]
    out.result(_as_map(found))
    out.say(found.fingerprint)


@airgap_command("remove", audited=True)
@click.argument("key")
def _remove(out: Output, home_path: Path, key: str) -> None:
    """Seal to a key no more.

    For the isolated host. KEY is its name, or at least 16 digits of its fingerprint. What was sealed
    to it before stays sealed to it.

    \b
    Example:
      airgap recipient remove relay-1
    """
    home = on_side(home_path, "isolated")
    with exclusive(home.path / "sealing.lock", "change of keys"):
        found = unsealing.remove_recipient(home, key)
    out.result({"removed": found.recipient.key_id})
    record("recipient removed", fingerprint=found.recipient.fingerprint)
    out.say(f"Removed {found.name}, {found.recipient.fingerprint}.")
    out.say("What is sealed to it already can still be opened with it.")


def _as_map(recipient: Recipient) -> dict[str, Any]:
    return {
        "key_id": recipient.key_id,
        "fingerprint": recipient.fingerprint,
        "suite": recipient.suite,
    }


for _command in (_generate, _add, _list, _fingerprint, _remove):
    command.add_command(_command)
