"""What one field of a kind holds over a whole bundle, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from airgap.catalog import JsonObject
from airgap.text import printable

MOST_VALUES = 100
"""So many different values of a field are kept; that there are others is said."""

_LONG = 64
_WHOLE = 10 * _LONG

Path = tuple[str | None, ...]
"""Where a value stands in a payload: names of fields, and None for any element of a list."""


@dataclass(slots=True)
class Value:
    """One of a field's values: as it is shown, and in how many places it stands."""

    shown: str
    count: int


@dataclass(slots=True)
class Field:
    """What one field of a kind holds over a whole bundle.

    Args:
        count: in how many places it stands.
        values: different values in the order in which they came, by what tells them apart (type
            and value, of a long text its SHA-256); at most 100, and ``others`` counts the places
            that hold one more.
        numbers: smallest and largest integer, and the exact sum.
        texts: smallest and largest text by code point, shortened.
        longest: length of the longest text, in characters.
        cut: whether a text was too long to be shown.
    """

    count: int = 0
    values: dict[tuple[str, object], Value] = field(default_factory=dict[tuple[str, object], Value])
    others: int = 0
    numbers: tuple[int, int, int] | None = None
    texts: tuple[str, str] | None = None
    longest: int = 0
    cut: bool = False

    def add(self, value: object) -> None:
        """Count a value: text, integer, boolean, nothing, or an empty map or list."""
        self.count += 1
        if type(value) is int:
            low, high, total = self.numbers or (value, value, 0)
            self.numbers = (min(low, value), max(high, value), total + value)
        known_by = _known_by(value)
        known = self.values.get(known_by)
        if known is not None:
            known.count += 1
            return
        if isinstance(value, str):
            self._note(value)
        if len(self.values) < MOST_VALUES:
            self.values[known_by] = Value(_shown(value), 1)
        else:
            self.others += 1

    def knows(self, value: object) -> bool:
        """Tell whether a value is one of those that are kept."""
        return _known_by(value) in self.values

    def _note(self, text: str) -> None:
        short = text[:_LONG]
        low, high = self.texts or (short, short)
        self.texts = (min(low, short), max(high, short))
        self.longest = max(self.longest, len(text))
        self.cut = self.cut or printable(text, _LONG) != printable(text, _WHOLE)

    @property
    def number(self) -> str:
        """How many different values there are, for people."""
        return f"more than {MOST_VALUES}" if self.others else f"{len(self.values)}"

    @property
    def example(self) -> str:
        """The value that came first."""
        return next(iter(self.values.values())).shown

    @property
    def range(self) -> tuple[str, str] | None:
        """Smallest and largest value of a field of numbers or texts, for people."""
        if self.numbers is not None:
            return f"{self.numbers[0]:,}", f"{self.numbers[1]:,}"
        return None if self.texts is None else (_shown(self.texts[0]), _shown(self.texts[1]))

    def line(self, *, ranged: bool = True) -> str:
        """Return what the values are, in a line: the one, or from where to where they go."""
        if len(self.values) == 1:
            told = f"always {self.example}"
        else:
            told = f"{self.number} different values"
            if ranged and self.range is not None:
                told += f", {self.range[0]} .. {self.range[1]}"
        if self.numbers is not None:
            told += f"; sum {self.numbers[2]:,}"
        if self.cut:
            told += f"; FREE TEXT of up to {self.longest:,} characters"
        return told

    def digests(self) -> tuple[str, ...] | None:
        """Return a digest of each value, sorted, or None where there are more than are kept."""
        if self.others:
            return None
        return tuple(sorted(map(digest, self.values)))


def digest(known_by: tuple[str, object]) -> str:
    """Return a digest of what tells a value from others, the same for any release."""
    return sha256(repr(known_by).encode(errors="surrogatepass")).hexdigest()[:32]


def fields(payload: JsonObject) -> Iterator[tuple[Path, object]]:
    """Yield every value of a payload with where it stands."""
    pending: list[tuple[Path, object]] = [((name,), value) for name, value in payload.items()]
    pending.reverse()
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict) and value:
            pending.extend(((*path, name), inner) for name, inner in reversed(value.items()))
        elif isinstance(value, list) and value:
            pending.extend(((*path, None), inner) for inner in reversed(value))
        else:
            yield path, value


def path_text(path: Path) -> str:
    """Return a path as sheets and manifests write it: ``tags/NAME``, ``logs[]``."""
    text = ""
    for part in path:
        text += "[]" if part is None else f"/{part}" if text else part
    return text


def _known_by(value: object) -> tuple[str, object]:
    """Return what tells a value from others, short whatever its length."""
    if isinstance(value, str) and len(value) > _LONG:
        return "long", sha256(value.encode(errors="surrogatepass")).digest()
    # 1 and true are equal to Python, and every empty map or list is shown alike.
    return type(value).__name__, value if isinstance(value, str | int | None) else None


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{printable(value, _LONG)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    return "empty" if value is not None else "nothing"
