"""``airgap trust root``, ``sign`` and ``update``: a trust store that root keys sign."""

import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from airgap import catalog, credentials, media, quarantine, timestamps
from airgap.audit import record
from airgap.bundle.envelope import Envelope
from airgap.cli.common import Output, airgap_command, ask_passphrase, passphrase_option
from airgap.cli.trusting import Moment, changing, demand
from airgap.errors import AirgapError, TrustError, UsageError
from airgap.home import Home, open_home
from airgap.limits import MAX_SIGNATURES, MAX_TRUST_STORE
from airgap.text import plural, printable
from airgap.trust import keys, spoken
from airgap.trust import roots as trust_roots
from airgap.trust import store as trust_store
from airgap.trust.entries import ANY_SOURCE, Policy, Root, moment_text, require_distinct
from airgap.trust.store import TrustStore


@click.group("root")
def _root() -> None:
    """Say whose keys sign this trust store for other homes."""


@airgap_command("add", audited=True)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--threshold", type=click.IntRange(1, 8), help="How many root keys must sign.")
@click.option("--fingerprint", help="Add it only if its fingerprint begins so.")
@click.option("--comment", default="", help="Whose key it is.")
def _add(
    out: Output,
    home_path: Path,
    file: Path,
    threshold: int | None,
    fingerprint: str | None,
    comment: str,
) -> None:
    """Let a key sign this trust store.

    Two root keys in two safes and a threshold of 1: either replaces the other when it is lost.
    A threshold of 2: no one alone can say whose signatures count.

    \b
    Example:
      airgap trust root add root-1.pub --comment "safe in Frankfurt"
      airgap trust root add root-2.pub --comment "safe in Munich" --threshold 2
    """
    home = open_home(home_path)
    public = keys.public_from_bytes(
        keys.read_small(file, "public key", regular=True), where=str(file)
    )
    credentials.guard(comment.encode(), catalog.load(), where="--comment")
    if fingerprint is not None:
        spoken.require(public.key_id, fingerprint, where=str(file))
    with changing(home) as store:
        there = store.root.keys if store.root else ()
        require_distinct([*(key for key, _ in there), public], where=public.fingerprint)
        wanted = threshold or (store.root.threshold if store.root else 1)
        root = Root(wanted, (*there, (public, printable(comment, 256))))
        _save_root(home.trust_path, store, root)
    out.result({"root": root.as_map()})
    record("root key added", fingerprint=public.fingerprint, threshold=wanted)
    _say(out, root)
    out.say(f"Wrote {home.trust_path}. Next: airgap trust sign --key NAME --to FOLDER")


@airgap_command("remove", audited=True)
@click.argument("key")
@click.option("--threshold", type=click.IntRange(1, 8), help="How many root keys must sign.")
def _remove(out: Output, home_path: Path, key: str, threshold: int | None) -> None:
    """Let a key sign this trust store no more.

    Other homes believe that when enough of the root keys that they know have signed it.

    \b
    Example:
      airgap trust root remove 3f2a91bc
    """
    home = open_home(home_path)
    digits = spoken.digits(key)
    with changing(home) as store:
        there = store.root.keys if store.root else ()
        left = tuple((k, c) for k, c in there if not k.key_id.startswith(digits))
        if len(left) != len(there) - 1 or len(digits) < 4:
            raise UsageError(
                f"{len(there) - len(left)} root keys begin with {printable(key)!r}",
                expected="exactly one, named by at least 4 digits",
                hint="see them with `airgap trust list`",
            )
        root = Root(threshold or (store.root.threshold if store.root else 1), left)
        _save_root(home.trust_path, store, root if left else None)
    out.result({"root": root.as_map() if left else None})
    record("root key removed", key=digits, threshold=root.threshold)
    _say(out, root)
    out.say(f"Wrote {home.trust_path}. Next: airgap trust sign --key NAME --to FOLDER")


