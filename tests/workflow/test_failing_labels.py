"""Campaigns in which labels fail in every way: what is left is sound, what failed is told, and `al retry` mends it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from small_run import RESOURCE, SW, call_al, merge

from al_driver.data.dataset import find_systems, read_system
from al_driver.errors import ConfigError
from al_driver.files import read_json
from al_driver.workflow.retry import retry

sys.path.append(str(Path(__file__).parents[1] / "standins"))
from vasp_case import COMMAND, make_keys

PSEUDO = Path("/usr/share/espresso/pseudo")
POTENTIAL = "Si.pz-vbc.UPF"
LAST = "sed -i '$ s"  # of the dump: id type x y z fx fy fz
BREAK_LAMMPS = rf"""\
case $PWD in
  */label/task.000003.try-*) exit 3 ;;
  */label/task.000011.try-*) sleep 600 ;;
  */label/task.000017.try-*) "$@"; {LAST}/[^ ]* *$/nan/' frames.lammpstrj; exit 0 ;;
  */label/task.000029.try-*) "$@"; {LAST}/^\([^ ]* [^ ]*\) [^ ]*/\1 0.123/' frames.lammpstrj; exit 0 ;;
  */label/task.000041.try-*) "$@"; {LAST}/[^ ]* *$/-500.0/' frames.lammpstrj; exit 0 ;;
esac
exec "$@"
"""
BREAK_VASP = """\
case $PWD in
  */label/task.000000.try-*) sed -i 's/NELM = 120/NELM = 4/' INCAR ;;
  */label/task.000001.try-*) export STANDIN_VASP=crash ;;
  */label/task.000002.try-*) export STANDIN_VASP=hang ;;
  */task.000003.try-*) export STANDIN_VASP=garbage ;;
  */label/task.000004.try-*) export STANDIN_VASP=moved ;;
esac
exec "$@"
"""
BREAK_QE = """\
case $PWD in
  */label/task.000001.try-*) sed -i 's/conv_thr/electron_maxstep = 2, conv_thr/' pw.in ;;
