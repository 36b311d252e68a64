"""The keys of ``al init_bulk`` and what they foretell."""

import pytest
from ase.build import bulk

from al_driver.errors import ConfigError
from al_driver.schema.init_bulk import InitBulkParams, expected_counts

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
        "prim: read 3 → supercell 3 → scale 6 → perturb 30",
        "  Si: moved by 0.022 Å per axis (σ), as in a Debye solid at 40 K",
        "POSCAR: read 1 → supercell 1 → scale 1 → perturb 1",
        "31 structures to label at most; duplicates are dropped",
    ]


def test_a_missing_structure_is_told_when_counted(tmp_path):
    bulk("Si").write(tmp_path / "POSCAR")
    with pytest.raises(ConfigError, match=r"POSCA: does not exist; did you mean 'POSCAR'"):
        expected_counts(_params(tmp_path, ["POSCA"]))


def test_the_label_is_an_engine_its_name_or_none(tmp_path):
    assert _params(tmp_path, ["POSCAR"]).label_engine is None
    named = _params(tmp_path, ["POSCAR"], label="sw", engines={"sw": LABEL}).label_engine
    assert named == _params(tmp_path, ["POSCAR"], label=LABEL).label_engine
    with pytest.raises(ValueError, match="no engine is called 'trut'; did you mean 'truth'"):
        _params(tmp_path, ["POSCAR"], label="trut", engines={"truth": LABEL})
