"""The nearest name, and never one of VASP's files for another."""

from pathlib import Path

import pytest

from al_driver.schema.suggest import hint_at_ase, nearest_file


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            "POTCAR.Si",
            "; the folder holds INCAR.label, POSCAR, POTCAR.Ge, Si.pbe.1.0.UPF, init_param.json, param.json5",
        ),
        ("POTCAR.Gee", "; did you mean 'POTCAR.Ge'?"),
        ("POSCR", "; did you mean 'POSCAR'?"),
        ("INCAR.labl", "; did you mean 'INCAR.label'?"),
        ("poscar.vasp", "; did you mean 'POSCAR'?"),
        ("param.json", "; did you mean 'param.json5'?"),
        ("si.upf", "; did you mean 'Si.pbe.1.0.UPF'?"),
        ("init.json", "; did you mean 'init_param.json'?"),
    ],
)
def test_a_file_is_proposed_for_its_like_alone(tmp_path: Path, name: str, hint: str) -> None:
    for there in (
        "POSCAR", "INCAR.label", "POTCAR.Ge", "Si.pbe.1.0.UPF", "init_param.json", "param.json5",
    ):  # fmt: skip
        (tmp_path / there).touch()
    assert nearest_file(tmp_path / name) == hint


def test_the_name_of_a_calculator_is_no_engine() -> None:
    assert hint_at_ase("EMT") == '; as an ASE calculator: {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}'
    assert hint_at_ase("pwm") == ""
