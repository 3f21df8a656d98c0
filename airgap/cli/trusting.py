"""What commands share that ask whose signatures count: the home's trust store, held against the clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import click

from airgap import timestamps
from airgap.catalog import load
from airgap.files import exclusive
from airgap.home import Home
from airgap.text import plural
from airgap.trust import store as trust_store
from airgap.trust.entries import ANY_SOURCE, Policy
from airgap.trust.store import TrustStore

_LARGEST = 64 * 1024
_MOST = 1000


class Moment(click.ParamType[datetime]):
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


def demand(policy: Policy) -> str:
    """Return what a policy demands, for people."""
    whose = "every source" if policy.source == ANY_SOURCE else policy.source
    return (
        f"of bundles of {whose}: {plural(policy.exporters, 'exporter')}, "
        f"{plural(policy.reviewers, 'reviewer')}"
    )


@contextmanager
def changing(home: Home) -> Iterator[TrustStore]:
    """Yield the trust store while nobody else can change it."""
    with exclusive(home.path / "trust.lock", "change of keys"):
        yield trust_store.load(home.trust_path, load())
