"""Dynamics that go on from a LAMMPS restart file, after a time limit or a preemption ended an earlier attempt.

Positions, velocities, thermostat and barostat are those of the restart file, to the bit; neighbour lists are built
anew, so that the frames after it agree with an undisturbed run's to rounding, which grows. The frames before are the
earlier attempt's, each once. Source: docs.lammps.org/read_restart.html.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from al_driver.data.lammps_dump import cut_dump, dump_steps
from al_driver.files import read_tail, write_atomic, write_json
from al_driver.layout import CONTINUED_FILE

RESTART_FILE = "restart.last"
"""What the input goes on from, where it is there."""
MAGIC = b"LammpS RestartT"


def go_on(before: Path, directory: Path, trajectory: str, deviations: str) -> bool:
    """Take from an earlier attempt the last state that is whole, and the frames before it.

    Parameters
    ----------
    before, directory
        The folders of the earlier attempt and of this one.
    trajectory, deviations
        The names of the files that both fill.

    Returns
    -------
    Whether there was a state to go on from; otherwise nothing was taken.
    """
    steps = dump_steps(before / trajectory)
    rows = _read_rows(before, deviations)
    for step, restart in _find_restarts(before):
        wanted = [known for known in steps if known < step]
        if not wanted or [known for known, _ in rows if known < step] != wanted:
            continue  # a score was not on the disk yet
        for name in (RESTART_FILE, restart.name):  # under its step, so that a third attempt finds it
            shutil.copyfile(restart, directory / name)
        cut_dump(before / trajectory, directory / trajectory, step)
        text = "".join(row for known, row in rows if known < step)
        write_atomic(directory / _before(deviations), text)
        write_json(directory / CONTINUED_FILE, {"from": before.name, "step": step})
        return True
    return False


def join_parts(directory: Path, deviations: str) -> None:
    """Put the deviations before a continuation to those after it, and leave no restart file behind."""
    before = directory / _before(deviations)
    if before.exists():
        rows = _parse_rows(before.read_text())
        last = rows[-1][0]
        after = [row for step, row in _parse_rows((directory / deviations).read_text()) if step > last]
        write_atomic(directory / deviations, "".join([*(row for _, row in rows), *after]))
        before.unlink()
    for path in directory.glob("restart.*"):
        path.unlink()


def _before(name: str) -> str:
    return f"{name}.before"


def _find_restarts(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield step and path of the restart files that are whole, the last first."""
    found = {int(path.suffix[1:]): path for path in folder.glob("restart.*") if path.suffix[1:].isdecimal()}
    for step in sorted(found, reverse=True):
        with found[step].open("rb") as stream:
            head = stream.read(len(MAGIC))
        if head == MAGIC and MAGIC in read_tail(found[step], 2 * len(MAGIC)):
            yield step, found[step]


def _read_rows(folder: Path, deviations: str) -> list[tuple[int, str]]:
    files = (folder / _before(deviations), folder / deviations)
    return [row for file in files if file.is_file() for row in _parse_rows(file.read_text(errors="replace"))]


def _parse_rows(text: str) -> list[tuple[int, str]]:
    """Return step and text of each whole row."""
    lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    return [(int(line.split()[0]), line) for line in lines if line.strip() and not line.startswith("#")]
