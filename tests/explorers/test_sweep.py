"""Which trajectories a stage makes: their number, order and seeds; entries by index and name; vacuum left alone."""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from al_driver.errors import ConfigError
from al_driver.explorers.lammps import LammpsExplorer
from al_driver.explorers.sweep import check_sweep, entries_of, make_trajectories, read_entries, structure_names

JOB = {"structures": "all", "ensemble": "nvt", "temperatures": 300, "n_steps": 100}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Silicon as POSCAR files, a file of two frames, and a slab."""
    (tmp_path / "many").mkdir()
    for name, size in (("POSCAR", 1), ("many/b.vasp", 1), ("many/a.vasp", 2)):
        ase.io.write(tmp_path / name, bulk("Si") * (size, 1, 1), format="vasp")
    ase.io.write(tmp_path / "two.extxyz", [bulk("Si", a=5.4), bulk("Si", a=5.6)])
    return tmp_path


def make(folder: Path, structures: list[Any], *jobs: dict[str, Any]) -> LammpsExplorer:
    content = {"explorer": "lammps", "structures": structures, "iterations": [[JOB | job for job in jobs or ({},)]]}
    return LammpsExplorer.model_validate(content, context={"base": folder})


def sweep(explorer: LammpsExplorer, seed: int = 1, iteration: int = 0) -> list[Any]:
    structures = read_entries(explorer, ["Si"])
    return make_trajectories(explorer, explorer.iterations[0], structures, seed=seed, iteration=iteration)


def problems(explorer: LammpsExplorer, type_map: tuple[str, ...] = ("Si",)) -> str:
    return "\n".join(map(str, check_sweep(explorer, type_map)))


def test_structures_times_temperatures_times_pressures_in_order(folder: Path) -> None:
    job = {"ensemble": "npt", "temperatures": [300, 600], "pressures": [0, 1e4]}
    found = sweep(make(folder, ["POSCAR", "many/*.vasp", "two.extxyz"], job))
    assert len(found) == 5 * 2 * 2
    assert [(t.structure, len(t.atoms), t.temperature[0], t.pressure) for t in found[:9]] == [
        ("POSCAR", 2, 300, 0), ("POSCAR", 2, 300, 1e4), ("POSCAR", 2, 600, 0), ("POSCAR", 2, 600, 1e4),
        ("many", 4, 300, 0), ("many", 4, 300, 1e4), ("many", 4, 600, 0), ("many", 4, 600, 1e4),
        ("many", 2, 300, 0),
    ]  # fmt: skip


def test_nve_has_a_task_for_each_starting_temperature(folder: Path) -> None:
    """Lesson 10: NVE must not make zero tasks."""
    found = sweep(make(folder, ["POSCAR"], {"ensemble": "nve", "temperatures": [100, 200]}))
    assert [t.temperature for t in found] == [(100, 100), (200, 200)]
    (ramp,) = sweep(make(folder, ["POSCAR"], {"temperatures": {"ramp": [300, 900]}}))
    assert ramp.temperature == (300, 900)


def test_every_trajectory_of_every_iteration_has_its_own_seed(folder: Path) -> None:
    """Lesson 5."""
    explorer = make(folder, ["POSCAR"], {"temperatures": [300, 600]}, {})
    runs = [sweep(explorer, seed, iteration) for seed in (1, 2) for iteration in (0, 1)]
    seeds = [t.seed for run in runs for t in run]
    assert len(set(seeds)) == len(seeds) == 12
    assert [t.seed for t in sweep(explorer)] == seeds[:3]


def test_entries_by_index_and_name(folder: Path) -> None:
    explorer = make(
        folder, ["POSCAR", {"path": "two.extxyz", "name": "bulk"}], {"structures": 0}, {"structures": "bulk"}
    )
    first, second = explorer.iterations[0].jobs
    assert entries_of(explorer, first) == [0] and entries_of(explorer, second) == [1]
    both = make(folder, ["POSCAR", "two.extxyz"], {"structures": ["two", 0, "two"]})
    assert entries_of(both, both.iterations[0].jobs[0]) == [1, 0]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["POSCAT"], "jobs[0].structures[0]: no structure is called 'POSCAT'; did you mean 'POSCAR'?"),
        ([0, 2], "jobs[0].structures[1]: there is no entry 2 in `structures`; there are 2, counted from 0"),
        (-1, "jobs[0].structures[0]: there is no entry -1 in `structures`; there are 2"),
    ],
)
def test_an_entry_that_is_not_there(folder: Path, wanted: Any, message: str) -> None:
    assert f"iterations[0].{message}" in problems(make(folder, ["POSCAR", "two.extxyz"], {"structures": wanted}))


def test_names_are_sensible_and_unique(folder: Path) -> None:
    (folder / "fcc").mkdir()
    (folder / "fcc/POSCAR").write_text((folder / "POSCAR").read_text())
    explorer = make(folder, ["POSCAR", "fcc/POSCAR", "many/*.vasp", "two.extxyz", {"path": "POSCAR", "name": "x"}])
    assert structure_names(explorer) == [f"{folder.name}_POSCAR", "fcc_POSCAR", "many", "two", "x"]
    twice = make(folder, ["POSCAR", {"path": "POSCAR", "supercell": [2, 1, 1]}])
    assert "structures[1].name: entries 0 and 1 are both called" in problems(twice)


def test_supercell_and_pbc(folder: Path) -> None:
    entry = {"path": "POSCAR", "supercell": [[1, 1, 0], [0, 1, 0], [0, 0, 3]], "pbc": [True, True, False]}
    ((atoms,),) = read_entries(make(folder, [entry]), ["Si"])
    assert len(atoms) == 6 and list(atoms.pbc) == [True, True, False]
    assert np.allclose(atoms.cell.array[2], 3 * bulk("Si").cell.array[2])


def test_every_bad_file_is_reported_with_its_key(folder: Path) -> None:
    found = problems(make(folder, ["POSCAT", "POSCAR", "none/*.vasp"]))
    assert "structures[0].path: does not exist" in found and "structures[2].path: no file matches" in found
    assert "has Si, which type_map ['C'] lacks" in problems(make(folder, ["POSCAR"]), ("C",))


@pytest.mark.parametrize(
    ("pbc", "ensemble", "refused"),
    [
        ([True, True, True], "npt-tri", False),
        ([True, True, False], "npt-xy", False),
        ([True, True, False], "nvt", False),
        ([True, True, False], "npt", True),
        ([True, True, False], "npt-aniso", True),
        ([True, False, True], "npt-xy", True),
        ([False, False, False], "npt-tri", True),
    ],
)
def test_a_barostat_leaves_the_vacuum_alone(folder: Path, pbc: list[bool], ensemble: str, refused: bool) -> None:
    pressures = [0] if ensemble.startswith("npt") else None
    explorer = make(folder, [{"path": "POSCAR", "pbc": pbc}], {"ensemble": ensemble, "pressures": pressures})
    found = problems(explorer)
    assert (
        found.startswith(f"iterations[0].jobs[0].ensemble: '{ensemble}' would move the vacuum of 'POSCAR'") == refused
    )
    if not refused:
        assert found == ""


def test_two_sound_entries_make_no_problem_and_an_error_is_raised_before_a_task(folder: Path) -> None:
    assert problems(make(folder, ["POSCAR", "two.extxyz"])) == ""
    with pytest.raises(ConfigError, match="no structure is called 'slab'"):
        sweep(make(folder, ["POSCAR"], {"structures": "slab"}))
