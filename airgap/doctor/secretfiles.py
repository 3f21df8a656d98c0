"""Files of credentials and passphrases that settings name. Of a key, only its fingerprint is said."""

import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from airgap import credentials
from airgap.doctor.findings import Finding, ok, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError
from airgap.settings import Setting
from airgap.text import printable
from airgap.trust import keys

_CREDENTIALS = {"license_file": "license", "api_key_file": "api_key"}
_SECRETS = (
    "passphrase_file",
    "sealing_passphrase_file",
    "new_passphrase_file",
    "token_file",
    "tls_key",
    "secret_file",
)
_VARIABLES = {"AIRGAP_LICENSE_KEY": "license", "AIRGAP_API_KEY": "api_key"}


def look(scene: Scene) -> Iterator[Finding]:
    """Look at each file of a key, passphrase or token that the configuration names."""
    named = sorted(
        {
            (setting.name, path, place_of(setting))
            for setting in scene.settings
            if setting.name in _CREDENTIALS or setting.name in _SECRETS
            for path in (setting.value if isinstance(setting.value, list) else [setting.value])
            if isinstance(path, str)
        }
    )
    for option, path, place in named:
        yield from one(Path(path), option, place)
    if not named:
        yield ok("credentials.files", "neither airgap.toml nor the environment names one")


def place_of(setting: Setting) -> str:
    """Return where a setting comes from, for people."""
    if setting.origin == "file":
        return f"{setting.path} in airgap.toml"
    return f"profile {setting.source}" if setting.origin == "profile" else str(setting.source)


def one(path: Path, option: str, place: str) -> Iterator[Finding]:
    """Look at one file.

    Args:
        path: the file.
        option: what names it; says what it holds.
        place: what names it, for the message.
    """
    shown = f"{printable(str(path), 300)}, {place}"
    try:
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        said = _content(path, option)
    except (AirgapError, OSError, ValueError) as error:
        yield wrong(
            "credentials.files",
            error.message
            if isinstance(error, AirgapError)
            else f"it can't be read: {_plain(error)}",
            where=shown,
            expected="one line of text, the key"
            if option in _CREDENTIALS
            else "a file that this user can read",
            cure="correct the path there, or the file's permissions and content",
        )
        return
    if mode & 0o007:
        yield wrong(
            "credentials.files",
            f"everybody on this machine can read or change it: mode {mode:04o}",
            where=shown,
            expected="mode 0600, or 0640 with a group of its own",
            cure=f"chmod o-rwx {quote(str(path))}; if others may have read it, have the key replaced",
        )
    elif mode & 0o020:
        yield warning(
            "credentials.files",
            f"its group can change it: mode {mode:04o}",
            where=shown,
            expected="mode 0600, or 0640 with a group of its own",
            cure=f"chmod g-w {quote(str(path))}",
        )
    else:
        yield ok("credentials.files", f"{said}, mode {mode:04o}", shown)


def variables(scene: Scene) -> Iterator[Finding]:
    """Look at the variables that hold keys."""
    there = {n: v for n in _VARIABLES if (v := scene.environment.get(n, "").strip())}
    for name, value in there.items():
        kind = _VARIABLES[name]
        try:
            credentials.check(kind, value, where=name)
        except AirgapError as error:
            yield wrong(
                "credentials.environment",
                error.message,
                where=name,
                expected=error.expected,
                cure="correct the variable, or name a file with "
                f"--{'license' if kind == 'license' else 'api-key'}-file",
            )
        else:
            yield ok("credentials.environment", credentials.fingerprint(kind, value), name)
    if not there:
        yield ok("credentials.environment", "neither is set")


def _content(path: Path, option: str) -> str:
    kind = _CREDENTIALS.get(option)
    if kind is not None:
        secret = credentials.read_secret_file(str(path), kind=kind)
        return credentials.fingerprint(kind, secret)
    data = keys.read_small(path, option.replace("_", " "))
    return "readable" if data.strip() else "readable, and empty"


def _plain(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