@airgap_command("sign", audited=True)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="Folder for the signed trust store.")
@click.option(
    "--key", "choices", multiple=True, required=True, help="Root key to sign with; may be repeated."
)
@click.option(
    "--expires", type=Moment(), help="From then on it counts no more; else as said the last time."
)
@click.option("--force", is_flag=True, help="Replace a file of the same name.")
@passphrase_option
def _sign(
    out: Output,
    home_path: Path,
    file: Path | None,
    to: Path | None,
    choices: tuple[str, ...],
    expires: datetime | None,
    passphrase_file: Path | None,
    *,
    force: bool,
) -> None:
    """Sign this home's trust store for other homes, or add a signature to FILE.

    After a change of root keys both old and new ones sign: enough of each.

    \b
    Example:
      airgap trust sign --key root-1 --expires 2027-12-31 --to /media/stick
      airgap trust sign /media/stick/trust-000007.trust --key root-2
    """
    home = open_home(home_path)
    schemas = catalog.load()
    if (file is None) == (to is None):
        raise UsageError("name a FILE to add a signature to, or --to FOLDER to write a new one")
    if file is None:
        with changing(home) as draft:
            until = expires or draft.expires
            _require_future(until)
            envelope, store = trust_roots.propose(draft, until, schemas)
            trust_store.save(home.trust_path, replace(draft, expires=until))
        name, folder = f"trust-{store.version:06d}{trust_roots.SUFFIX}", to or Path()
    else:
        if expires is not None:
            raise UsageError(
                "--expires is part of what the others signed; it can't be changed now",
                hint="leave it out, or sign anew: airgap trust sign --key NAME --expires DATE --to FOLDER",
            )
        with quarantine.copied(file, home.folder("quarantine"), most=MAX_TRUST_STORE) as stream:
            envelope, store = trust_roots.read(stream.read(), schemas, where=str(file))
        envelope = _holding(out, envelope, store)
        out.say(*_contents(store))
        name, folder = file.name, file.parent
    for choice in choices:
        key = home.private_key(choice, ask_passphrase(passphrase_file))
        envelope = _signed(envelope, key)
    path = media.place(envelope.encode(), folder, name, force=force or file is not None)
    assert store.root is not None
    known = store.root.by_id()
    done = [s.key_id for s in envelope.signatures if s.key_id in known]
    out.result(
        {
            "file": str(path),
            "version": store.version,
            "signed_by": [s.key_id for s in envelope.signatures],
            "threshold": store.root.threshold,
        }
    )
    record("trust store signed", version=store.version, file=str(path))
    for signature in envelope.signatures:
        of = "" if signature.key_id in known else ", no root key of this version"
        out.say(f"Signed by {keys.fingerprint(signature.key_id)}{of}")
    if store.expires is None:
        out.warn("it has no --expires: whoever keeps a newer one from a home can do so for ever")
    lacking = store.root.threshold - len(done)
    if lacking > 0:
        out.say(
            f"Wrote {path}. {plural(lacking, 'signature')} missing. "
            f"Next, where another root key is: airgap trust sign {shlex.quote(str(path))} --key NAME"
        )
    else:
        out.say(f"Wrote {path}. Next, in each home: airgap trust update {shlex.quote(str(path))}")


