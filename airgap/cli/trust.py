"""``airgap trust``: whose signatures count, and how many are demanded."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import cast

import click

from airgap import catalog, credentials, timestamps
from airgap.audit import record
from airgap.cli import roots
from airgap.cli.common import Output, airgap_command
from airgap.cli.trusting import Moment, changing, demand
from airgap.errors import TrustError, UsageError
from airgap.home import open_home
from airgap.text import printable
from airgap.trust import keys, spoken, succession
from airgap.trust import store as trust_store
from airgap.trust.entries import (
    ANY_SOURCE,
    Policy,
    Revocation,
    Role,
    TrustedKey,
    moment_text,
    names,
)
from airgap.trust.store import TrustStore

_ROLES = ("exporter", "reviewer", "importer")


@click.group("trust")
def command() -> None:
    """Say whose signatures count."""


@airgap_command("add", audited=True)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice(_ROLES),
    help="What it may sign as; may be repeated.",
)
@click.option("--source", "sources", multiple=True, help="Source that it may sign for; or '*'.")
@click.option("--from", "not_before", type=Moment(), help="Refuse files made before this.")
@click.option("--until", "not_after", type=Moment(), help="Refuse files made from then on.")
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
    public = keys.public_from_bytes(
        keys.read_small(file, "public key", regular=True), where=str(file)
    )
    credentials.guard(comment.encode(), catalog.load(), where="--comment")
    if fingerprint is not None:
        spoken.require(public.key_id, fingerprint, where=str(file))
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
        TrustStore({public.key_id: entry}).as_map(),
        where="the new entry",
        hint="correct the option",
    )
    with changing(home) as store:
        trust_store.save(home.trust_path, store.with_key(entry))
    out.result({"key": entry.as_map()})
    record("key trusted", fingerprint=public.fingerprint)
    out.say(f"Fingerprint: {public.fingerprint}")
    if fingerprint is None:
        out.say("Compare it with its owner by phone, or face to face, before you rely on it.")
    else:
        out.say("It matches the fingerprint that you gave.")
    out.say(f"Wrote {home.trust_path}. Next: airgap trust list")


@airgap_command("list")
def _list(out: Output, home_path: Path) -> None:
    """Show the trusted keys, and what is demanded of bundles.

    \b
    Example:
      airgap trust list
    """
    home = open_home(home_path)
    store = trust_store.load(home.trust_path, catalog.load())
    out.result({**store.as_map(), "signed": store.signed})
    if not store.keys:
        role = "importer" if home.side == "isolated" else "exporter --source NAME"
        out.say(
            f"The trust store is empty: {home.trust_path}. Next: airgap trust add FILE.pub --role {role}"
        )
    out.table(
        ("fingerprint", "trusted as", "whose"),
        [
            (key.public.fingerprint, _trusted_as(key), printable(key.comment))
            for key in store.keys.values()
        ],
    )
    for policy in store.policies.values():
        out.say(f"Demanded {demand(policy)}")
    _say_root(out, store)
    out.findings(store.findings(timestamps.system_clock()))


def _say_root(out: Output, store: TrustStore) -> None:
    until = f", until {moment_text(store.expires)}" if store.expires else ""
    if store.root is None:
        return
    how = "Signed by" if store.signed else "To be signed by"
    out.say(f"Version {store.version}{until}. {how} {store.root.threshold} of these root keys:")
    for public, comment in store.root.keys:
        out.say(f"  {public.fingerprint} ({public.algorithm}) {printable(comment)}".rstrip())


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
    with changing(home) as store:
        found = store.find(key)
        trust_store.save(home.trust_path, store.without(found.public.key_id))
    out.result({"removed": found.public.key_id})
    record("key removed", fingerprint=found.public.fingerprint)
    out.say(f"Removed {names([found])}.")
    out.say(f"Wrote {home.trust_path}. What this key signed is now refused as unknown.")


@airgap_command("revoke", audited=True)
@click.argument("key")
@click.option("--reason", default="", help="Why; shown when a file by this key is refused.")
@click.option("--since", type=Moment(), help="Only files made then or later.")
@click.option("--since-sequence", type=click.IntRange(min=1), help="Only bundles from this one on.")
def _revoke(
    out: Output,
    home_path: Path,
    key: str,
    reason: str,
    since: datetime | None,
    since_sequence: int | None,
) -> None:
    """Refuse what a key signed.

    Everything, whenever it was made; or with bounds what is at or after one of them. A thief can
    date a file back, but can't put another bundle where one was imported: of the two bounds,
    the sequence is the safer one. KEY is the key's fingerprint or the beginning of it.

    \b
    Example:
      airgap trust revoke 3f2a91bc --reason "laptop lost"
      airgap trust revoke 3f2a91bc --since-sequence 18 --reason "laptop lost in May"
    """
    home = open_home(home_path)
    credentials.guard(reason.encode(), catalog.load(), where="--reason")
    with changing(home) as store:
        found = store.find(key)
        made = Revocation(timestamps.system_clock(), printable(reason, 256), since, since_sequence)
        if found.revoked is not None and (found.revoked.is_whole or not made.is_whole):
            raise TrustError(
                "this key is revoked already",
                where=found.public.fingerprint,
                expected="a key that is not revoked, or a revocation without bounds",
                found=printable(str(found.revoked), 400),
                hint="leave --since and --since-sequence out to refuse everything it signed",
            )
        trust_store.save(home.trust_path, store.changed(replace(found, revoked=made)))
    out.result({"revoked": found.public.key_id})
    record("key revoked", fingerprint=found.public.fingerprint, revocation=str(made))
    out.say(f"Revoked {names([found])}.")
    what = [
        f"made at or after {moment_text(since)}" if since else "",
        f"that are, or answer, bundle {since_sequence} or a later one" if since_sequence else "",
    ]
    bounds = ", and those ".join(filter(None, what)) or "whenever they were made"
    for heir in (store.keys.get(key_id) for key_id in store.successors(found.public.key_id)):
        if heir is not None and heir.revoked is None:
            out.warn(
                f"{heir.public.fingerprint}, which it named as its successor, is still trusted: whoever "
                f"had the old key may have made it: airgap trust revoke {heir.public.key_id[:16]}"
            )
    comma = "" if since or since_sequence else ","
    out.say(f"Wrote {home.trust_path}. Files by this key are refused{comma} {bounds}.")


@airgap_command("succeed", audited=True)
@click.argument("file", type=click.Path(path_type=Path))
def _succeed(out: Output, home_path: Path, file: Path) -> None:
    """Trust the key that a trusted key names as its successor.

    FILE is what `airgap key rotate` wrote on the other side. The new key gets the old one's roles
    and sources; the old one signs no later bundle any more.

    \b
    Example:
      airgap trust succeed /media/stick/2027.succession
    """
    home = open_home(home_path)
    schemas = catalog.load()
    data = keys.read_small(file, "succession", regular=True)
    with changing(home) as store:
        following, old, new = succession.follow(
            store, data, schemas, timestamps.system_clock(), where=str(file)
        )
        if following is not store:
            trust_store.save(home.trust_path, following)
    out.result({"old": old.as_map(), "new": new.as_map()})
    if following is store:
        out.say(
            f"{new.public.fingerprint} is trusted already as the one that follows; nothing changed."
        )
        return
    record("key followed", old=old.public.fingerprint, fingerprint=new.public.fingerprint)
    bound = (
        f"up to bundle {old.last_sequence}"
        if old.last_sequence is not None
        else f"before {moment_text(old.not_after)}"
    )
    out.say(f"Old key:  {old.public.fingerprint}, now only {bound}")
    out.say(f"New key:  {new.public.fingerprint} ({new.public.algorithm}), {', '.join(new.roles)}")
    out.say(f"Wrote {home.trust_path}. Next: airgap trust list")


@click.group("policy")
def _policy() -> None:
    """Say how many must sign a bundle, and how many approve of it."""


@airgap_command("set", audited=True)
@click.option("--source", default=ANY_SOURCE, show_default=True, help="For this source's bundles.")
@click.option(
    "--exporters",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="How many must sign.",
)
@click.option(
    "--reviewers",
    type=click.IntRange(0, 8),
    default=0,
    show_default=True,
    help="How many must approve.",
)
def _set(out: Output, home_path: Path, source: str, exporters: int, reviewers: int) -> None:
    """Demand that so many exporters sign a bundle and so many reviewers approve of it.

    An import refuses what has less. Each person counts once: whoever signed a bundle can't
    approve of it as well. A reviewer's denial outweighs every approval.

    \b
    Example:
      airgap trust policy set --source bank-a.prod --reviewers 1
    """
    home = open_home(home_path)
    policy = Policy(source, exporters, reviewers)
    with changing(home) as store:
        changed = store.with_policy(policy)
        catalog.load().require("trust-store", changed.as_map(), where="the policy")
        trust_store.save(home.trust_path, changed)
    out.result({"policy": policy.as_map()})
    record("policy set", **policy.as_map())
    out.say(f"Demanded {demand(policy)}")
    for role, wanted in (("exporter", exporters), ("reviewer", reviewers)):
        able = [
            key
            for key in store.keys.values()
            if role in key.roles and (source == ANY_SOURCE or key.may_sign_for(source))
        ]
        if len(able) < wanted:
            out.warn(
                f"too few keys here can sign as {role}, {len(able)} of {wanted}: until there are enough, "
                f"no bundle can be imported (airgap trust add FILE.pub --role {role} --source NAME)"
            )
    out.say(f"Wrote {home.trust_path}. Next: airgap trust list")


@airgap_command("remove", audited=True)
@click.option("--source", default=ANY_SOURCE, show_default=True, help="The source that it is for.")
def _unset(out: Output, home_path: Path, source: str) -> None:
    """Take a policy back.

    \b
    Example:
      airgap trust policy remove --source bank-a.prod
    """
    home = open_home(home_path)
    with changing(home) as store:
        if source not in store.policies:
            raise UsageError(
                "there is no policy of its own for this source",
                expected=", ".join(store.policies) or "none is set",
                found=printable(source),
                hint="see them with `airgap trust list`",
            )
        without = store.without_policy(source)
        trust_store.save(home.trust_path, without)
    now = without.policy(source)
    out.result({"policy": now.as_map()})
    record("policy removed", source=source)
    out.say(f"Now demanded {demand(replace(now, source=source))}")
    out.say(f"Wrote {home.trust_path}. Next: airgap trust list")


def _trusted_as(key: TrustedKey) -> str:
    sources = "every source" if ANY_SOURCE in key.sources else ", ".join(key.sources)
    hybrid = "hybrid " if key.public.algorithm == keys.HYBRID else ""
    return f"{hybrid}{', '.join(key.roles)} for {sources}, {_validity(key)}"


def _validity(key: TrustedKey) -> str:
    if key.revoked is not None:
        return printable(str(key.revoked).partition(": ")[0], 120)
    start = timestamps.to_text(key.not_before)[:10] if key.not_before else ""
    end = timestamps.to_text(key.not_after)[:10] if key.not_after else ""
    last = f"up to bundle {key.last_sequence}" if key.last_sequence is not None else ""
    return " ".join(filter(None, (f"{start} .. {end}" if start or end else "", last))) or "always"


for _command in (_set, _unset):
    _policy.add_command(_command)
for _command in (_add, _list, _remove, _revoke, _succeed):
    command.add_command(_command)
command.add_command(_policy)
for _other in roots.COMMANDS:
    command.add_command(_other)
