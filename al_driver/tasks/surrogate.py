"""The program of property surrogates: what needs torch, and the reading of many crystals beside it.

Run as ``python -m al_driver.tasks.surrogate FOLDER``. It reads ``surrogate.json`` there (`screen.job`), prints
``crystal N`` as it reads, and leaves its answer, or ``diagnosis.json`` with the reason where the input is wrong.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al_driver.errors import ConfigError
from al_driver.files import write_atomic, write_json
from al_driver.layout import FEATURES_FILE, NOTES_FILE, PREDICTIONS_FILE, SURROGATE_JOB_FILE
from al_driver.screen.graph_cache import GraphCache
from al_driver.screen.job import PredictJob
from al_driver.screen.reading import Reader, Reading, Sample


def main(folder: Path) -> int:
    """Do what the folder's job asks; return the exit status."""
    try:
        job = PredictJob.model_validate_json((folder / SURROGATE_JOB_FILE).read_text(encoding="utf-8"))
        predict(job, folder)
    except ConfigError as error:
        write_json(folder / "diagnosis.json", {"detail": str(error)})
        return 1
    return 0


def predict(job: PredictJob, folder: Path) -> None:
    """Write ``predictions.csv`` with the columns id, path, and each property, and ``notes.json``.

    Raises
    ------
    ConfigError
        If a model or an input does not serve.
    """
    from al_driver.screen.surrogate.model import choose_device, load_surrogate

    device = choose_device(job.device)
    models = [load_surrogate(model, device) for model in job.models]
    cache = GraphCache(job.cache)
    reading = Reader(cache, _tell).read(job.inputs)
    if not (job.skip and reading.samples):
        reading.raise_problems()
    cache.save()
    graphs = [sample.graph for sample in reading.samples]
    if job.features:
        np.savez(folder / FEATURES_FILE, features=models[0].describe(graphs, job.max_atoms))
    columns = dict[str, list[str]]()
    for model in models:
        found = model.predict(graphs, job.max_atoms)
        name = model.name if model.name not in columns else f"{model.name}_{len(columns)}"
        columns[name] = [f"{value:.8g}" for value in found.mean]
        if found.std is not None:
            columns[f"{name}_std"] = [f"{value:.4g}" for value in found.std]
    write_json(folder / NOTES_FILE, {"notes": _notes(reading), "units": {model.name: model.unit for model in models}})
    write_atomic(folder / PREDICTIONS_FILE, _table(reading.samples, job.base, columns))


def _tell(count: int) -> None:
    sys.stdout.write(f"crystal {count}\n")
    sys.stdout.flush()


def _table(samples: Sequence[Sample], base: Path, columns: dict[str, list[str]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "path", *columns])
    for sample, *values in zip(samples, *columns.values(), strict=True):
        path = sample.path.relative_to(base) if sample.path.is_relative_to(base) else sample.path
        table.writerow([sample.name, path, *values])
    return text.getvalue()


def _notes(reading: Reading) -> list[str]:
    """Return what the user should know of the crystals."""
    notes = [f"left out: {problem}" for problem in reading.problems]
    shared = [sample.name for sample in reading.samples if not sample.graph.is_ordered]
    if shared:
        notes.append(f"{_some(shared)}: shared or partly empty sites, features averaged by occupancy")
    lonely = [sample.name for sample in reading.samples if sample.graph.n_missing]
    if lonely:
        notes.append(f"{_some(lonely)}: atoms with fewer than 12 neighbours within 8 Å, which no bulk crystal has")
    return notes


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