@airgap_command("update", audited=True)
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH..."
)
@click.option(
    "--root",
    "named",
    multiple=True,
    metavar="FINGERPRINT",
    help="The first time: a root key that you were told of, in digits or words; may be repeated.",
)
def _update(out: Output, home_path: Path, paths: tuple[Path, ...], named: tuple[str, ...]) -> None:
    """Take a newer trust store that root keys signed in place of this home's.

    The first time, --root says whose signatures to believe; all that are named must have signed,
    and as many must be named as must sign.
    From then on the store here says it: a newer one must be signed by enough of the root keys
    here, an older one is refused, and nothing else changes this home's trust.

    \b
    Example:
      airgap trust update /media/stick --root "3f2a 91bc 04d7 aa10"
      airgap trust update /media/stick
    """
    home = open_home(home_path)
    beginnings = [spoken.digits(text) for text in named]
    if any(len(beginning) < spoken.LEAST_DIGITS for beginning in beginnings):
        raise UsageError(
            "name a root key by at least 16 digits of its fingerprint",
            hint="ask its holder: airgap key fingerprint NAME",
        )
    read, damaged = _in_order(home, paths)
    with changing(home) as store:
        if not store.signed and not named:
            raise UsageError(
                "this home has no root yet: say whose signature you believe",
                where=str(home.path),
                expected="--root FINGERPRINT",
                hint="ask the holders of the root keys by phone; `airgap trust list` shows it to them",
            )
        current, taken, refused = _newest(store, read, beginnings)
        trust_store.adopt(home.trust_path, taken)
    for error in (*damaged, *refused):
        out.warn(f"{error.where} was not taken: {error.message}")
    until = moment_text(current.expires)
    out.result({"version": current.version, "new": taken is not None, "expires": until})
    if taken is None:
        out.say(f"Version {current.version} is here already; nothing changed.")
        return
    record("trust store updated", version=current.version)
    for line in _changes(store, current):
        out.say(line)
    _own_keys(out, home.path, [home.public_key(name) for name in home.key_names()], current)
    out.say(
        f"Wrote {trust_store.signed_path(home.trust_path)}, version {current.version}. "
        "Next: airgap trust list"
    )


def _in_order(
    home: Home, paths: tuple[Path, ...]
) -> tuple[list[tuple[int, bytes, str]], list[AirgapError]]:
    """Return the version, bytes and name of each signed trust store, the oldest first.

    And why others can't be read: what somebody put beside a good one does not stop it.

    Raises:
        AirgapError: none can be read.
    """
    found: list[tuple[int, bytes, str]] = []
    damaged: list[AirgapError] = []
    for path in media.files(list(paths), (trust_roots.SUFFIX,)):
        name = printable(str(path), 300)
        try:
            with quarantine.copied(path, home.folder("quarantine"), most=MAX_TRUST_STORE) as stream:
                data = stream.read()
            version = trust_roots.read(data, catalog.load(), where=name)[1].version
        except AirgapError as error:
            error.where = name
            damaged.append(error)
        else:
            found.append((version, data, name))
    if damaged and not found:
        raise damaged[0]
    return sorted(found), damaged


def _newest(
    current: TrustStore, read: list[tuple[int, bytes, str]], named: list[str]
) -> tuple[TrustStore, bytes | None, list[AirgapError]]:
    """Return the trust store that the home comes to by one after the other.

    Its bytes follow where it is new, and why newer ones were not taken.

    Raises:
        AirgapError: none could be taken.
    """
    schemas, now = catalog.load(), timestamps.system_clock()
    taken: bytes | None = None
    refused: list[tuple[int, AirgapError]] = []
    is_here = False
    for version, data, name in read:
        try:
            following = trust_roots.follows(current, data, schemas, now, named=named, where=name)
        except AirgapError as error:
            error.where = name
            refused.append((version, error))
            continue
        is_here = True
        if following is not None:
            current, taken = following, data
    if not is_here and refused:
        raise refused[-1][1]
    return current, taken, [error for version, error in refused if version >= current.version]


def _holding(out: Output, envelope: Envelope, store: TrustStore) -> Envelope:
    """Return an envelope without signatures under its root keys' ids that do not hold.

    A carrier could add one, so that the holder of the key seems to have signed.
    """
    known = store.root.by_id() if store.root else {}
    message = envelope.message
    left = tuple(
        s
        for s in envelope.signatures
        if s.key_id not in known or known[s.key_id].verifies(s.signature, message)
    )
    if len(left) < len(envelope.signatures):
        out.warn("a signature under a root key's id does not hold, and was left out")
    return replace(envelope, signatures=left)


