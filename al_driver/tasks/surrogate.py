"""The program of property surrogates: what needs torch, and the reading of many crystals beside it.

Run as ``python -m al_driver.tasks.surrogate FOLDER``. It reads ``surrogate.json`` there (`screen.job`), prints
``crystal N`` as it reads and a line for each epoch, and leaves its answer, or ``diagnosis.json`` with the reason where
the input is wrong.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from al_driver.data.structure_files import read_structure_file
from al_driver.errors import ConfigError
from al_driver.files import write_atomic, write_json
from al_driver.layout import EVALUATION_FILE, FEATURES_FILE, MODEL_DIR, NOTES_FILE, PREDICTIONS_FILE, SURROGATE_JOB_FILE
from al_driver.schema.suggest import nearest
from al_driver.screen.baselines.pairs import describe_pairs
from al_driver.screen.crystals import Floats
from al_driver.screen.graph_cache import GraphCache
from al_driver.screen.job import AnyJob, EvaluateJob, FitJob, Job, PredictJob
from al_driver.screen.properties import find_elements
from al_driver.screen.reading import Reader, Reading, Sample
from al_driver.screen.surrogate.checkpoint import read_elements
from al_driver.screen.surrogate.fitting import Split, continue_members, evaluate, fit, make_members
from al_driver.screen.surrogate.model import Surrogate, choose_device, load_surrogate
from al_driver.screen.surrogate.storage import Card, write_members
from al_driver.screen.surrogate.training import Epoch, Known


def main(folder: Path) -> int:
    """Do what the folder's job asks; return the exit status."""
    try:
        text = (folder / SURROGATE_JOB_FILE).read_text(encoding="utf-8")
        job: PredictJob | FitJob | EvaluateJob = TypeAdapter(AnyJob).validate_json(text)
        if isinstance(job, PredictJob):
            predict(job, folder)
        elif isinstance(job, FitJob):
            fit_surrogate(job, folder)
        else:
            evaluate_surrogate(job, folder)
    except ConfigError as error:
        write_json(folder / "diagnosis.json", {"detail": str(error)})
        return 1
    return 0


def predict(job: PredictJob, folder: Path) -> None:
    """Write ``predictions.csv`` with the columns id, path, and each property with its uncertainty, and ``notes.json``.

    Raises
    ------
    ConfigError
        If a model or an input does not serve.
    """
    device = choose_device(job.device)
    models = [load_surrogate(model, device) for model in job.models]
    reading = _read(job)
    graphs = [sample.graph for sample in reading.samples]
    columns = dict[str, list[str]]()
    for model in models:
        found = model.predict(graphs, job.max_atoms)
        name = model.name if model.name not in columns else f"{model.name}_{len(columns)}"
        columns |= _columns(name, found.mean, found.std)
        if job.features and model is models[0]:
            np.savez(folder / FEATURES_FILE, features=found.vectors)
    units = {model.name: model.unit for model in models}
    if job.baselines or not models:
        frames = [frame for path in job.inputs for frame in read_structure_file(path, ())]
        for baseline in job.baselines:
            columns |= _columns(baseline.name, baseline.predict(frames), None)
            units[baseline.name] = baseline.unit
        if job.features and not models:
            np.savez(folder / FEATURES_FILE, features=describe_pairs(frames))
    write_json(folder / NOTES_FILE, {"notes": _notes(reading), "units": units})
    write_atomic(folder / PREDICTIONS_FILE, _table(reading.samples, job.base, columns))


def fit_surrogate(job: FitJob, folder: Path) -> None:
    """Write the folder ``model``: the surrogate, its learning curves, the split and the errors on held-out crystals.

    Where the job asks for it, also what `predict` leaves of that surrogate and other crystals.

    Raises
    ------
    ConfigError
        If the start or an input does not serve, or crystals are too few.
    """
    device = choose_device(job.device)
    start = load_surrogate(job.start) if job.start else None
    classify = start.members[0].is_classifier if start else job.classify
    reading = _read(job)
    target, samples, known = _known(reading, job.target, classify=classify)
    seen = np.flatnonzero(start.members[0].has_seen(known.graphs)).tolist() if start else []
    split = Split.draw(len(known), job.settings, set(seen))
    train = known.take(split.train)
    if start:
        members = continue_members(start, job.settings, train, target, job.unit or start.unit)
    else:
        elements = read_elements(find_elements())
        members = make_members(job.settings, elements, train, target, job.unit, classify=classify)
    for member in members:
        member.net.to(device)
    surrogate, curves = fit(known, split, job.settings, members, _tell_epoch)
    out = folder / f".{MODEL_DIR}"
    out.mkdir()
    found, _, _ = evaluate(surrogate, known.take(split.calibrate))
    write_json(out / EVALUATION_FILE, {"on": "calibrate", "property": target, "unit": surrogate.unit, **found})
    _write_curves(out / "learning.csv", curves)
    parts = {index: name for name in ("train", "valid", "calibrate") for index in getattr(split, name)}
    columns = {target: [f"{value:.8g}" for value in known.values], "part": [parts[i] for i in range(len(known))]}
    write_atomic(out / "split.csv", _table(samples, job.base, columns))
    write_members(out, surrogate.to("cpu").members, _make_card(surrogate, job, split))
    notes = _notes(reading)
    if start:
        notes += _notes_of_start(job, start, surrogate, len({*seen} & {*split.calibrate}))
    write_json(folder / NOTES_FILE, {"notes": notes, "units": {target: surrogate.unit}})
    out.rename(folder / MODEL_DIR)
    if job.predict:
        own = {"base": job.base, "cache": job.cache, "skip": job.skip, "device": job.device}
        predict(PredictJob(models=(str(folder / MODEL_DIR),), inputs=job.predict, features=True, **own), folder)


