"""A run whose tasks are made up in no time: everything of the driver is real but the programs it starts.

What a task leaves follows from its inputs, as with real programs, so that two runs can be compared to the byte.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.data.dataset import write_dataset
from al_driver.data.frames import write_frames
from al_driver.data.lammps import read_data
from al_driver.errors import TasksFailed
from al_driver.jobs.attempts import Failure
from al_driver.jobs.progress import BatchResult
from al_driver.jobs.task import Task
from al_driver.schema.load import load_params
from al_driver.schema.resource import Role
from al_driver.schema.run import RunParams
from al_driver.workflow import verbs
from al_driver.workflow.context import Context
from al_driver.workflow.plotter import Plotter
from al_driver.workflow.report import Report
from al_driver.workflow.step import Step

LJ = {"engine": "lammps", "pair_style": "lj/cut 5.0", "pair_coeff": ["* * 0.4 2.3"], "elements": ["Si"]}
JOB = {"structures": "si", "ensemble": "nvt", "temperatures": [300, 600], "n_steps": 20, "dump_every": 2}
PARAM: dict[str, Any] = {
    "seed": 7,
    "type_map": ["Si"],
    "init_data": ["data"],
    "train": {
        "trainer": "deepmd",
        "input": {"model": {}, "learning_rate": {}, "training": {"training_data": {}, "numb_steps": 10}},
        "models": 2,
    },
    "explore": {
        "explorer": "lammps",
        "structures": [{"path": "POSCAR", "name": "si"}, {"path": "large/*", "name": "large"}],
        "iterations": [[JOB], [JOB | {"temperatures": [900]}], [JOB | {"structures": "large"}]],
    },
    "query": {"lower": 0.1, "upper": 0.3, "max_select": 2},
    "label": LJ,
}


class Tasks:
    """Stands for `Context.run_tasks`: fills the folder of each task, and counts what it did."""

    def __init__(self) -> None:
        self.run: list[str] = []
        """Step and name of each task that was not there yet, in order."""
        self.stop_before: str | None = None
        """The task before which the user interrupts."""
        self.fail: str | None = None

    def __call__(
        self,
        context: Context,
        step: Step,
        role: Role,
        tasks: Sequence[Task],
        *,
        stop_on_failure: bool = False,
        batch: str = "",
        tolerant: bool = False,
        what: str = "",
    ) -> BatchResult:
        for task in tasks:
            name = f"{step.name}/{task.name}"
            if task.folder.exists():
                continue
            if name == self.stop_before:
                raise KeyboardInterrupt
            if name == self.fail:
                raise TasksFailed(f"{name} failed")
            self.run.append(name)
            attempt = task.folder.with_name(f"{task.name}.try-1")
            attempt.mkdir(parents=True)
            task.write_inputs(attempt)
            fill = {"train": _train, "explore": _explore, "query": _query, "label": _label}[role]
            (_compare if batch else fill)(attempt)
            task.verify(attempt)
            attempt.rename(task.folder)
        return BatchResult(tuple(tasks), {})


class Failing:
    """Stands for the tasks of a run in which some labels fail."""

    def __init__(self, tasks: Tasks, failing: dict[str, str]) -> None:
        self.tasks = tasks
        self.failing = failing
        """Reasons by step and name of the task."""

    def __call__(self, context: Context, step: Step, role: Role, tasks: Sequence[Task], **options: Any) -> BatchResult:
        names = {task.name: self.failing.get(f"{step.name}/{task.name}") for task in tasks}
        sound = [task for task in tasks if names[task.name] is None]
        done = self.tasks(context, step, role, sound, **options)
        failed = {
            name: Failure(reason, "made to fail", step.folder / f"{name}.try-1")
            for name, reason in names.items()
            if reason
        }
        return BatchResult(done.done, failed)


def make_folder(folder: Path, **changes: Any) -> Path:
    """Make a folder ready for a run; ``changes`` replace top-level keys."""
    (folder / "large").mkdir(parents=True)
    atoms = bulk("Si", cubic=True, a=5.43)
    atoms.write(folder / "POSCAR", format="vasp")
    (atoms * (2, 1, 1)).write(folder / "large/POSCAR", format="vasp")
    rng = np.random.default_rng(1)
    write_dataset(folder / "data", [_labelled(atoms, rng) for _ in range(3)], ["Si"])
    (folder / "resource.json").write_text("{}")
    return write_param(folder, **changes)


def write_param(folder: Path, **changes: Any) -> Path:
    (folder / "param.json").write_text(json.dumps(PARAM | changes))
    return folder


def read_param(folder: Path) -> RunParams:
    return load_params(folder / "param.json", RunParams)


def patch(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """Make `verbs.run` start nothing."""
    tasks = Tasks()
    monkeypatch.setattr(Context, "run_tasks", lambda *args, **kwargs: tasks(*args, **kwargs))
    monkeypatch.setattr(verbs, "check_run", lambda *_: Report())
    monkeypatch.setattr(Plotter, "draw", lambda _: None)
    return tasks


def patch_failing(monkeypatch: pytest.MonkeyPatch, reasons: dict[str, str]) -> Failing:
    """As `patch`, with tasks that fail for these reasons, by step and name."""
    tasks = Failing(patch(monkeypatch), reasons)
    monkeypatch.setattr(Context, "run_tasks", lambda *args, **kwargs: tasks(*args, **kwargs))
    return tasks


def run(folder: Path, **request: Any) -> verbs.Verdict:
    return verbs.run(folder / "param.json", folder / "resource.json", **request)


def read_result(work: Path) -> dict[str, str]:
    """Return a hash of every file that must be the same between two runs; times are left out."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if path.is_file() and ".bak." not in name and path.name not in {"al.log", "history.json", "inputs.jsonl"}:
            content = path.read_bytes()
            if path.name == "step.json":
                marker = json.loads(content)
                marker["result"].pop("reused", None)
                marker.pop("files")
                content = json.dumps({**marker, "finished": ""}).encode()
            if path.name == "frames.jsonl":
                rows = [json.loads(line) for line in content.splitlines()]
                told = [{key: row[key] for key in row if key not in {"finished", "reused"}} for row in rows]
                content = json.dumps(told).encode()
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def _labelled(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    atoms.info = {"energy": float(rng.normal()), "virial": rng.normal(size=(3, 3))}
    atoms.arrays["forces"] = rng.normal(size=atoms.positions.shape)
    return atoms


def _hash(directory: Path, *more: bytes) -> int:
    """Return a number that follows from the inputs in a folder."""
    content = b"".join(path.read_bytes() for path in sorted(directory.iterdir()))
    return int(hashlib.sha256(content + b"".join(more)).hexdigest()[:8], 16)


def _train(directory: Path) -> None:
    systems = json.loads((directory / "input.json").read_text())["training"]["training_data"]["systems"]
    labels = [file.read_bytes() for system in systems for file in sorted((directory / system).rglob("energy.npy"))]
    (directory / "frozen_model.pth").write_text(str(_hash(directory, *labels)))
    evaluation: dict[str, Any] = {"energy_rmse": 0.1, "force_rmse": 0.2, "on": "train"}
    kalman = json.loads((directory / "train.json").read_text()).get("kalman")
    if kalman:
        evaluation["kalman"] = {"virtual": {"score_factor": 1000.0}}
        for number in range(kalman["virtual_models"]):
            (directory / f"virtual.{number:03d}.pth").write_text(str(_hash(directory, *labels)))
    (directory / "evaluation.json").write_text(json.dumps(evaluation))


def _explore(directory: Path) -> None:
    models = (directory / "in.lammps").read_text().split("deepmd")[1].split(" out_freq")[0].split()
    (directory / "models.txt").write_text(" ".join((directory / model).read_text() for model in models))
    (directory / "traj.lammpstrj").write_text(_dump([[0.0] * 3], [[0.0] * 3], np.eye(3).tolist()))
    (directory / "model_devi.out").write_text("# step\n2 0 0 0 0 0 0\n")
    (directory / "output").write_text("LAMMPS\nTotal wall time: 0:00:00\n")


def _query(directory: Path) -> None:
    job = json.loads((directory / "query.json").read_text())
    models = b"".join((directory / task["path"] / "models.txt").read_bytes() for task in job["tasks"])
    atoms = bulk("Si", cubic=True, a=5.43)
    n_selected = job["query"]["max_select"]
    n_audits = job.get("n_audits", 0)
    if job["labels_left"] is not None:
        n_audits = min(n_audits, job["labels_left"])
        n_selected = min(n_selected, job["labels_left"] - n_audits)
    if job.get("audits_only"):
        n_selected = 0
    rng = np.random.default_rng(_hash(directory, models))
    frames = [_labelled(atoms, rng) for _ in range(n_selected + n_audits)]
    for index, frame in enumerate(frames):
        frame.info = {"structure": "si", "task": "task.000000", "step": index, "temperature": 300.0}
        frame.info |= {"score": float(rng.uniform(0.1, 0.2))} | ({"audit": True} if index >= n_selected else {})
    if job.get("n_audits"):
        write_frames(directory / "audit.extxyz", frames[n_selected:])
    for frame in frames:
        del frame.arrays["forces"]
    write_frames(directory / "selected.extxyz", frames)
    (directory / "frames.csv").write_text("task\n")
    counts = {"frames": 10, "accurate": 5, "candidate": 5, "failed": 0, "selected": len(frames), "by_structure": []}
    if job.get("n_audits"):
        known = job["calibration"]
        own = {name: counts[name] for name in ("frames", "accurate", "candidate", "failed", "selected")}
        counts["by_structure"] = [{"structure": "si", **own, "audits": n_audits, "independent": 5}]
        counts |= {"audits": n_audits, "above_target": 0, "outside": 0}
        counts["calibration"] = {"n_audits": known["n_audits"], "n_needed": 9, "factor": known["general"]}
    (directory / "summary.json").write_text(json.dumps(counts))


def _compare(directory: Path) -> None:
    """Stand for both batches of a choice that compares candidates."""
    np.savez(directory / "shortlist.npz", task=np.zeros(0))
    np.savez(directory / "features.npz", task=np.zeros(0))


def _label(directory: Path) -> None:
    atoms = read_data(directory / "structure.data", ["Si"])
    rng = np.random.default_rng(_hash(directory))
    forces = rng.normal(size=atoms.positions.shape)
    (directory / "frames.lammpstrj").write_text(_dump(atoms.positions.tolist(), forces.tolist(), atoms.cell.tolist()))
    numbers = f"al_frame 2 {rng.normal()} {atoms.get_volume()} 1 2 3 4 5 6\n"
    (directory / "output").write_text(f"{numbers}Total wall time: 0:00:00\n")


def _dump(positions: list[list[float]], forces: list[list[float]], cell: Sequence[Sequence[float]]) -> str:
    rows = [
        f"{index} 1 {' '.join(map(repr, (*position, *force)))}"
        for index, (position, force) in enumerate(zip(positions, forces, strict=True), 1)
    ]
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = cell
    bounds = [
        (min(0.0, xy, xz, xy + xz), lx + max(0.0, xy, xz, xy + xz), xy),
        (min(0.0, yz), ly + max(0.0, yz), xz),
        (0.0, lz, yz),
    ]
    head = ["ITEM: TIMESTEP", "2", "ITEM: NUMBER OF ATOMS", str(len(rows)), "ITEM: BOX BOUNDS xy xz yz pp pp pp"]
    head += [" ".join(map(repr, row)) for row in bounds]
    return "\n".join([*head, "ITEM: ATOMS id type xu yu zu fx fy fz", *rows]) + "\n"
