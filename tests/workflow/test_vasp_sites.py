"""Moments and U of two sublattices of one element stay with their atoms: supercell → MD → selection → VASP's input."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from small_run import RESOURCE, RUN, call_al, merge

from al_driver.data.frames import frame_key, labelled_frame, read_frames, site_arrays, write_frames
from al_driver.engines.vasp.incar import read_incar
from al_driver.explorers.lammps import LammpsExplorer
from al_driver.explorers.sweep import make_trajectories, read_entries
from al_driver.jobs.processes import find_program
from al_driver.layout import QUERY_JOB_FILE
from al_driver.query.job import QueryJob
from al_driver.tasks.query import run_query
from al_driver.workflow.check_init import check_named

sys.path.append(str(Path(__file__).parents[1] / "standins"))
sys.path.append(str(Path(__file__).parents[1] / "query"))
from deviation_files import HEADER, row
from vasp_case import COMMAND, INCAR, make_engine, make_keys, run_standin

TYPE_MAP = ["O", "Fe"]
MOMENTS = {0: 0.0, 1: 4.0, 2: -4.0}  # by tag
LDAU = {"Fe1": {"l": 2, "u": 5.0}, "Fe2": {"l": 2, "u": 3.0}}
LJ = {"engine": "lammps", "pair_style": "lj/cut 4.0", "pair_coeff": ["* * 0.05 1.9"], "elements": TYPE_MAP}
MD = """\
units metal
atom_style atomic
read_data structure.data
pair_style lj/cut 4.0
pair_coeff * * 0.05 1.9
velocity all create 400 7
fix move all nve
timestep 0.001
dump out all custom 10 traj.lammpstrj id type xu yu zu
dump_modify out format float %.17g
run 20
"""


def make_oxide() -> Atoms:
    """Return rock salt in a skewed cell, with two iron sublattices that are not in turn."""
    iron = [(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    oxygen = [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5), (0.5, 0.5, 0.5)]
    cell = [[4.3, 0.1, 0], [0.2, 4.3, 0], [0, 0.1, 4.4]]
    atoms = Atoms("Fe4O4", scaled_positions=[*iron, *oxygen], cell=cell, pbc=True)
    atoms = atoms[[0, 4, 1, 5, 6, 2, 3, 7]]
    atoms.set_tags([1, 0, 1, 0, 0, 2, 2, 0])
    atoms.set_initial_magnetic_moments([MOMENTS[tag] for tag in atoms.get_tags()])
    return atoms


def sublattice(atoms: Atoms, unit: Atoms) -> np.ndarray:
    """Return the tag of each atom by where it stands: that of the nearest atom of the unit cell."""
    unit_cell = unit.cell.array
    scaled = atoms.positions @ np.linalg.inv(unit_cell)
    away = scaled[:, None, :] - unit.get_scaled_positions()[None, :, :]
    away -= np.round(away)
    return unit.get_tags()[np.linalg.norm(away @ unit_cell, axis=2).argmin(axis=1)]


def select_frames(folder: Path, structure: str) -> list[Atoms]:
    """Let the query itself choose among the frames of the one task."""
    folder.mkdir()
    task = {"path": "../explore/task.000000", "structure": structure, "temperature": [400.0, 400.0], "n_steps": 20}
    job = {
        "query": {"lower": 0.1, "upper": 0.3}, "explorer": "lammps", "stop_after": 3, "type_map": TYPE_MAP, "seed": 7,
        "iteration": 0, "structures": [structure], "tasks": [task],
    }  # fmt: skip
    checked = QueryJob.model_validate(job)
    (folder / QUERY_JOB_FILE).write_text(json.dumps(checked.model_dump(mode="json")))
    run_query(folder)
    return read_frames(folder / "selected.extxyz")


@pytest.mark.needs("lmp")
def test_moments_and_u_follow_their_atoms_to_the_input_of_vasp(tmp_path: Path) -> None:
    unit = make_oxide()
    write_frames(tmp_path / "start.extxyz", [unit])
    job = {"structures": "all", "ensemble": "nvt", "temperatures": 300, "n_steps": 20, "dump_every": 10}
    structures = [{"path": "start.extxyz", "supercell": [2, 1, 1]}]
    content = {"explorer": "lammps", "structures": structures, "iterations": [[job]]}
    explorer = LammpsExplorer.model_validate(content, context={"base": tmp_path})
    entries = read_entries(explorer, TYPE_MAP)
    (trajectory,) = make_trajectories(explorer, explorer.iterations[0], entries, seed=1, iteration=0)
    assert (trajectory.atoms.get_tags() == sublattice(trajectory.atoms, unit)).all()
    task = tmp_path / "explore/task.000000"
    task.mkdir(parents=True)
    explorer.write_inputs(trajectory, TYPE_MAP, ["model"], task)
    (task / "md.in").write_text(MD)
    with (task / "output").open("w") as output:
        subprocess.run([str(find_program("lmp")), "-in", "md.in"], cwd=task, check=True, stdout=output)
    (task / "model_devi.out").write_text(HEADER + row(0, 4e-16) + row(10, 0.2) + row(20, 0.2))
    selected = select_frames(tmp_path / "query", trajectory.structure)
    assert len(selected) == 2
    for atoms in selected:
        tags = sublattice(atoms, unit)
        assert sorted(tags) == [0] * 8 + [1] * 4 + [2] * 4
        assert (atoms.get_tags() == tags).all()
        assert (atoms.get_initial_magnetic_moments() == [MOMENTS[tag] for tag in tags]).all()
    folder = tmp_path / "label"
    folder.mkdir()
    engine = make_engine(tmp_path, ["Fe", "O"], INCAR + "ISPIN = 2\nLMAXMIX = 4\n", ldau=LDAU)
    engine.write_inputs(atoms, folder)
    seen = ase.io.read(folder / "POSCAR", format="vasp")
    tags = sublattice(seen, unit)
    incar = read_incar(folder / "INCAR")
    assert list(tags) == [1] * 4 + [2] * 4 + [0] * 8
    assert incar["MAGMOM"] == "4*4 4*-4 8*0" and (incar["LDAUU"], incar["LDAUL"]) == ("5 3 0", "2 2 -1")
    assert run_standin(engine, folder) == 0
    label = engine.read_label(folder)
    assert label.info["magmoms"] == pytest.approx([0.95 * MOMENTS[tag] for tag in sublattice(label.atoms, unit)])
    write_frames(tmp_path / "labelled.extxyz", [labelled_frame(label)])
    (kept,) = read_frames(tmp_path / "labelled.extxyz")
    assert all((site_arrays(kept)[name] == values).all() for name, values in site_arrays(atoms).items())


def test_frames_that_differ_in_moments_alone_are_two(tmp_path: Path) -> None:
    first, second = make_oxide(), make_oxide()
    second.set_initial_magnetic_moments(-second.get_initial_magnetic_moments())
    plain = Atoms(first.numbers, positions=first.positions, cell=first.cell, pbc=True)
    assert len({frame_key(first), frame_key(second), frame_key(plain)}) == 3
    zero = plain.copy()
    zero.set_initial_magnetic_moments([0.0] * 8)
    assert frame_key(zero) == frame_key(plain)


def test_an_incar_for_a_structure_that_is_not_there_is_told(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Fe", "O"], incar_of={"slap": str(tmp_path / "INCAR.user")})
    (problem,) = check_named(engine, ["bulk", "slab"])
    assert str(problem) == "incar_of.slap: no structure is called 'slap'; did you mean 'slab'?"
    assert not list(check_named(engine, ["slap"]))


@pytest.mark.long
@pytest.mark.parametrize("engine", ["vasp", "lammps"])
def test_al_init_bulk_keeps_moments_with_their_atoms(engine: str, tmp_path: Path) -> None:
    """Also with a program that knows nothing of moments: its labels carry those of the frame that was sent."""
    unit = make_oxide()
    write_frames(tmp_path / "start.extxyz", [unit])
    entry = {
        "path": "start.extxyz",
        "relax": {"what": "positions", "max_force": 0.3},
        "supercell": [2, 1, 1],
        "perturb": {"copies": 1, "cell_fraction": 0.01, "atom_distance": 0.03},
        "aimd": {"temperature": 200, "n_steps": 2, "every": 2},
    }
    keys = make_keys(tmp_path, ["Fe", "O"], INCAR + "ISPIN = 2\nLMAXMIX = 4\n", ldau=LDAU)
    (tmp_path / "INCAR.own").write_text((tmp_path / "INCAR.user").read_text().replace("SIGMA = 0.05", "SIGMA = 0.1"))
    keys = keys | {"incar_of": {"start": str(tmp_path / "INCAR.own")}} if engine == "vasp" else LJ
    init = {"seed": 7, "type_map": TYPE_MAP, "label": keys, "structures": [entry], "valid_fraction": 0}
    roles = {role: {"command": COMMAND} for role in ("label", "relax", "aimd") if engine == "vasp"}
    (tmp_path / "init.json").write_text(json.dumps(init))
    packed = {"default": RESOURCE["default"] | {"pack": True}}
    (tmp_path / "resource.json").write_text(json.dumps(merge(packed, roles)))
    done = call_al(tmp_path, "init_bulk", "init.json", "resource.json")
    assert done.returncode == 0, done.stderr
    frames = read_frames(tmp_path / "init/label/labelled.extxyz")
    frames += read_frames(tmp_path / "init/structures/000.extxyz")
    assert len(frames) == 3
    for atoms in frames:
        tags = sublattice(atoms, unit)
        assert (atoms.get_tags() == tags).all() and sorted(tags) == [0] * 8 + [1] * 4 + [2] * 4
        assert (atoms.get_initial_magnetic_moments() == [MOMENTS[tag] for tag in tags]).all()
    if engine == "vasp":
        rows = [json.loads(line) for line in (tmp_path / "init/label/frames.jsonl").read_text().splitlines()]
        calculated = [(row, atoms) for row, atoms in zip(rows, frames, strict=False) if "label/" in row["calculation"]]
        assert calculated
        for row, atoms in calculated:  # the final ones, in the order of the dataset's atoms
            assert row["magmoms"] == pytest.approx([0.95 * MOMENTS[tag] for tag in sublattice(atoms, unit)])
        inside = [name for path in (tmp_path / "init").glob("*/tasks.zip") for name in zipfile.ZipFile(path).namelist()]
        assert len(inside) > 8 and not any("potcar" in name.lower() for name in inside)
        incars = [
            archive.read(name).decode()
            for path in (tmp_path / "init").glob("*/tasks.zip")
            for archive in [zipfile.ZipFile(path)]
            for name in archive.namelist()
            if name.endswith("/INCAR")
        ]
        assert len(incars) == 3 and all("SIGMA = 0.1\n" in text for text in incars)  # of the structure's own


@pytest.mark.long
@pytest.mark.needs("dp", "lmp")
def test_a_whole_run_keeps_moments_and_u_with_their_atoms(tmp_path: Path) -> None:
    """`al init_bulk` and `al run`: each POSCAR and INCAR of a label, and each labelled frame, atom by atom."""
    unit = make_oxide()
    write_frames(tmp_path / "start.extxyz", [unit])
    keys = make_keys(tmp_path, ["Fe", "O"], INCAR + "ISPIN = 2\nLMAXMIX = 4\n", ldau=LDAU)
    entry = {"path": "start.extxyz", "name": "oxide", "supercell": [2, 1, 1]}
    perturb = {"copies": 3, "cell_fraction": 0.01, "atom_distance": 0.03}
    init = {"seed": 7, "type_map": TYPE_MAP, "label": keys, "structures": [entry | {"perturb": perturb}]}
    job = {"structures": 0, "ensemble": "nvt", "temperatures": [100], "n_steps": 20, "dump_every": 5}
    changes = {
        "train": {
            "input": {"model": {"descriptor": {"sel": [30, 30]}}},
            "steps": {"first": 10, "next": 10, "final": 2},
        },
        "explore": {"structures": [entry], "iterations": [[job]]},
        "query": {"lower": 1e-9, "upper": 100.0, "max_select": 2},
    }
    run = merge(RUN, changes) | {"type_map": TYPE_MAP, "label": keys, "valid_data": []}
    files = {
        "init.json": init | {"valid_fraction": 0},
        "param.json": run,
        "resource.json": merge(RESOURCE, {"label": {"command": COMMAND}}),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    for command in (("init_bulk", "init.json", "resource.json"), ("run", "param.json", "resource.json")):
        done = call_al(tmp_path, *command)
        assert done.returncode == 0, done.stderr + done.stdout
    step = tmp_path / "work/iter.0000/label"
    tasks = sorted([*step.glob("task.[0-9]*"), *(tmp_path / "init/label").glob("task.[0-9]*")])
    assert len(tasks) == 2 + 3
    for task in tasks:
        tags = sublattice(ase.io.read(task / "POSCAR", format="vasp"), unit)
        assert list(tags) == [1] * 4 + [2] * 4 + [0] * 8
        incar = read_incar(task / "INCAR")
        assert incar["MAGMOM"] == "4*4 4*-4 8*0" and (incar["LDAUU"], incar["LDAUL"]) == ("5 3 0", "2 2 -1")
    told = [json.loads(text) for text in (step / "frames.jsonl").read_text().splitlines()]
    frames = read_frames(step / "labelled.extxyz")
    assert len(told) == len(frames) == 2
    for line, atoms in zip(told, frames, strict=True):
        tags = sublattice(atoms, unit)
        assert (atoms.get_tags() == tags).all() and sorted(tags) == [0] * 8 + [1] * 4 + [2] * 4
        assert (atoms.get_initial_magnetic_moments() == [MOMENTS[tag] for tag in tags]).all()
        assert line["magmoms"] == pytest.approx([0.95 * MOMENTS[tag] for tag in tags])
        assert line["temperature"] == 100 and line["structure"] == "oxide"
