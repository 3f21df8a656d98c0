"""``airgap trust``: whose signatures count."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import cast

import click

from airgap import catalog, timestamps
from airgap.cli.common import Output, airgap_command
from airgap.cli.recording import record
from airgap.errors import TrustError, UsageError
from airgap.files import exclusive
from airgap.home import Home, open_home
from airgap.text import printable
from airgap.trust import keys
from airgap.trust import store as trust_store
from airgap.trust.store import ANY_SOURCE, Role, TrustedKey

_ROLES = ("exporter", "reviewer", "importer")


class _Moment(click.ParamType[datetime]):
    """A day or a date-time with its zone."""

    name = "date"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """See click.ParamType."""
        text = str(value)
        try:
            return timestamps.parse(f"{text}T00:00:00Z" if len(text) == 10 else text)
        except ValueError:
            self.fail("give 2026-01-31 or 2026-01-31T09:00:00Z", param, ctx)


@click.group("trust")
def command() -> None:
    """Say whose signatures count."""


@airgap_command("add", audited=True)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(_ROLES))
@click.option("--source", "sources", multiple=True, help="Source that it may sign for; or '*'.")
@click.option("--from", "not_before", type=_Moment(), help="Refuse files made before this.")
@click.option("--until", "not_after", type=_Moment(), help="Refuse files made from then on.")
@click.option("--comment", default="", help="Whose key it is.")
@click.option("--fingerprint", help="Add it only if its fingerprint begins so.")
def _add(
    out: Output,
    home_path: Path,
    file: Path,
    roles: tuple[str, ...],
    sources: tuple[str, ...],
    not_before: datetime | None,
    not_after: datetime | None,
    comment: str,
    fingerprint: str | None,
) -> None:
    """Trust a public key.

    For a role, for sources, for a time.

    On the isolated host the source is this one unless said otherwise; an exporter or reviewer
    on the workstation needs --source.

    \b
    Example, on the workstation:
      airgap trust add /media/stick/default.pub --role exporter --source bank-a.prod
    """
    home = open_home(home_path)
    public = keys.public_from_bytes(keys.read_small(file, "public key"), where=str(file))
    if fingerprint is not None:
        _require_fingerprint(public.key_id, fingerprint)
    if not sources:
        if home.side == "workstation" and set(roles) != {"importer"}:
            raise UsageError(
                "say for which source this key may sign",
                expected="--source NAME, or --source '*' for every source",
                hint="a key that may sign for every source can report one customer's usage as another's",
            )
        sources = (home.name,) if home.side == "isolated" else (ANY_SOURCE,)
    entry = TrustedKey(
        public=public,
        roles=cast("tuple[Role, ...]", tuple(sorted(set(roles)))),
        sources=tuple(sorted(set(sources))),
        not_before=not_before,
        not_after=not_after,
        revoked=None,
        comment=printable(comment, 256),
        added_at=timestamps.system_clock(),
    )
    catalog.load().require(
        "trust-store",
        {"format": "airgap-trust/1", "keys": [entry.as_map()]},
        where="the new entry",
        hint="correct the option",
    )
    with _changing(home) as store:
        trust_store.save(home.trust_path, store.with_key(entry))
    out.result({"key": entry.as_map()})
    record("key trusted", fingerprint=public.fingerprint)
    out.say(f"Fingerprint: {public.fingerprint}")
    out.say("Compare it with its owner by phone, or face to face, before you rely on it.")
    out.say(f"Wrote {home.trust_path}. Next: airgap trust list")


@airgap_command("list")
def _list(out: Output, home_path: Path) -> None:
    """Show the trusted keys.

    \b
    Example:
      airgap trust list
    """
    home = open_home(home_path)
    store = trust_store.load(home.trust_path, catalog.load())
    out.result({"keys": [key.as_map() for key in store.keys.values()]})
    if not store.keys:
        out.say(
            f"The trust store is empty: {home.trust_path}. Next: airgap trust add FILE --role ROLE"
        )
        return
    out.table(
        ("fingerprint", "roles", "sources", "valid", "comment"),
        [
            (
                key.public.fingerprint,
                ", ".join(key.roles),
                ", ".join(key.sources),
                _validity(key),
                printable(key.comment),
            )
            for key in store.keys.values()
        ],
    )


@airgap_command("remove", audited=True)
@click.argument("key")
def _remove(out: Output, home_path: Path, key: str) -> None:
    """Take a key out of the trust store.

    KEY is its fingerprint or the beginning of it.

    \b
    Example:
      airgap trust remove 3f2a91bc
    """
    home = open_home(home_path)
    with _changing(home) as store:
        found = store.find(key)
        trust_store.save(home.trust_path, store.without(found.public.key_id))
    out.result({"removed": found.public.key_id})
    record("key removed", fingerprint=found.public.fingerprint)
    out.say(f"Removed {found.public.fingerprint} ({printable(found.comment)}).")
    out.say(f"Wrote {home.trust_path}. What this key signed is now refused as unknown.")


@airgap_command("revoke", audited=True)
@click.argument("key")
@click.option("--reason", default="", help="Why; shown when a file by this key is refused.")
def _revoke(out: Output, home_path: Path, key: str, reason: str) -> None:
    """Refuse everything a key signed.

    From now on, and back to its beginning; KEY is its fingerprint or the beginning of it.

    \b
    Example:
      airgap trust revoke 3f2a91bc --reason "laptop lost"
    """
    home = open_home(home_path)
    with _changing(home) as store:
        found = store.find(key)
        if found.revoked is not None:
            raise TrustError("this key is revoked already", where=found.public.fingerprint)
        now = timestamps.system_clock()
        revoked = store.revoke(found.public.key_id, now, printable(reason, 256))
        trust_store.save(home.trust_path, revoked)
    out.result({"revoked": found.public.key_id})
    record("key revoked", fingerprint=found.public.fingerprint)
    out.say(f"Revoked {found.public.fingerprint} ({printable(found.comment)}).")
    out.say(f"Wrote {home.trust_path}. Files by this key are refused, whenever they were made.")


@contextmanager
def _changing(home: Home) -> Iterator[trust_store.TrustStore]:
    """Yield the trust store while nobody else can change it."""
    with exclusive(home.path / "trust.lock", "change of keys"):
        yield trust_store.load(home.trust_path, catalog.load())


def _validity(key: TrustedKey) -> str:
    if key.revoked is not None:
        return f"revoked {timestamps.to_text(key.revoked[0])}"
    start = timestamps.to_text(key.not_before)[:10] if key.not_before else ""
    end = timestamps.to_text(key.not_after)[:10] if key.not_after else ""
    return f"{start} .. {end}" if start or end else "always"


def _require_fingerprint(key_id: str, expected: str) -> None:
    digits = expected.replace(" ", "").replace(":", "").lower()
    if len(digits) < 16 or not key_id.startswith(digits):
        raise TrustError(
            "the key is not the one you expected",
            expected=printable(expected),
            found=keys.fingerprint(key_id),
            hint="give at least 16 digits; if they differ, do not use this key: ask its owner",
        )


for _command in (_add, _list, _remove, _revoke):
    command.add_command(_command)
