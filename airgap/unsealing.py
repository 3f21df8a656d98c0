"""A home's keys for sealing: its own, which open, and the recipients that it may seal to."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from airgap.bundle.sealing import Context, FileKey, Sealing
from airgap.errors import TrustError, UsageError
from airgap.files import write_atomically
from airgap.home import Home
from airgap.limits import MAX_RECIPIENTS
from airgap.text import printable
from airgap.trust import recipients, spoken
from airgap.trust.keys import Passphrase
from airgap.trust.recipients import Recipient, RecipientKey

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LEAST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Named:
    """A public key in a home, with its name there."""

    name: str
    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Unsealer:
    """Opens sealed bundles with a home's own keys; each passphrase is asked for once.

    Args:
        home: the home.
        passphrase: asked only for a key that a bundle is sealed to.
    """

    home: Home
    passphrase: Passphrase
    _opened: dict[str, RecipientKey] = field(default_factory=dict)

    def fits(self, sealing: Sealing) -> bool:
        """Tell whether one of the home's keys is among the recipients."""
        return self._chosen(sealing) is not None

    def __call__(self, sealing: Sealing, context: Context, where: str) -> FileKey:
        """See ``recipients.Opener``."""
        own = self._chosen(sealing)
        if own is None:
            there = [key.recipient.key_id for key in own_keys(self.home)]
            raise recipients.cannot_open(sealing, there, where=where)
        key_id = own.recipient.key_id
        if key_id not in self._opened:
            path = self.home.path / "sealing" / f"{own.name}.pem"
            key = recipients.read_private(path, self.passphrase)
            if key.public != own.recipient:
                raise TrustError(
                    "the private key is not the one of the public key beside it",
                    where=str(path),
                    expected=own.recipient.fingerprint,
                    found=key.public.fingerprint,
                    hint="put the files back as `airgap recipient generate` wrote them",
                )
            self._opened[key_id] = key
        return self._opened[key_id].unwrap(sealing, context, where=where)

    def _chosen(self, sealing: Sealing) -> Named | None:
        wanted = {r.key_id for r in sealing.recipients}
        fitting = [key for key in own_keys(self.home) if key.recipient.key_id in wanted]
        # One that is open already, so that nobody is asked twice.
        fitting.sort(key=lambda key: key.recipient.key_id not in self._opened)
        return fitting[0] if fitting else None


def own_keys(home: Home) -> list[Named]:
    """Return the public halves of the keys that this home opens bundles with."""
    return _public_keys(home.path / "sealing", "*.pem")


def known_recipients(home: Home) -> list[Named]:
    """Return the recipients that this home may seal to: those that were added, and its own keys."""
    return [*_public_keys(home.path / "recipients", "*.pub"), *own_keys(home)]


def add_own(
    home: Home, name: str, key: RecipientKey, passphrase: bytes | None
) -> tuple[Path, Path]:
    """Write a new key pair; never over one that is there.

    Returns:
        Paths of the private (mode 0600) and the public file.

    Raises:
        UsageError: there is a key of that name, or it can't be one.
    """
    folder = home.folder("sealing")
    private, public = (folder / f"{check_name(name)}{suffix}" for suffix in (".pem", ".pub"))
    if private.exists() or public.exists() or name in names(home).values():
        raise UsageError(
            f"there is a key named {name} already",
            where=str(private),
            hint="choose another name with --name; airgap never overwrites a key",
        )
    write_atomically(public, key.public.pem.encode(), mode=0o644)
    write_atomically(private, recipients.to_pem(key, passphrase), mode=0o600)
    return private, public


def add_recipient(home: Home, name: str, recipient: Recipient) -> Path:
    """Keep a recipient's public key, so that bundles can be sealed to it.

    Raises:
        UsageError: there is one of that name, or the key has another name already.
    """
    path = home.folder("recipients") / f"{check_name(name)}.pub"
    there = names(home)
    if path.exists() or name in there.values() or recipient.key_id in there:
        raise UsageError(
            "this recipient is known already",
            where=str(home.path / "recipients"),
            found=f"{there.get(recipient.key_id, name)}",
            hint="see `airgap recipient list`; take one away with `airgap recipient remove NAME`",
        )
    write_atomically(path, recipient.pem.encode(), mode=0o644)
    return path


def remove_recipient(home: Home, choice: str) -> Named:
    """Forget a recipient, by name or the beginning of its fingerprint; return what it was.

    Raises:
        UsageError: there is no such one, or it is this home's own key.
    """
    found = find_recipient(home, choice)
    path = home.path / "recipients" / f"{found.name}.pub"
    if not path.exists():
        raise UsageError(
            "this is a key of this home's own, which airgap never deletes",
            where=str(home.path / "sealing"),
            found=found.name,
            hint="bundles are sealed to it only where --seal-to or airgap.toml names it",
        )
    path.unlink()
    return found


def names(home: Home) -> dict[str, str]:
    """Return what this home calls the keys that it seals to or opens with, by key id."""
    return {k.recipient.key_id: k.name for k in known_recipients(home)}


def find_recipient(home: Home, choice: str) -> Named:
    """Return a recipient by its name, or by at least 16 digits of its fingerprint.

    Raises:
        UsageError: there is no such one, or a file is named.
    """
    known = known_recipients(home)
    digits = spoken.digits(choice)
    found = [k for k in known if k.name == choice] or [
        k for k in known if len(digits) >= _LEAST_DIGITS and k.recipient.key_id.startswith(digits)
    ]
    if len(found) == 1:
        return found[0]
    is_file = Path(choice).suffix == ".pub" or "/" in choice
    raise UsageError(
        "a bundle is not sealed to a key that was never compared"
        if is_file
        else "there is no such recipient",
        where=str(home.path / "recipients"),
        expected=", ".join(f"{k.name} ({k.recipient.fingerprint})" for k in known)
        or "none is known yet",
        found=printable(choice),
        hint="add the key once, with the fingerprint that its owner tells you: "
        "airgap recipient add FILE --fingerprint DIGITS",
    )


def chosen_recipients(home: Home, choices: tuple[str, ...]) -> tuple[Recipient, ...]:
    """Return whom to seal to, each once, in the order given.

    Raises:
        UsageError: there is no such one, or there are too many.
    """
    found = {r.key_id: r for r in (find_recipient(home, c).recipient for c in choices)}
    if len(found) > MAX_RECIPIENTS:
        raise UsageError(
            "these are too many recipients",
            expected=f"at most {MAX_RECIPIENTS}",
            found=str(len(found)),
        )
    return tuple(found.values())


def check_name(name: str) -> str:
    """Return a name that a key can have.

    Raises:
        UsageError: it can't.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            "the name can't be used",
            expected="letters, digits, dots, - and _, at most 64",
            found=printable(name),
        )
    return name


def _public_keys(folder: Path, pattern: str) -> list[Named]:
    if not folder.is_dir():
        return []
    names = sorted(path.name[:-4] for path in folder.glob(pattern) if not path.name.startswith("."))
    return [Named(name, recipients.read_public(folder / f"{name}.pub")) for name in names]
