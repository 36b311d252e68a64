"""What ``al check`` foretells of an ``al init_bulk``."""

import pytest
from ase.build import bulk

from al_driver.errors import ConfigError
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.workflow.foretell import expected_counts

LABEL = {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si"]}


def _params(folder, structures, **keys):
    content = {"seed": 1, "type_map": ["Si"], "label": False, "structures": structures} | keys
    return InitBulkParams.model_validate(content, context={"base": folder})


def test_counts_multiply_from_stage_to_stage(tmp_path):
    for name in ("b.vasp", "a.vasp", "c.vasp"):
        bulk("Si").write(tmp_path / name)
    bulk("Si", cubic=True).write(tmp_path / "POSCAR")
    entries = [
        {"path": "*.vasp", "name": "prim", "scale": [0.9, 1.1], "perturb": {"copies": 5, "atom_distance": 0.05}},
        "POSCAR",
    ]
    lines = expected_counts(_params(tmp_path, entries, label=LABEL))
    assert lines == [
        "prim: read 3 → scale 6 → perturb 30",
        "  Si: moved by 0.022 Å per axis (σ), as in a Debye solid at 40 K",
        "POSCAR: read 1",
        "at most 31 structures to label; what is too close or there already is dropped",
    ]


def test_a_missing_structure_is_told_when_counted(tmp_path):
    bulk("Si").write(tmp_path / "POSCAR")
    with pytest.raises(ConfigError, match=r"POSCA: does not exist; did you mean 'POSCAR'"):
        expected_counts(_params(tmp_path, ["POSCA"]))


def test_frames_of_an_aimd_join_the_structures(tmp_path):
    bulk("Si").write(tmp_path / "POSCAR")
    aimd = {"temperature": 500, "n_steps": 21, "every": 2, "starts": 2}
    entry = {"path": "POSCAR", "scale": [0.98, 1, 1.02], "aimd": aimd}
    tersoff = {"engine": "lammps", "pair_style": "tersoff", "pair_coeff": ["* * Si.tersoff Si"]}
    lines = expected_counts(_params(tmp_path, [entry], label=LABEL))
    assert lines[0] == "POSCAR: read 1 → scale 3 → aimd 23"
    assert lines[1] == "  aimd: 500 K, 0.021 ps, 10 frames from each start"
    assert lines[2].startswith("at most 23 structures to label (20 of them by their AIMD);")
    entry["aimd"] = aimd | {"engine": tersoff}
    assert expected_counts(_params(tmp_path, [entry], label=LABEL))[-1].startswith("at most 23 structures to label;")
