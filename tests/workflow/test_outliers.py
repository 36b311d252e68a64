"""Energies that are unusual for their composition: asked once more from another start, kept or refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.data.dataset import write_dataset
from al_driver.data.energy_band import collect_energies, composition_of, find_bands
from al_driver.data.frames import Label, read_frames, write_frames
from al_driver.data.gate import GateLimits
from al_driver.engines.base import Engine
from al_driver.errors import EngineError
from al_driver.files import read_json
from al_driver.layout import WorkFolder
from al_driver.schema.resource import Resources
from al_driver.workflow.context import Context
from al_driver.workflow.label import label_inputs, run_label
from al_driver.workflow.step import Step

N_FRAMES = 22
USUAL = -4.0  # eV/atom


class Toy(Engine):
    """A reference whose energies are told by a file: of the usual start, and of another."""

    default_command: ClassVar[str] = "cp"
    output_name: ClassVar[str] = "output"
    engine: Literal["toy"] = "toy"
    energies: dict[int, tuple[float, float | None]]
    """By frame, eV/atom; None: the other start does not converge."""
    has_start: bool = True

    def write_inputs(self, atoms: Atoms, directory: Path) -> None:
        self._write(atoms, directory, 0)

    def write_other_start(self, atoms: Atoms, directory: Path) -> None:
        self._write(atoms, directory, 1)

    def other_start(self) -> str | None:
        return "the second number" if self.has_start else None

    def arguments(self) -> tuple[str, ...]:
        return ("sent.json", "result.json")

    def is_complete(self, directory: Path) -> bool:
        return (directory / "result.json").exists()

    def read_label(self, directory: Path) -> Label:
        if not self.is_complete(directory):
            raise EngineError("no_output", directory, "no result")
        result = read_json(directory / "result.json")
        if result["energy"] is None:
            raise EngineError("scf_unconverged", directory, "100 steps were not enough")
        atoms = read_frames(directory / "frame.extxyz")[0]
        energy = len(atoms) * result["energy"]
        return Label(atoms, energy, np.full((len(atoms), 3), 0.1), np.eye(3), {"program": "toy", "version": "1"})

    def _write(self, atoms: Atoms, directory: Path, start: int) -> None:
        write_frames(directory / "frame.extxyz", [atoms])
        number = int(atoms.info["number"])
        energy = self.energies.get(number, (USUAL + 0.001 * number,) * 2)[start]
        (directory / "sent.json").write_text(json.dumps({"energy": energy}))


def make_frames(n_frames: int = N_FRAMES) -> list[Atoms]:
    """Return frames of silicon, of two sizes."""
    frames = []
    for number in range(n_frames):
        atoms = bulk("Si", cubic=True) if number % 2 else bulk("Si")
        atoms.rattle(0.05, seed=number)
        atoms.info = {"number": number}
        frames.append(atoms)
    return frames


def label(folder: Path, engine: Toy, frames: Sequence[Atoms], known: Sequence[Path] = ()) -> dict[str, Any]:
    """Run a label step; return its result with the lines of its rejected frames."""
    resources = Resources.model_validate({"default": {"executor": "inline", "max_failed": 5}})
    context = Context(WorkFolder(folder / "work"), resources)
    step = Step("0/label", folder / "work/iter.0000/label", label_inputs(engine, ["Si"]), ())
    step.folder.mkdir(parents=True, exist_ok=True)
    write_frames(folder / "selected.extxyz", frames)
    record = run_label(context, engine, step=step, selected=folder / "selected.extxyz", type_map=["Si"], known=known)
    lines = (step.folder / "rejected.jsonl").read_text().splitlines()
    return record.result | {"lines": [json.loads(line) for line in lines]}


def test_an_unusual_energy_is_kept_when_two_starts_agree_and_refused_otherwise(tmp_path: Path) -> None:
    engine = Toy(energies={3: (-1.0, -1.0005), 8: (-1.0, -4.0), 12: (2.0, None), 15: (-3.2, 0.0)})
    result = label(tmp_path, engine, make_frames())
    assert (result["labelled"], result["rejected"], result["outliers"]) == (N_FRAMES - 2, 2, 3)
    differs, starved = result["lines"]
    assert (differs["frame"], differs["reason"]) == (8, "outlier")
    assert differs["detail"] == (
        "-1.0000 eV/atom, outside -3.987 ± 1 of 22 frames of Si; from another start -4.0000, 3000.0 meV/atom apart"
    )
    assert differs["where"] == "again.000008"
    assert (starved["frame"], starved["reason"]) == (12, "outlier")
    assert starved["detail"].endswith("from another start: scf_unconverged: 100 steps were not enough")
    step = tmp_path / "work/iter.0000/label"
    kept = [atoms.info["number"] for atoms in read_frames(step / "labelled.extxyz")]
    assert kept == [n for n in range(N_FRAMES) if n not in (8, 12)]
    row = next(row for row in map(json.loads, (step / "frames.jsonl").open()) if row["frame"] == 3)
    assert row["outlier"]["energy"] == -1.0 and row["outlier"]["another_start"] == pytest.approx(-1.0005)
    assert sorted(path.name for path in step.glob("again.*") if "try" not in path.name) == [
        "again.000003",
        "again.000008",
    ]


def test_a_step_that_is_made_anew_asks_nothing_again(tmp_path: Path) -> None:
    engine = Toy(energies={3: (-1.0, -1.0005)})
    first = label(tmp_path, engine, make_frames())
    (tmp_path / "work/iter.0000/label").rename(tmp_path / "work/iter.0000/label.bak.1")
    second = label(tmp_path, engine, make_frames())
    assert second == first | {"reused": N_FRAMES}
    notes = map(json.loads, (tmp_path / "work/iter.0000/label/inputs.jsonl").open())
    assert "iter.0000/label.bak.1/again.000003" in [note.get("reused") for note in notes]


def test_what_is_usual_counts_all_that_is_known_and_only_from_enough_frames_on(tmp_path: Path) -> None:
    engine = Toy(energies={1: (-1.0, -4.0)})
    assert label(tmp_path / "few", engine, make_frames(19))["rejected"] == 0
    old = make_frames(17)
    for atoms in old:
        atoms.info = {"energy": USUAL * len(atoms)}
        atoms.arrays["forces"] = np.zeros((len(atoms), 3))
    write_dataset(tmp_path / "known", old, ["Si"])
    systems = sorted(path.parent for path in (tmp_path / "known").rglob("type.raw"))
    result = label(tmp_path / "known_too", engine, make_frames(3), systems)
    assert [line["frame"] for line in result["lines"]] == [1]


def test_where_nothing_but_the_frame_decides_it_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = Toy(energies={3: (-1.0, 9.0)}, has_start=False)
    with caplog.at_level("INFO", "al_driver"):
        result = label(tmp_path, engine, make_frames())
    assert (result["labelled"], result["outliers"]) == (N_FRAMES, 1)
    assert "kept, since the energy of this engine follows from the frame alone" in caplog.text


def test_data_of_another_reference_are_suspected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = make_frames(40)
    for atoms in old:
        atoms.info = {"energy": -100.0 * len(atoms)}
        atoms.arrays["forces"] = np.zeros((len(atoms), 3))
    write_dataset(tmp_path / "known", old, ["Si"])
    systems = sorted(path.parent for path in (tmp_path / "known").rglob("type.raw"))
    with caplog.at_level("WARNING", "al_driver"):
        result = label(tmp_path, Toy(energies={}), make_frames(4), systems)
    assert (result["labelled"], result["outliers"]) == (4, 4)
    assert (
        "0/label: 4 of 4 labels are unusual: is the data that the run starts from of the same reference?" in caplog.text
    )


def test_the_band_is_robust_and_its_bounds_are_inside() -> None:
    values = [0.0] * 10 + [1.0] * 10 + [500.0]  # median 1, MAD 1
    frames = [(bulk("Si"), 2 * value) for value in values]
    energies = collect_energies([], frames)
    (band,) = find_bands(energies, GateLimits(outlier_deviation=10)).values()
    assert (band.median, band.half_width) == (1.0, pytest.approx(14.826))
    assert band.holds(1.0 - 14.8259) and not band.holds(15.8261)
    (band,) = find_bands(energies, GateLimits(outlier_energy=20.0)).values()
    assert band.holds(21.0) and not band.holds(21.000001)
    assert not find_bands(energies, GateLimits(outlier_frames=22))


def test_compositions_are_ratios() -> None:
    assert composition_of(bulk("NaCl", "rocksalt", a=5.6).numbers) == composition_of([17, 11, 11, 17])
    assert composition_of([14]) != composition_of([14, 14, 8])
