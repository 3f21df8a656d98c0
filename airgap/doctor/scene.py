"""What checks are given: the home, as far as there is one, the clock, the environment, the user."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from airgap.catalog import Catalog
from airgap.home import Home
from airgap.mounts import Mount


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
    tables: dict[str, dict[str, Any]] = field(init=False)
    """Tables of airgap.toml by the command that they are for."""

    def __post_init__(self) -> None:
        """Sort out the configuration's tables."""
        settings = self.home.settings if self.home else {}
        tables = {name: value for name, value in settings.items() if isinstance(value, dict)}
        object.__setattr__(self, "tables", tables)

    @property
    def is_workstation(self) -> bool:
        """Whether the home is known to be the connected workstation's."""
        return self.home is not None and self.home.side == "workstation"