def _signed(envelope: Envelope, key: keys.PrivateKey) -> Envelope:
    if any(s.key_id == key.public.key_id for s in envelope.signatures):
        raise TrustError(
            "this key has signed it already",
            where=key.public.fingerprint,
            hint="a second signature is another holder's: airgap trust sign FILE --key NAME",
        )
    if len(envelope.signatures) >= MAX_SIGNATURES:
        raise TrustError(
            "it has as many signatures as a file can have",
            expected=f"fewer than {MAX_SIGNATURES}",
            found=str(len(envelope.signatures)),
            hint="ask for the file as it was made, or sign it anew: "
            "airgap trust sign --key NAME --to FOLDER",
        )
    made = key.sign(envelope.message)
    return Envelope(envelope.payload_type, envelope.payload, (*envelope.signatures, made))


def _require_future(expires: datetime | None) -> None:
    now = timestamps.system_clock()
    if expires is not None and expires <= now:
        raise UsageError(
            "the trust store's time would be over",
            expected=f"--expires later than {moment_text(now)}",
            found=moment_text(expires),
        )


def _save_root(path: Path, store: TrustStore, root: Root | None) -> None:
    if root is not None and root.threshold > len(root.keys):
        raise UsageError(
            "so many root keys can't sign",
            expected=f"a threshold of at most {len(root.keys)}",
            found=str(root.threshold),
            hint="add the other root keys first, or lower --threshold",
        )
    trust_store.save(path, replace(store, root=root))


def _say(out: Output, root: Root) -> None:
    out.say(f"{root.threshold} of these root keys must sign:")
    for public, comment in root.keys:
        out.say(f"  {public.fingerprint} ({public.algorithm}) {printable(comment)}".rstrip())


def _changes(before: TrustStore, after: TrustStore) -> list[str]:
    """Return what a new trust store changes, a line each."""
    lines = [
        f"Trusted no more: {key.public.fingerprint} ({', '.join(key.roles)}) {printable(key.comment)}"
        for key_id, key in before.keys.items()
        if key_id not in after.keys
    ]
    for key_id, key in after.keys.items():
        old = before.keys.get(key_id)
        if old != key:
            word = "Now trusted:" if old is None else "Changed:"
            lines.append(
                f"{word} {key.public.fingerprint} ({', '.join(key.roles)}) {printable(key.comment)}"
                + (f", {printable(str(key.revoked), 300)}" if key.revoked else "")
            )
    for source in dict.fromkeys((ANY_SOURCE, *before.policies, *after.policies)):
        now = after.policy(source)
        if replace(before.policy(source), source=source) != replace(now, source=source):
            lines.append(f"Now demanded {demand(replace(now, source=source))}")
    return [*lines, *_root_changes(before.root, after.root)]


def _root_changes(before: Root | None, after: Root | None) -> list[str]:
    old, new = (root.by_id() if root else {} for root in (before, after))
    lines = [f"No root key any more: {k.fingerprint}" for i, k in old.items() if i not in new]
    lines += [f"New root key: {k.fingerprint}" for i, k in new.items() if i not in old]
    if after and (before is None or before.threshold != after.threshold):
        lines.append(f"So many root keys must sign from now on: {after.threshold} of {len(new)}")
    return lines


def _contents(store: TrustStore) -> list[str]:
    """Return what a trust store says, a line each, for who is to sign it."""
    lines = [f"Version {store.version}, until {moment_text(store.expires) or 'ever'}, trusts"]
    lines += [
        f"  {key.public.fingerprint} ({', '.join(key.roles)}) for {', '.join(key.sources)} "
        + printable(key.comment)
        + (f", {printable(str(key.revoked), 300)}" if key.revoked else "")
        for key in store.keys.values()
    ]
    policies = store.policies.values() or (Policy(ANY_SOURCE),)
    lines += [f"  Demanded {demand(policy)}" for policy in policies]
    return [*lines, *(f"  {line}" for line in _root_changes(None, store.root))]


def _own_keys(out: Output, home: Path, own: list[keys.PublicKey], store: TrustStore) -> None:
    for public in own:
        if public.key_id not in store.keys:
            out.warn(
                f"this home's own key {public.fingerprint} is not in the new trust store: what it "
                f"signs is refused, here too; send {home / 'keys'} to the holders of the root keys"
            )


for _command in (_add, _remove):
    _root.add_command(_command)
COMMANDS: tuple[click.Command, ...] = (_root, _sign, _update)