esac
exec "$@"
"""


def write_input(folder: Path, engine: dict[str, Any], copies: int, break_it: str, command: str, **profile: Any) -> None:
    """Write what `al init_bulk` needs: rattled copies of a crystal, and a launcher that breaks some labels."""
    bulk("Si").write(folder / "POSCAR", format="vasp")
    entry = {"path": "POSCAR", "name": "si", "perturb": {"copies": copies, "temperature": 300}}
    param = {"seed": 7, "type_map": ["Si"], "label": engine, "structures": [entry], "valid_fraction": 0.1}
    (folder / "break.sh").write_text(break_it)
    label = {"command": f"sh {folder / 'break.sh'} {command}", "executor": "inline", "retries": 0, **profile}
    sound = merge(RESOURCE, {"label": {"command": command, "executor": "inline"}})
    files = {"init.json": param, "resource.json": merge(RESOURCE, {"label": label}), "sound.json": sound}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


def call(folder: Path, *arguments: str) -> str:
    done = call_al(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rejected(folder: Path) -> dict[int, str]:
    lines = (folder / "init/label/rejected.jsonl").read_text().splitlines()
    return {line["frame"]: line["reason"] for line in map(json.loads, lines)}


def read_arrays(init: Path) -> dict[str, Any]:
    """Return every array of what trains and what validates."""
    paths = sorted(path for part in ("dataset", "valid") for path in (init / part).rglob("*.npy"))
    return {str(path.relative_to(init)): np.load(path) for path in paths}


def count_frames(folder: Path) -> int:
    parts = [part for part in (folder / "init/dataset", folder / "init/valid") if part.exists()]
    systems = [system for part in parts for system in find_systems(part)]
    return sum(len(list(read_system(system))) for system in systems)


@pytest.mark.long
@pytest.mark.needs("lmp")
def test_five_of_fifty_fail_in_five_ways_and_are_recovered(tmp_path: Path) -> None:
    broken, sound = tmp_path / "broken", tmp_path / "sound"
    for folder in (broken, sound):
        folder.mkdir()
        write_input(folder, SW, 50, BREAK_LAMMPS, "lmp", timeout_min=0.25)
    said = call(broken, "init_bulk", "init.json", "resource.json")
    assert "label: labelled 45 (0 found again), rejected 5" in said
    reasons = ["no_output", "timeout", "not_finite", "positions_changed", "force_too_large"]
    assert rejected(broken) == dict(zip((3, 11, 17, 29, 41), reasons, strict=True))
    assert "45" in call(broken, "status", "init")
    assert count_frames(broken) == 45

    said = call(broken, "retry", "init", "--resource", "sound.json")
    assert "recovered 5 of 5 frames" in said
    assert rejected(broken) == dict(zip((3, 11, 17, 29, 41), reasons, strict=True))
    told = read_json(broken / "init/split/step.json")["result"]
    assert told["dataset"] + told["valid"] == 50
    (label,) = (row for row in json.loads(call(broken, "status", "init", "--json"))["stages"] if row["name"] == "label")
    assert (label["labelled"], label["rejected"], label["recovered"]) == (45, 5, 5)
    call(broken, "init_bulk", "init.json", "resource.json")  # the same command finds everything done
    call(sound, "init_bulk", "init.json", "sound.json")
    arrays, expected = read_arrays(broken / "init"), read_arrays(sound / "init")
    assert arrays.keys() == expected.keys() and len(arrays) == 10
    assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)


@pytest.mark.long
@pytest.mark.needs("module:lammps")
def test_vasp_fails_in_five_ways_and_one_stays_broken(tmp_path: Path) -> None:
    write_input(tmp_path, make_keys(tmp_path, ["Si"]), 7, BREAK_VASP, COMMAND, timeout_min=0.25, max_failed=5)
    assert "labelled 2 (0 found again), rejected 5" in call(tmp_path, "init_bulk", "init.json", "resource.json")
    reasons = ["scf_unconverged", "engine_error", "timeout", "no_output", "positions_changed"]
    assert rejected(tmp_path) == dict(enumerate(reasons))

    refused = {
        "ENCUT=500": "would make another reference: incar.ENCUT: 400 → 500",
        "EDIFF=1E-4": "EDIFF would be 0.0001, and the labels there were made with 1e-08",
        "NELMS=200": "--set NELMS: VASP has no such tag; did you mean 'NELM",
    }
    for setting, words in refused.items():
        with pytest.raises(ConfigError, match=words):
            retry(tmp_path / "init", settings=[setting])

    said = call(tmp_path, "retry", "init", "--set", "NELM=240", "--set", "ALGO=All", "--set", "timeout_min=5")
    assert "recovered 4 of 5 frames; without a label: no_output 1" in said
    step = tmp_path / "init/label/retry.000"
    assert "NELM = 240" in (step / "task.000000/INCAR").read_text()
    assert {path.name for path in (step / "input").iterdir()} == {"INCAR"}
    lines = [json.loads(line) for line in (tmp_path / "init/label/rejected.jsonl").read_text().splitlines()]
    assert [line.get("recovered") for line in lines] == [*["retry.000"] * 3, None, "retry.000"]
    assert count_frames(tmp_path) == 6


@pytest.mark.needs("pw.x", str(PSEUDO / POTENTIAL))
def test_an_scf_of_pw_that_did_not_converge_is_recovered_with_other_mixing(tmp_path: Path) -> None:
    system = "ecutwfc = 12, occupations = 'smearing', smearing = 'gaussian', degauss = 0.01"
    (tmp_path / "scf.in").write_text(f"&system\n  {system}\n/\n&electrons\n  conv_thr = 1d-8\n/\n")
    engine = {
        "engine": "qe",
        "input": "scf.in",
        "pseudopotentials": {"Si": str(PSEUDO / POTENTIAL)},
        "kpoints": [1, 1, 1],
    }
    write_input(tmp_path, engine, 3, BREAK_QE, "pw.x")
    assert "labelled 2 (0 found again), rejected 1" in call(tmp_path, "init_bulk", "init.json", "resource.json")
    assert rejected(tmp_path) == {1: "scf_unconverged"}
    words = "would make another reference: input.system.ecutwfc: 12.0 → 13.0"
    with pytest.raises(ConfigError, match=words):
        retry(tmp_path / "init", settings=["ecutwfc=13"])
    options = ("--reason", "scf_unconverged", "--set", "mixing_beta=0.3", "--set", "electron_maxstep=120")
    assert "recovered 1 of 1 frames" in call(tmp_path, "retry", "init", *options)
    assert "beta= 0.30" in (tmp_path / "init/label/retry.000/task.000001/pw.out").read_text()
    assert count_frames(tmp_path) == 3
