"""How far a delivery, or a move, is, on a terminal: done of all, how fast, and how long it still takes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text


@contextmanager
def shown(
    total: int, what: str = "delivering", unit: str = "records"
) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; what is yielded is told how many are done.

    Args:
        total: how many there are.
        what: what is done with them.
        unit: what they are.
    """
    console = Console(stderr=True)
    bar = BarColumn(bar_width=20)
    with Progress(what, bar, _Counts(unit), console=console, refresh_per_second=4) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


class _Counts(ProgressColumn):
    """``1,234 of 5,000 · 320 records/s · 12 s left``."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """See rich."""
        said = [f"{task.completed:,.0f} of {task.total or 0:,.0f}"]
        speed = task.finished_speed or task.speed
        if speed:
            said.append(
                f"{speed:,.0f} {self._unit}/s"
                if speed >= 10
                else f"{60 * speed:,.0f} {self._unit}/min"
            )
        if task.time_remaining and not task.finished:
            said.append(f"{span(task.time_remaining)} left")
        return Text(" · ".join(said))


def span(seconds: float) -> str:
    """Return a time span for people: ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
