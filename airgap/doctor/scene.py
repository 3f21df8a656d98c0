"""What checks are given: the home, as far as there is one, the clock, the environment, the user."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from airgap import configuration, settings
from airgap.catalog import Catalog
from airgap.errors import AirgapError, TrustError, UsageError
from airgap.home import Home
from airgap.mounts import Mount
from airgap.settings import Setting
from airgap.timestamps import Clock
from airgap.trust import keys
from airgap.trust import store as trust_store
from airgap.trust.keys import PublicKey
from airgap.trust.store import TrustStore


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to look at.

    Args:
        path: the home's folder.
        home: the home, or None where there is none that can be read.
        catalog: schemas, kinds and documented base URLs.
        now: the present by this machine's clock.
        environment: variables.
        user: number of the user that runs airgap.
        mounts: what is mounted.
        deep: whether what takes long is looked at as well.
    """

    path: Path
    home: Home | None
    catalog: Catalog
    now: datetime
    environment: Mapping[str, str]
    user: int
    mounts: list[Mount]
    deep: bool = False
    settings: tuple[Setting, ...] = field(init=False)
    """What is set for commands, by the environment, airgap.toml or a profile; no defaults."""
    setting_error: UsageError | None = field(init=False)
    """What keeps that from being known: a profile that there is none of."""

    def __post_init__(self) -> None:
        """Sort out what is set."""
        found: list[Setting] = []
        problem: UsageError | None = None
        for words in configuration.commands_of(self.catalog.schema(settings.SCHEMA)):
            try:
                found += self.effective(words)
            except UsageError as error:
                problem = error
        object.__setattr__(self, "settings", tuple(found))
        object.__setattr__(self, "setting_error", problem)

    def effective(self, words: tuple[str, ...], profile: str | None = None) -> list[Setting]:
        """Return what is set for a command.

        Args:
            words: the command.
            profile: what ``--profile`` says, or None.

        Raises:
            UsageError: there is no such profile.
        """
        if self.home is None:
            return []
        file = self.home.settings
        chosen = settings.chosen_profile(words, file, self.catalog, self.environment, profile)
        found = settings.in_effect(words, file, self.catalog, self.environment, chosen)
        return [one for one in found if one.origin != "default" and one.value is not None]

    def own_keys(self) -> dict[str, PublicKey]:
        """Return the public halves of this side's own keys by name, as far as they can be read."""
        found: dict[str, PublicKey] = {}
        for name in self.home.key_names() if self.home else []:
            assert self.home is not None
            path = self.home.keys_path / f"{name}.pub"
            try:
                data = keys.read_small(path, "public key", regular=True)
                found[name] = keys.public_from_bytes(data, where=str(path))
            except AirgapError:
                continue  # Said where key pairs are looked at.
        return found

    def trust(self) -> TrustStore:
        """Return the home's trust store.

        Raises:
            AirgapError: it can't be read.
        """
        assert self.home is not None
        path = self.home.trust_path
        for one in (trust_store.signed_path(path), path):
            if one.exists() and not one.is_file():
                # A pipe would be waited for for ever.
                raise TrustError(
                    "the trust store is not a regular file",
                    where=str(one),
                    hint="restore it from a copy, or move it away and add the keys again",
                )
        return trust_store.load(path, self.catalog)

    @property
    def is_workstation(self) -> bool:
        """Whether the home is known to be the connected workstation's."""
        return self.home is not None and self.home.side == "workstation"


@dataclass(frozen=True, slots=True)
class Connection:
    """How the workstation reaches the beacon; what is None comes from airgap.toml, else as documented.

    Args:
        urls: base URL by the catalogue's name for it, or None.
        ca_file: certificate authorities, or None.
        profile: name of the profile that ``--profile`` chose, or None.
        timeout: seconds.
        probe: whether hosts are asked.
        clock: the present, to hold the hosts' Date against.
    """

    urls: Mapping[str, str | None]
    ca_file: Path | None
    profile: str | None
    timeout: float
    probe: bool
    clock: Clock
