"""`al screen predict`, `fit`, `finetune` and `evaluate`: property surrogates of crystals.

The work is `al_driver/tasks/surrogate.py`, in a process of its own: this one never imports torch.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict, Unpack

from al_driver.errors import ConfigError
from al_driver.files import read_json, write_atomic
from al_driver.layout import EVALUATION_FILE, MODEL_DIR, NOTES_FILE, PREDICTIONS_FILE, SURROGATE_JOB_FILE
from al_driver.screen.job import Device, EvaluateJob, FitJob, FitSettings, Job, PredictJob
from al_driver.screen.properties import check_installed
from al_driver.workflow.child import run_child
from al_driver.workflow.evaluation_page import write_evaluation
from al_driver.workflow.target import check_target

PROGRAM = "al_driver.tasks.surrogate"
Progress = Callable[[str], None]
Paths = Path | str | Sequence[Path | str]


class Options(TypedDict, total=False):
    """How inputs are read, and where networks run: what every verb takes as keywords."""

    skip: bool
    """Leave out what cannot be read, and say so, in place of refusing all."""
    cache: Path | str | None
    """A folder where graphs are kept, so that CIFs need not be parsed again."""
    device: Device
    """"auto" takes a GPU where there is one."""
    progress: Progress | None
    """Called with lines that tell how far it is."""


def predict(
    models: Paths,
    inputs: Paths,
    out: Path | str | None = None,
    **options: Unpack[Options],
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
    options
        See `Options`.

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
    target = _check_out(out)
    job = PredictJob(models=tuple(map(_name_model, _several(models))), **_common(inputs, options))
    with _ask(job, "al screen predict", PREDICTIONS_FILE, options) as folder:
        table = (folder / PREDICTIONS_FILE).read_text(encoding="utf-8")
        notes = read_json(folder / NOTES_FILE)["notes"]
    _write(target, table)
    return table, notes


def fit(
    inputs: Paths,
    out: Path | str,
    *,
    start: Path | str | None = None,
    target: str | None = None,
    unit: str = "",
    classify: bool = False,
    settings: FitSettings | None = None,
    **options: Unpack[Options],
) -> tuple[dict[str, Any], list[str]]:
    """Fit a surrogate to known values, from scratch or from another surrogate.

    Parameters
    ----------
    inputs
        As of `predict`, with known values: an ``id_prop.csv``, a table, or numbers in the comments of extxyz frames.
    out
        The folder to write, which is not there yet: ``model.json``, weights, ``learning.csv``, ``split.csv``,
        ``evaluation.json``.
    start
        The surrogate whose weights are the first; from scratch when None.
    target
        Which of the known values; needed where there are several.
    unit
        Of the property; the start's where that has one.
    classify
        The property is 0 or 1, and its probability is predicted.

    Returns
    -------
    tuple
        What ``evaluation.json`` holds, errors on crystals that no training saw; and remarks.

    Raises
    ------
    ConfigError
        If the start or the inputs do not serve, or ``out`` is there already.
    TasksFailed
        If the program broke off.
    """
    folder_out = _check_out(out)
    assert folder_out is not None  # noqa: S101  (for mypy: `out` is given)
    job = FitJob(
        target=target, unit=unit, start=None if start is None else _name_model(start), classify=classify,
        settings=settings or FitSettings(), **_common(inputs, options),
    )  # fmt: skip
    with _ask(job, "al screen fit", MODEL_DIR, options) as folder:
        folder_out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder / MODEL_DIR, staged := folder_out.with_name(f".{folder_out.name}.new"))
        staged.rename(folder_out)
        return read_json(folder_out / EVALUATION_FILE), read_json(folder / NOTES_FILE)["notes"]


def evaluate(
    model: Path | str,
    inputs: Paths,
    out: Path | str | None = None,
    *,
    target: str | None = None,
    plots: Path | str | None = None,
    **options: Unpack[Options],
) -> tuple[dict[str, Any], list[str]]:
    """Compare a surrogate's predictions with known values.

    Parameters
    ----------
    out
        The table to write: the columns of `predict`, and the known values; nothing when None.
    plots
        A folder, not there yet, for pictures of parity and coverage and a page with all of it.

    Returns
    -------
    tuple
        ``n``, ``mae``, ``rmse``, ``mae_by_member`` and, of each uncertainty, how good it is; and remarks.

    Raises
    ------
    ConfigError
        If the model or the inputs do not serve, or ``out`` or ``plots`` is there already.
    TasksFailed
        If the program broke off.
    """
    table_out, plots_out = _check_out(out), _check_out(plots, "--plots")
    job = EvaluateJob(model=_name_model(model), target=target, **_common(inputs, options))
    with _ask(job, "al screen evaluate", PREDICTIONS_FILE, options) as folder:
        table = (folder / PREDICTIONS_FILE).read_text(encoding="utf-8")
        found, notes = read_json(folder / EVALUATION_FILE), read_json(folder / NOTES_FILE)["notes"]
    _write(table_out, table)
    if plots_out is not None:
        write_evaluation(plots_out, table, found)
    return found, notes


@contextmanager
def _ask(job: Job, name: str, result: str, options: Options) -> Iterator[Path]:
    """Run the program in a folder that is there as long as the block."""
    check_installed()
    with tempfile.TemporaryDirectory(prefix="al-screen-") as folder:
        (Path(folder) / SURROGATE_JOB_FILE).write_text(job.model_dump_json(), encoding="utf-8")
        run_child([sys.executable, "-I", "-m", PROGRAM, folder], Path(folder), name, result, options.get("progress"))
        yield Path(folder)


def _common(inputs: Paths, options: Options) -> dict[str, Any]:
    cache = options.get("cache")
    return {
        "inputs": tuple(Path(one).expanduser().absolute() for one in _several(inputs)),
        "base": Path.cwd(),
        "skip": options.get("skip", False),
        "cache": None if cache is None else Path(cache).expanduser().absolute(),
        "device": options.get("device", "auto"),
    }


def _check_out(out: Path | str | None, option: str = "-o") -> Path | None:
    if out is None:
        return None
    path = Path(out).expanduser()
    check_target(path)
    if path.exists():
        raise ConfigError(f"{option} {path} is there already; name a new one, or take it away")
    return path


def _write(out: Path | None, table: str) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, table)


def _several(one_or_more: Paths) -> list[str | Path]:
    return [one_or_more] if isinstance(one_or_more, str | Path) else list(one_or_more)


def _name_model(model: str | Path) -> str:
    """Return a path in full, and a bare name as it is where nothing is called so: it may be a published model."""
    path = Path(model).expanduser()
    return str(model) if path.name == str(model) and not path.exists() else str(path.absolute())
