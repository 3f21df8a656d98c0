"""Commands that are struck at a system call, by a kill or an error, each time from the same start."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from forking import Forks, Kill

_MOST_CALLS = 400


class Host:
    """An isolated home in a known state, and commands that are struck while they work on it.

    Args:
        site: its homes.
        forks: starts commands.
        stick: the folder that is a stick, as it is mounted; or None for the site's own folder.
    """

    def __init__(self, site, forks: Forks, stick=None) -> None:
        self.site, self.forks, self.stick = site, forks, stick
        self.kept = site.root / "kept"
        self.struck = 0

    def keep(self) -> None:
        """Keep homes and stick as they are, to start from there each time."""
        for name in ("isolated", "stick"):
            shutil.copytree(self.site.root / name, self.kept / name)

    def back(self) -> None:
        for name in ("isolated", "stick"):
            if name == "stick" and self.stick is not None:
                # A mount point stays; what is on the stick goes.
                self.stick.clear()
            else:
                shutil.rmtree(self.site.root / name)
            shutil.copytree(self.kept / name, self.site.root / name, dirs_exist_ok=True)

    def command(self, *arguments, kill: Kill | None = None) -> tuple[int, str]:
        output = self.site.root / "output.txt"
        output.unlink(missing_ok=True)
        status = self.forks.run(*arguments, output=output, kill=kill)
        # It may be struck before it could say anything.
        return status, output.read_text() if output.exists() else ""

    def each(self, call, error, step, *arguments):
        """Strike a command at each such call, from the same start; yield after each time."""
        for number in range(1, _MOST_CALLS, step):
            self.back()
            status, said = self.command(*arguments, kill=Kill(call=call, when=number, error=error))
            if status == 0:
                return
            self.struck += 1
            assert "Traceback" not in said
            assert status == (8 if error else -9), said
            yield
        pytest.fail(f"no end of {call}")


class Stopped:
    """A command in a process of its own that is stopped at a system call, and goes on later.

    Args:
        arguments: of ``airgap``.
        call: the system call; it is stopped when one has been carried out.
        folder: for the trace.
        path: count only calls about this file...
        number: ...and stop at so-manieth; or, without a path:
        about: text in the traced line; the first such call is meant.
    """

    def __init__(
        self,
        *arguments: object,
        call: str,
        folder: Path,
        path: Path | None = None,
        number: int = 1,
        about: str = "",
    ) -> None:
        self._words = [sys.executable, "-m", "airgap", *map(str, arguments)]
        self._call, self._log = call, folder / "strace.txt"
        self._path, self._number, self._about = path, number, about

    def run(
        self,
        between: Callable[[], object],
        *,
        prepare: Callable[[], object] = lambda: None,
    ) -> tuple[int, str]:
        """Run it with a stop between; where calls are not counted by path, run it once to count them.

        Args:
            between: what happens while it is stopped.
            prepare: puts everything to the same start.
        """
        prepare()
        number = self._number
        if self._path is None:
            status, said = self._trace([])
            assert status == 0, said
            lines = [
                line for line in self._log.read_text().splitlines() if f" {self._call}(" in line
            ]
            number = next(n for n, line in enumerate(lines, 1) if self._about in line)
            prepare()
        return self._trace([f"inject={self._call}:signal=SIGSTOP:when={number}"], between)

    def _trace(
        self, inject: list[str], between: Callable[[], object] | None = None
    ) -> tuple[int, str]:
        self._log.unlink(missing_ok=True)
        command = ["strace", "-f", "-y", "-o", str(self._log), "-e", f"trace={self._call}"]
        command += [word for one in inject for word in ("-e", one)]
        command += ["-P", str(self._path)] if self._path is not None else []
        with subprocess.Popen(
            [*command, *self._words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                if between is not None:
                    pid = self._wait(process)
                    between()
                    os.kill(pid, signal.SIGCONT)
                said, _ = process.communicate(timeout=60)
            except BaseException:
                process.kill()
                raise
        return process.returncode, said

    def _wait(self, process: subprocess.Popen) -> int:
        """Wait until the process is stopped, and return its id."""
        while process.poll() is None:
            if self._log.exists() and (
                found := re.search(
                    r"^(\d+) +--- stopped by SIGSTOP", self._log.read_text(), re.MULTILINE
                )
            ):
                return int(found[1])
            os.sched_yield()
        pytest.fail("it ended before it was stopped")
