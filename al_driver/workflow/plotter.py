"""Pictures are drawn beside the run, in a process of their own: a run waits for none and fails through none.

What it draws is derived and written atomically, so that it may be ended at any moment, or outlive a killed driver.
"""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

LONGEST = 300.0
"""Seconds that the end of a run waits for its pictures."""
_MODULE = "al_driver.tasks.plots"


class Plotter:
    """Draws what is missing or out of date in a work folder, one process at a time; it is ended with the block."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._again = False
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._output.close()

    def draw(self) -> None:
        """Start drawing; while it still draws what was asked for before, do so behind that."""
        if self._process is not None and self._process.poll() is None:
            self._again = True
            return
        if self._process is not None:
            self._end(self._process)
        self._again = False
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `_end`)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", _MODULE, str(self._root)], env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._output,
            )  # fmt: skip
        except OSError as error:
            self._output.close()
            self._warn(str(error))

    def finish(self, seconds: float = LONGEST) -> None:
        """Draw what is still to be drawn, and wait for it."""
        try:
            for _ in range(2):
                self.draw()
                if self._process is not None:
                    self._process.wait(seconds)
                if not self._again:
                    break
        except subprocess.TimeoutExpired:
            self._warn(f"they take longer than {seconds:.0f} s")
            return
        if self._process is not None:
            self._end(self._process)

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """Take leave of a process that has ended or was killed; say, once, what went wrong."""
        code = process.wait()
        self._process = None
        with self._output as stream:
            stream.seek(0)
            lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
        if code:
            self._warn(lines[-1] if lines else f"exit code {code}")

    def _warn(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            log.warning("plots: %s. The run does not need them; `al status --plots` draws them again", reason[:300])
