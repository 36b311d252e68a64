"""The nearest name, and never one of VASP's files for another."""

from pathlib import Path

import pytest

from al_driver.schema.suggest import nearest_file


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("POTCAR.Si", "; the folder holds INCAR.label, POSCAR, POTCAR.Ge"),
        ("POTCAR.Gee", "; did you mean 'POTCAR.Ge'?"),
        ("POSCR", "; did you mean 'POSCAR'?"),
        ("INCAR.labl", "; did you mean 'INCAR.label'?"),
    ],
)
def test_a_file_is_proposed_for_its_like_alone(tmp_path: Path, name: str, hint: str) -> None:
    for there in ("POSCAR", "INCAR.label", "POTCAR.Ge"):
        (tmp_path / there).touch()
    assert nearest_file(tmp_path / name) == hint
