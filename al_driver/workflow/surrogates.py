"""``al screen predict``: properties of crystals by surrogates.

The work is `al_driver/tasks/surrogate.py`, in a process of its own: this one never imports torch.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from al_driver.errors import ConfigError
from al_driver.files import write_atomic
from al_driver.layout import NOTES_FILE, PREDICTIONS_FILE, SURROGATE_JOB_FILE
from al_driver.screen.job import Device, PredictJob
from al_driver.screen.properties import check_installed
from al_driver.workflow.child import run_child
from al_driver.workflow.target import check_target

PROGRAM = "al_driver.tasks.surrogate"
Progress = Callable[[int], None]


def predict(
    models: str | Path | Sequence[str | Path],
    inputs: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    *,
    skip: bool = False,
    cache: Path | str | None = None,
    device: Device = "auto",
    progress: Progress | None = None,
) -> tuple[str, list[str]]:
    """Predict properties of crystals, as a table.

    Parameters
    ----------
    models
        Names of published models, checkpoints of the authors' code, or folders that a fit left.
    inputs
        CIF, POSCAR, extxyz, whatever else ASE reads; folders of them, or with an ``id_prop.csv``; tables with CIFs.
    out
        The CSV file to write, which is not there yet.
    skip
        Leave out what cannot be read, and say so, in place of refusing all.
    cache
        A folder where graphs are kept, so that CIFs need not be parsed again.
    device
        "auto" takes a GPU where there is one.
    progress
        Called with the number of crystals read so far.

    Returns
    -------
    tuple
        The table, ``id,path,<property>[,<property>_std]`` with a pair of columns for each model; and remarks.

    Raises
    ------
    ConfigError
        If models or inputs do not serve, or ``out`` is there already.
    TasksFailed
        If the program broke off.
    """
    target = None if out is None else Path(out).expanduser()
    if target is not None:
        check_target(target)
        if target.exists():
            raise ConfigError(f"-o {target} is there already; name a new file, or take it away")
    check_installed()
    job = PredictJob(
        models=tuple(_absolute(model) for model in _several(models)),
        inputs=tuple(Path(one).expanduser().absolute() for one in _several(inputs)),
        base=Path.cwd(),
        cache=None if cache is None else Path(cache).expanduser().absolute(),
        skip=skip,
        device=device,
    )
    with tempfile.TemporaryDirectory(prefix="al-screen-") as name:
        folder = Path(name)
        (folder / SURROGATE_JOB_FILE).write_text(job.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-I", "-m", PROGRAM, name]
        run_child(command, folder, "al screen predict", PREDICTIONS_FILE, _teller(progress))
        table = (folder / PREDICTIONS_FILE).read_text(encoding="utf-8")
        notes = json.loads((folder / NOTES_FILE).read_text(encoding="utf-8"))["notes"]
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, table)
    return table, notes


def _several(one_or_more: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [one_or_more] if isinstance(one_or_more, str | Path) else list(one_or_more)


def _absolute(model: str | Path) -> str:
    """Return a path in full, and a bare name as it is where nothing is called so: it may be a published model."""
    path = Path(model).expanduser()
    return str(model) if path.name == str(model) and not path.exists() else str(path.absolute())


def _teller(progress: Progress | None) -> Callable[[str], object]:
    def tell(line: str) -> None:
        if progress and line.startswith("crystal "):
            progress(int(line.split()[1]))

    return tell