def evaluate_surrogate(job: EvaluateJob, folder: Path) -> None:
    """Write ``predictions.csv`` with the known values beside the predicted, and ``evaluation.json``.

    Raises
    ------
    ConfigError
        If the model or an input does not serve.
    """
    surrogate = load_surrogate(job.model, choose_device(job.device))
    reading = _read(job)
    named = job.target or (surrogate.name if any(surrogate.name in one.targets for one in reading.samples) else None)
    target, samples, known = _known(reading, named, classify=surrogate.members[0].is_classifier)
    found, mean, std = evaluate(surrogate, known)
    columns = _columns(surrogate.name, mean, std)
    columns["known" if target in columns else target] = [f"{value:.8g}" for value in known.values]
    write_json(folder / NOTES_FILE, {"notes": _notes(reading), "units": {surrogate.name: surrogate.unit}})
    write_json(folder / EVALUATION_FILE, {"property": surrogate.name, "unit": surrogate.unit, **found})
    write_atomic(folder / PREDICTIONS_FILE, _table(samples, job.base, columns))


def _read(job: Job) -> Reading:
    cache = GraphCache(job.cache)
    reading = Reader(cache, _tell_crystals).read(job.inputs)
    if not (job.skip and reading.samples):
        reading.raise_problems()
    cache.save()
    return reading


def _known(reading: Reading, target: str | None, *, classify: bool) -> tuple[str, list[Sample], Known]:
    """Return the property's name, the samples that have it, and their values."""
    names = sorted({name for sample in reading.samples for name in sample.targets})
    if not names:
        raise ConfigError("the inputs hold no known property: an id_prop.csv, a table or numbers in extxyz would")
    if target is None and len(names) > 1:
        raise ConfigError(f"the inputs hold several properties; say --target {' or '.join(names[:12])}")
    if target is not None and target not in names:
        raise ConfigError(f"--target {target}: the inputs do not hold it{nearest(target, names)}")
    target = target or names[0]
    samples = [sample for sample in reading.samples if target in sample.targets]
    values = np.array([sample.targets[target] for sample in samples])
    if classify and not np.isin(values, (0.0, 1.0)).all():
        raise ConfigError(f"{target}: the classes are 0 and 1; found {values[~np.isin(values, (0.0, 1.0))][0]:g}")
    return target, samples, Known([sample.graph for sample in samples], values)


def _make_card(surrogate: Surrogate, job: FitJob, split: Split) -> Card:
    counts = {"train": len(split.train), "valid": len(split.valid), "calibrate": len(split.calibrate)}
    return Card(
        property=surrogate.name,
        unit=surrogate.unit,
        shape=surrogate.members[0].net.shape.as_dict(),
        normalizers=tuple((member.mean, member.std) for member in surrogate.members),
        uncertainty=surrogate.uncertainty or "constant",
        scales=tuple(surrogate.scales.values()),
        trained={"start": job.start, "crystals": counts, "settings": job.settings.model_dump(mode="json")},
    )


def _tell_crystals(count: int) -> None:
    sys.stdout.write(f"crystal {count}\n")
    sys.stdout.flush()


def _tell_epoch(epoch: Epoch) -> None:
    sys.stdout.write(f"member {epoch.member} epoch {epoch.epoch} valid_mae {epoch.valid_mae:.6g}\n")
    sys.stdout.flush()


def _columns(name: str, mean: Floats, std: Floats | None) -> dict[str, list[str]]:
    columns = {name: [f"{value:.8g}" for value in mean]}
    return columns if std is None else columns | {f"{name}_std": [f"{value:.4g}" for value in std]}


def _table(samples: Sequence[Sample], base: Path, columns: dict[str, list[str]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "path", *columns])
    for sample, *values in zip(samples, *columns.values(), strict=True):
        path = sample.path.relative_to(base) if sample.path.is_relative_to(base) else sample.path
        table.writerow([sample.name, path, *values])
    return text.getvalue()


def _write_curves(file: Path, curves: Sequence[Epoch]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, asdict(curves[0]), lineterminator="\n")
    table.writeheader()
    for epoch in curves:
        table.writerow({name: f"{value:.6g}" for name, value in asdict(epoch).items()})
    write_atomic(file, text.getvalue())


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


def _notes_of_start(job: FitJob, start: Surrogate, fitted: Surrogate, n_seen: int) -> list[str]:
    """Return how what is learnt differs from what the start predicts, and what of the held-out crystals it has seen."""
    notes = []
    if (start.name, start.unit) != (fitted.name, fitted.unit):
        units = [one.unit or "no unit" for one in (start, fitted)]
        taken = "" if job.unit else ", the start's unit since --unit is not given"
        learnt = f"{fitted.name} ({units[1]}{taken})"
        notes.append(f"{job.start} predicts {start.name} ({units[0]}); learnt is {learnt}")
    if n_seen:
        notes.append(
            f"{job.start} was trained on {n_seen} of the crystals that give uncertainties their scale: errors and "
            "uncertainties told here are too small; give crystals that it has not seen"
        )
    return notes


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
