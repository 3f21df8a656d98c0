"""A home: the folder in which one side keeps its configuration, keys, trust store and database."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from airgap import catalog, configuration, pgurl, settings
from airgap.errors import NoHomeError, UsageError
from airgap.files import sync_folder, write_atomically
from airgap.trust import keys
from airgap.trust.keys import Passphrase, PrivateKey, PublicKey

if TYPE_CHECKING:
    from airgap.moved import Mark

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""What a source or a workstation can be called."""

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")
"""Names that Windows takes for devices, whatever follows a full stop (its "Naming Files" page)."""

_LARGEST = 256 * 1024

Side = Literal["isolated", "workstation"]

_TEMPLATE = """\
# airgap.toml: what this home is. Flags win over AIRGAP_... variables, those over this file.
# airgap config show --origin: what is in effect, and why. airgap config check: every mistake in here.
side = "{side}"
name = "{name}"

# One table per command gives its options' defaults, for instance:
# [{example}]
# {option}
"""
_EXAMPLES = {
    "isolated": ("export", 'to = "/media/stick"'),
    "workstation": ("import", 'license_file = ["/etc/airgap/license.key"]'),
}


def default_home() -> Path:
    """Return the home's default place: AIRGAP_HOME, or the user's data folder."""
    chosen = os.environ.get("AIRGAP_HOME")
    if chosen:
        return Path(chosen)
    from platformdirs import user_data_path

    return user_data_path("airgap", appauthor=False)


