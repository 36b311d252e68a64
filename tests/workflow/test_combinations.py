"""Every combination of the stages of ``al init_bulk``, with the embedded reference: real LAMMPS, Stillinger–Weber."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from al_driver.data.dataset import find_systems, read_system
from al_driver.data.frames import read_frames
from al_driver.errors import StateMismatch
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.words import many
from al_driver.workflow import verbs
from al_driver.workflow.foretell import expected_counts

pytestmark = pytest.mark.needs("lmp")
SW = {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]}
TERSOFF = {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": ["* * Si.tersoff Si"]}
STAGES: dict[str, Any] = {
    "relax": {"engine": "truth", "what": "cell", "max_force": 0.001},
    "supercell": [2, 1, 1],
    "scale": [0.98, 1.02],
    "perturb": {"copies": 3, "cell_fraction": 0.02, "atom_distance": 0.1},
    "aimd": {"engine": "truth", "temperature": 600, "n_steps": 6, "every": 2, "starts": 2},
}
FACTORS = {"scale": 2, "perturb": 3}
COMBINATIONS = [c for n in range(len(STAGES) + 1) for c in itertools.combinations(STAGES, n)]
RESOURCE = {"default": {"executor": "inline", "workers": 2, "env": {"OMP_NUM_THREADS": "1"}}}


def write_inputs(folder: Path, stages: tuple[str, ...], **changes: Any) -> Path:
    entry = {"path": "POSCAR", "name": "si"} | {stage: STAGES[stage] for stage in stages}
    param = {"seed": 7, "type_map": ["Si"], "engines": {"truth": SW}, "label": "truth", "structures": [entry]}
    folder.mkdir(exist_ok=True)
    (folder / "param.json").write_text(json.dumps(param | {"valid_fraction": 0.0} | changes))
    (folder / "resource.json").write_text(json.dumps(RESOURCE))
    bulk("Si", cubic=True, a=5.5).write(folder / "POSCAR", format="vasp")
    return folder


def init(folder: Path) -> Path:
    verbs.init_bulk(folder / "param.json", folder / "resource.json")
    return folder / "init"


def foretold(folder: Path) -> list[str]:
    return expected_counts(load_params(folder / "param.json", InitBulkParams))


def result(work: Path, stage: str) -> dict[str, Any]:
    return json.loads((work / stage / "step.json").read_text())["result"]


def check(folder: Path, stages: tuple[str, ...]) -> Path:
    """Run a combination; prove its counts, and that what each stage did is there."""
    n_starts = np.prod([FACTORS.get(stage, 1) for stage in stages], dtype=int)
    total = n_starts + (3 * min(2, n_starts) if "aimd" in stages else 0)
    lines = foretold(write_inputs(folder, stages))
    assert lines[-1].startswith(f"at most {many(total, 'structure')} to label")
    work = init(folder)
    counts = {stage: result(work, stage)["structures"] for stage in STAGES}
    assert (counts["perturb"], counts["aimd"]) == (n_starts, total)
    asked = "".join(f" → {stage} {count}" for stage, count in counts.items() if stage in stages)
    assert lines[0].endswith(f"read 1{asked}")
    assert result(work, "label") == {
        "labelled": total, "rejected": 0, "reused": 0, "versions": result(work, "label")["versions"],
    }  # fmt: skip
    frames = [atoms for system in find_systems(work / "dataset") for atoms in read_system(system)]
    assert len(frames) == total
    assert {len(atoms) for atoms in frames} == {16 if "supercell" in stages else 8}
    lengths = {round(atoms.cell.volume ** (1 / 3) / (1.26 if "supercell" in stages else 1), 1) for atoms in frames}
    assert len(lengths) >= (2 if "scale" in stages else 1)
    (relaxed,) = read_frames(work / "relax/structures.extxyz")
    assert relaxed.cell.lengths() == pytest.approx([5.431] * 3 if "relax" in stages else [5.5] * 3, abs=2e-3)
    own = len(list((work / "label").glob("task.*")))
    assert own == n_starts
    return work


@pytest.mark.long
@pytest.mark.parametrize("stages", COMBINATIONS, ids="+".join)
def test_every_combination_gives_what_was_foretold(tmp_path: Path, stages: tuple[str, ...]) -> None:
    check(tmp_path, stages)


def test_all_stages_together_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    works = [check(tmp_path / name, tuple(STAGES)) for name in ("one", "two")]

    def content(work: Path) -> dict[str, bytes]:
        names = ["dataset", "structures", *(f"{stage}/structures.extxyz" for stage in STAGES), "label/labelled.extxyz"]
        files = [file for name in names for file in (sorted((work / name).rglob("*")) or [work / name])]
        return {str(file.relative_to(work)): file.read_bytes() for file in files if file.is_file()}

    first, second = map(content, works)
    assert len(first) > 10
    assert first == second
    other = init(write_inputs(tmp_path / "three", tuple(STAGES), seed=8))
    assert content(other)["aimd/structures.extxyz"] != first["aimd/structures.extxyz"]


def test_frames_of_another_engine_are_labelled_anew(tmp_path: Path) -> None:
    engines = {"truth": SW, "other": TERSOFF}
    work = init(write_inputs(tmp_path, ("supercell", "aimd"), engines=engines, label="other"))
    moved = read_frames(work / "aimd/structures.extxyz")
    assert [atoms.info.get("energy") for atoms in moved] == [None] * 4
    assert result(work, "label")["labelled"] == len(list((work / "label").glob("task.*"))) == 4
    labelled = read_frames(work / "label/labelled.extxyz")
    again = tmp_path / "again"
    again.mkdir()
    engine = load_params(tmp_path / "param.json", InitBulkParams).engines["other"]
    from al_driver.engines.testing import run_engine

    engine.write_inputs(labelled[-1], again)
    run_engine(engine, again)
    assert engine.read_label(again).energy == pytest.approx(labelled[-1].info["energy"], rel=1e-12)


def test_frames_that_keep_their_label_have_that_of_the_label_engine(tmp_path: Path) -> None:
    from al_driver.engines.testing import run_engine

    work = init(write_inputs(tmp_path, ("perturb", "aimd")))
    labelled = read_frames(work / "label/labelled.extxyz")
    frame = next(atoms for atoms in labelled if atoms.info.get("aimd_step") == 6)
    engine = load_params(tmp_path / "param.json", InitBulkParams).engines["truth"]
    again = tmp_path / "again"
    again.mkdir()
    engine.write_inputs(frame, again)
    run_engine(engine, again)
    label = engine.read_label(again)
    assert label.energy == pytest.approx(frame.info["energy"], abs=1e-9)
    assert np.abs(label.forces - frame.arrays["forces"]).max() < 1e-9
    assert label.virial is not None
    assert np.abs(label.virial - frame.info["virial"]).max() < 1e-8


def test_another_temperature_stops_and_redo_repeats_only_the_dynamics(tmp_path: Path) -> None:
    entry = {"path": "POSCAR", "name": "si", "relax": STAGES["relax"], "aimd": STAGES["aimd"]}
    work = init(write_inputs(tmp_path, ("relax", "aimd")))
    before = (work / "relax/structures.extxyz").stat().st_mtime_ns
    entry["aimd"] = STAGES["aimd"] | {"temperature": 900}
    write_inputs(tmp_path, (), structures=[entry])
    with pytest.raises(StateMismatch, match=r"aimd\[0\]\.temperature: 600.* → 900.*\n.*`--redo aimd`"):
        init(tmp_path)
    verbs.init_bulk(tmp_path / "param.json", tmp_path / "resource.json", redo="aimd")
    assert (work / "relax/structures.extxyz").stat().st_mtime_ns == before
    assert result(work, "label")["reused"] == 1  # the start, which is labelled for itself
    entry["aimd"] = STAGES["aimd"]
    write_inputs(tmp_path, (), structures=[entry])
    verbs.init_bulk(tmp_path / "param.json", tmp_path / "resource.json", redo="aimd")
    assert len(list((work / "aimd/task.000000").iterdir())) <= 4
    assert '"reused": "aimd.bak.1/task.000000"' in (work / "aimd/inputs.jsonl").read_text()


def test_stricter_limits_are_held_against_labels_that_frames_brought(tmp_path: Path) -> None:
    write_inputs(tmp_path, ("perturb", "aimd"))
    work = init(tmp_path)
    frames = read_frames(work / "label/labelled.extxyz")
    limit = float(np.median([np.linalg.norm(atoms.arrays["forces"], axis=1).max() for atoms in frames]))
    write_inputs(tmp_path, ("perturb", "aimd"), engines={"truth": SW | {"gate": {"max_label_force": limit}}})
    verbs.init_bulk(tmp_path / "param.json", tmp_path / "resource.json", redo="label")
    kept = read_frames(work / "label/labelled.extxyz")
    assert 0 < len(kept) < len(frames)
    assert all(np.linalg.norm(atoms.arrays["forces"], axis=1).max() < limit for atoms in kept)
    rejected = [json.loads(line) for line in (work / "label/rejected.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in rejected} == {"force_too_large"}
    assert len(kept) + len(rejected) == len(frames)
