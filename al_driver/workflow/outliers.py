"""Labels whose energy is unusual for their composition: kept when the SCF comes to it from two starts, else refused.

An SCF may end in another state than the one that was meant (a wrong moment, a metastable density), and says that it
converged. A melt, or a first frame of a new phase, has an unusual energy too, and is no error: so an unusual energy is
only asked once more. Where nothing but the frame decides the numbers, as in a classical potential, there is nothing to
ask, and it is kept. eV per atom.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from al_driver.data.energy_band import Band, collect_energies, composition_of, find_bands
from al_driver.data.frames import Label
from al_driver.data.gate import check_label
from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.layout import again_name
from al_driver.workflow.context import Context
from al_driver.workflow.engine_tasks import EngineTask, EngineTasks, calculation_key
from al_driver.workflow.step import Step

log = logging.getLogger(__name__)
BATCH = "again"
MOST_SUSPECT = 0.5
"""From this share of a step's labels on, the data that are known are more likely at fault than the labels."""


@dataclass(frozen=True)
class Outlier:
    """A label with an unusual energy, eV/atom."""

    energy: float
    band: Band
    other: float | None = None
    """From another start; None where that gave none, or was not asked."""
    refused: EngineError | None = None
    """Why it is not kept."""

    def as_row(self) -> dict[str, Any]:
        """Return what a ledger keeps of one that is kept; the second energy is None where there was no other start."""
        return {"outlier": {"band": str(self.band), "energy": self.energy, "another_start": self.other}}


def second_look(engine: Engine) -> list[str]:
    """Return what is set in the input of a label whose energy is unusual, for `al check`; nothing without a start."""
    start = engine.other_start()
    return [] if start is None else [f"label, once more where its energy is unusual: {start}"]


def judge_outliers(
    context: Context,
    engine: Engine,
    step: Step,
    frames: Mapping[int, Atoms],
    labels: Mapping[int, Label],
    known: Sequence[Path],
) -> dict[int, Outlier]:
    """Calculate labels with an unusual energy once more, and return what came of each, by the number of its frame.

    Parameters
    ----------
    frames, labels
        Of this step: as they were sent, and as they passed the gate. They count among those that are known.
    known
        deepmd/npy systems that were labelled before.
    """
    found = _find(engine, labels, known)
    if not found:
        return {}
    _say(step, found, len(labels))
    if engine.other_start() is None:
        log.info("%s: kept, since the energy of this engine follows from the frame alone", step.name)
        return found
    settings = engine.identity()
    tasks = {
        again_name(index): EngineTask(
            calculation_key(engine, frames[index], settings, "another start"),
            engine,
            lambda directory, index=index: engine.write_other_start(frames[index], directory),  # type: ignore[misc]
            lambda directory, index=index: _read(engine, frames[index], directory),  # type: ignore[misc]
        )
        for index in found
    }
    again: EngineTasks[Label] = EngineTasks(tasks, step.folder)
    failed = again.run(context, step, "label", batch=BATCH, tolerant=True).failed
    judged = {}
    for index, outlier in found.items():
        name, n_atoms = again_name(index), len(frames[index])
        if name in failed:
            why = f"from another start: {failed[name].reason}: {failed[name].detail}"
            judged[index] = _refuse(outlier, None, why, failed[name].where)
            continue
        other = again.result(name).energy / n_atoms
        apart = abs(other - outlier.energy)
        why = f"from another start {other:.4f}, {1e3 * apart:.1f} meV/atom apart"
        is_same = apart < engine.gate.outlier_agreement
        judged[index] = (
            Outlier(outlier.energy, outlier.band, other)
            if is_same
            else _refuse(outlier, other, why, step.folder / name)
        )
    n_refused = sum(outlier.refused is not None for outlier in judged.values())
    log.info("%s: from another start %d the same, %d refused", step.name, len(judged) - n_refused, n_refused)
    return judged


def _find(engine: Engine, labels: Mapping[int, Label], known: Sequence[Path]) -> dict[int, Outlier]:
    energies = collect_energies(known, ((label.atoms, label.energy) for label in labels.values()))
    bands = find_bands(energies, engine.gate)
    found = {}
    for index, label in labels.items():
        band = bands.get(composition_of(label.atoms.numbers))
        energy = label.energy / len(label.atoms)
        if band is not None and not band.holds(energy):
            found[index] = Outlier(energy, band)
    return found


def _read(engine: Engine, frame: Atoms, directory: Path) -> Label:
    label = engine.read_label(directory)
    check_label(frame, label, directory, engine.gate)
    return label


def _refuse(outlier: Outlier, other: float | None, why: str, where: Path) -> Outlier:
    detail = f"{outlier.energy:.4f} eV/atom, outside {outlier.band}; {why}"
    return Outlier(outlier.energy, outlier.band, other, EngineError("outlier", where, detail))


def _say(step: Step, found: Mapping[int, Outlier], n_labels: int) -> None:
    first = next(iter(found.values()))
    log.info(
        "%s: %d energies are unusual for their composition, the first %.4f eV/atom where %s is usual",
        step.name, len(found), first.energy, first.band,
    )  # fmt: skip
    if len(found) > MOST_SUSPECT * n_labels:
        log.warning(
            "%s: %d of %d labels are unusual: is the data that the run starts from of the same reference?",
            step.name, len(found), n_labels,
        )  # fmt: skip