@dataclass(frozen=True, slots=True)
class Home:
    """Where one side keeps what it knows.

    Args:
        path: the folder, mode 0700.
        side: isolated host or connected workstation.
        name: the source's name on the isolated side, the importer's on the other.
        settings: the whole configuration file.
        ledger: the workstation's ledger, where another one is chosen than the file says; or None.
    """

    path: Path
    side: Side
    name: str
    settings: dict[str, Any]
    ledger: str | None = None

    @property
    def trust_path(self) -> Path:
        """The trust store."""
        return self.path / "trust.json"

    @property
    def keys_path(self) -> Path:
        """Folder of this side's own keys."""
        return self.path / "keys"

    @property
    def outbox_path(self) -> Path:
        """The isolated side's outbox."""
        return self.path / "outbox.sqlite"

    def with_ledger(self, chosen: str | None) -> "Home":
        """Return the home with another ledger than its file names.

        Args:
            chosen: a file, from the current folder on, or a database's URL; None or nothing: no other.
        """
        if not chosen:
            return self
        place = chosen if pgurl.is_url(chosen) else str(Path(chosen).expanduser().absolute())
        return replace(self, ledger=place)

    def with_file(self) -> "Home":
        """Return the home with a file as its ledger: its own, where a server is chosen."""
        chosen = self._chosen_ledger
        if chosen is None or not pgurl.is_url(chosen):
            return self
        return replace(self, ledger=str(self.path / "ledger.sqlite"))

    @property
    def ledger_url(self) -> str | None:
        """Where a ledger is that several workstations share, or None where it is a file."""
        chosen = self._chosen_ledger
        if chosen is None or not pgurl.is_url(chosen):
            return None
        self._require_no_other(pgurl.shown(chosen))
        return chosen

    @property
    def ledger_path(self) -> Path:
        """The workstation's ledger: in the home, or where ``ledger`` of airgap.toml says.

        Two homes on one machine may share a ledger.
        """
        chosen = self._chosen_ledger
        if chosen is None:
            return self.path / "ledger.sqlite"
        shared = (self.path / Path(chosen).expanduser()).resolve()
        if shared != (self.path / "ledger.sqlite").resolve():
            self._require_no_other(str(shared))
        if not shared.parent.is_dir():
            raise UsageError(
                "the shared ledger's folder is not there",
                where=str(shared.parent),
                hint="mount or make it, or correct `ledger` in airgap.toml",
            )
        return shared

    @property
    def moved(self) -> "Mark | None":
        """Where the home's own ledger went, if that was moved to a server."""
        own = self.path / "ledger.sqlite"
        if not own.exists():
            return None
        from airgap import moved  # most commands need no SQLite

        return moved.read(own)

    @property
    def ledger_name(self) -> str:
        """Where the ledger is, as it may be shown."""
        url = self.ledger_url
        return str(self.ledger_path) if url is None else pgurl.shown(url)

    @property
    def ledger_lock(self) -> Path:
        """Lock file of whoever imports into a ledger that is a file."""
        return self.ledger_path.with_name(f"{self.ledger_path.name}.lock")

    @property
    def import_lock(self) -> Path:
        """Lock file of whoever imports from this home, whichever ledger that is into."""
        return self.path / "import.lock"

    @property
    def _chosen_ledger(self) -> str | None:
        if self.ledger is not None:
            return self.ledger
        chosen = self.settings.get("ledger")
        if isinstance(chosen, dict):  # beside the tables of the ledger's commands
            chosen = cast("dict[str, str]", chosen).get("path")
        return cast("str | None", chosen)

    def _require_no_other(self, chosen: str) -> None:
        own = self.path / "ledger.sqlite"
        mark = self.moved
        if mark is not None:
            if pgurl.is_url(chosen):
                return  # whether that is the ledger which it became is seen when it is opened
            from airgap import moved

            raise moved.refusal(mark, own)
        if own.exists():
            who = "airgap.toml" if self.ledger is None else "--ledger or AIRGAP_LEDGER"
            raise UsageError(
                f"this home has a ledger of its own, and {who} names another one",
                where=str(own),
                expected="one ledger: what another does not know, it delivers again",
                found=chosen,
                hint=f"leave `ledger` out; or move it there: where that is a file, {own.name} and what "
                "begins with its name, where it is a server: airgap ledger move URL",
            )

    @property
    def contact(self) -> str | None:
        """Whom a carrier can ask: ``contact`` of airgap.toml."""
        found: str | None = self.settings.get("contact")
        return found

    @property
    def audit_path(self) -> Path:
        """The audit log."""
        return self.path / "audit.jsonl"

    def folder(self, name: str) -> Path:
        """Return a private folder in the home, made when it is not there."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def require(self, side: Side) -> None:
        """Check that this home is of the side that a command needs.

        Raises:
            UsageError: it is of the other.
        """
        if self.side != side:
            raise UsageError(
                f"this home is the {self.side} side's, and the command is the {side} side's",
                where=str(self.path),
                hint="name the other home with --home or AIRGAP_HOME",
            )

    def key_names(self) -> list[str]:
        """Return the names of this side's own keys."""
        return (
            sorted(p.stem for p in self.keys_path.glob("*.pem")) if self.keys_path.is_dir() else []
        )

    def public_key(self, name: str) -> PublicKey:
        """Return the public half of one of this side's own keys."""
        path = self.keys_path / f"{name}.pub"
        return keys.public_from_bytes(keys.read_small(path, "public key"), where=str(path))

    def private_key(
        self,
        choice: str | None,
        passphrase: Passphrase,
        fits: Callable[[PublicKey], bool] | None = None,
    ) -> PrivateKey:
        """Return the private key to sign with.

        Args:
            choice: name of one of this side's keys, or the path of a key file; None takes the
                only one there is that fits.
            passphrase: asked for when the key is protected.
            fits: tells whether a key is for this purpose, or None where any is.

        Raises:
            UsageError: no key, or several and no choice.
            TrustError: see ``keys.read_private``.
        """
        names = self.key_names()
        if choice is None:
            fitting = [n for n in names if fits is None or fits(self.public_key(n))]
            names = fitting or names
            if len(names) != 1:
                raise UsageError(
                    "there is no key to sign with" if not names else "there are several keys",
                    where=str(self.keys_path),
                    found=", ".join(names) or "none",
                    hint="airgap key generate" if not names else "choose one with --key NAME",
                )
            choice = names[0]
        path = self.keys_path / f"{choice}.pem" if choice in names else Path(choice)
        return keys.read_private(path, passphrase)

    def add_key(self, name: str, key: PrivateKey, passphrase: bytes | None) -> tuple[Path, Path]:
        """Write a new key pair; never over one that is there.

        Returns:
            Paths of the private (mode 0600) and the public file.

        Raises:
            UsageError: there is a key of that name.
        """
        self.require_no_key(name)
        folder = self.folder("keys")
        private, public = folder / f"{name}.pem", folder / f"{name}.pub"
        # A private key whose public half is missing, after a crash between them, would stop every
        # command that looks for a key to sign with.
        write_atomically(public, key.public.pem.encode(), mode=0o644)
        write_atomically(private, keys.to_pem(key, passphrase), mode=0o600)
        return private, public

    def require_no_key(self, name: str) -> None:
        """Check that no key has a name, retired ones included.

        Raises:
            UsageError: there is a key of that name.
        """
        for folder in (self.keys_path, self.keys_path / "retired"):
            for suffix in (".pem", ".pub"):
                if (folder / f"{name}{suffix}").exists():
                    raise UsageError(
                        f"there is a key named {name} already",
                        where=str(folder / f"{name}{suffix}"),
                        hint="choose another name; airgap never overwrites a key",
                    )

    def retire_key(self, name: str) -> None:
        """Put a key pair aside, where nothing signs with it by itself; first the private half."""
        retired = self.keys_path / "retired"
        retired.mkdir(mode=0o700, exist_ok=True)
        for suffix in (".pem", ".pub"):
            (self.keys_path / f"{name}{suffix}").rename(retired / f"{name}{suffix}")
        sync_folder(retired)
        sync_folder(self.keys_path)


def create(path: Path, side: Side, name: str) -> Home:
    """Make a home.

    Raises:
        UsageError: there is one already, the folder can't be made, or files of that name can't.
    """
    if _DEVICE.match(name):
        raise UsageError(
            f"{name} is no name for files: Windows takes it for a device",
            expected=f"another name, for instance site-{name}",
            hint="a stick may be read there: CON, PRN, AUX, NUL, COM1 to COM9 and LPT1 to LPT9 are taken, "
            "also with a full stop and more behind them",
        )
    if (path / "airgap.toml").exists():
        there = open_home(path)
        raise UsageError(
            f"there is a home already: {there.side} side, {there.name}",
            where=str(path),
            hint="choose another folder with --home; airgap never sets one up twice",
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UsageError(
                "the folder is not empty",
                where=str(path),
                expected="a folder of its own, or a path that does not exist yet",
                hint="choose another folder with --home",
            )
        path.chmod(0o700)
    except OSError as error:
        raise UsageError(
            f"the home can't be made: {error.strerror}",
            where=str(path),
            hint="check the permissions of the folder above it, or choose another with --home",
        ) from None
    example, option = _EXAMPLES[side]
    text = _TEMPLATE.format(side=side, name=name, example=example, option=option)
    write_atomically(path / "airgap.toml", text.encode(), mode=0o600)
    return open_home(path)


def open_home(path: Path) -> Home:
    """Return the home in a folder.

    Raises:
        UsageError: there is none, or its configuration is not valid.
    """
    text = read_settings(path)
    file = path / configuration.FILE
    values = configuration.parse(text, where=str(file))
    schemas = catalog.load()
    found = settings.mistakes(values, schemas)
    if found:
        schema = schemas.schema(settings.SCHEMA)
        raise configuration.refusal(found, configuration.lines(text), schema, where=str(file))
    return Home(path, values["side"], values["name"], values)


def read_settings(path: Path) -> str:
    """Return the text of a home's configuration file.

    Raises:
        NoHomeError: there is none.
        UsageError: it can't be read, or is too large.
    """
    file = path / configuration.FILE
    try:
        with file.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise UsageError(
                "the configuration is too large",
                where=str(file),
                expected=f"at most {_LARGEST} bytes",
                hint="it is a page of settings: look at what the file is",
            )
        return data.decode("utf-8")
    except FileNotFoundError:
        raise NoHomeError(
            "there is no airgap home here",
            where=str(path),
            hint="airgap init --source NAME on the isolated host, "
            "airgap init --workstation NAME on the connected one; or name it with --home",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the configuration can't be read: "
            + (str(error.strerror) if isinstance(error, OSError) else f"no UTF-8 text ({error})"),
            where=str(file),
            hint="check whose it is and its permissions: airgap doctor says more",
        ) from None


def passphrase_from(
    *, file: Path | None, environment: bytes | None, prompt: Callable[[str], str] | None
) -> Passphrase:
    """Return where a passphrase comes from: a file's first line, a variable, or a question.

    Args:
        file: file that holds it, or None.
        environment: value of AIRGAP_PASSPHRASE, or None.
        prompt: asks a person, or None where nobody is there.
    """

    def ask(what: str) -> bytes | None:
        if file is not None:
            return keys.read_small(file, "passphrase").split(b"\n")[0].rstrip(b"\r") or None
        if environment is not None:
            return environment or None
        if prompt is not None:
            return prompt(what).encode() or None
        return None

    return ask
