"""CP2K's logs: numbers as printed, the sign of the stress by finite strain, and nothing that did not converge."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from output_files import FILES, unpack

from al_driver.data.formats.cp2k import read_cp2k
from al_driver.data.frames import Label
from al_driver.errors import EngineError

HARTREE, BOHR, GPA = 27.211386245988, 0.529177210903, 1 / 160.2176634  # CODATA 2018


def labels_of(name: str) -> list[Label]:
    steps = list(read_cp2k(FILES / name))
    assert all(isinstance(step, Label) for step in steps)
    return steps


def test_single_point_equals_the_numbers_printed() -> None:
    (label,) = labels_of("cp2k_output.gz")
    assert str(label.atoms.symbols) == "Fe12O18"
    assert label.energy == pytest.approx(-1766.225653832774242 * HARTREE, rel=1e-12)
    assert label.forces[0] == pytest.approx(np.array([0.00021561, 0.00034116, 0.00317438]) * HARTREE / BOHR)
    assert label.forces[-1] == pytest.approx(np.array([-0.01183406, 0.00329784, -0.00002250]) * HARTREE / BOHR)
    assert label.atoms.positions[4] == pytest.approx([2.519, 1.454345, 6.583475])
    assert label.atoms.cell.array.tolist() == [[5.038, 0, 0], [-2.519, 4.363, 0], [0, 0, 13.772]]
    stress = [
        [-7.95728223, -0.07686533, 0.00049141],
        [-0.07686533, -8.05678106, -0.01863861],
        [0.00049141, -0.01863861, -8.18444753],
    ]
    assert label.virial == pytest.approx(np.array(stress) * GPA * label.atoms.get_volume(), rel=1e-8)
    assert (label.info["program"], label.info["version"]) == ("cp2k", "6.1")


@pytest.mark.parametrize("name", ["cp2k_nocon_output.gz", "cp2k_unconverged/out.log.gz"])
def test_what_did_not_converge_is_refused(name: str) -> None:
    (step,) = read_cp2k(FILES / name)
    assert isinstance(step, EngineError)
    assert (step.reason, step.detail) == ("scf_unconverged", "evaluation 1: the SCF did not converge")


def test_virial_is_minus_the_derivative_by_strain() -> None:
    (middle,) = labels_of("cp2k_strain_0/out.log.gz")
    for name, (row, column) in {"xx": (0, 0), "xy": (0, 1)}.items():
        (plus,), (minus,) = (labels_of(f"cp2k_strain_{name}_{side}/out.log.gz") for side in ("plus", "minus"))
        assert plus.atoms.get_volume() - minus.atoms.get_volume() == pytest.approx(
            2e-3 * middle.atoms.get_volume() if name == "xx" else 0, abs=1e-4
        )
        slope = (plus.energy - minus.energy) / 2e-3
        assert middle.virial[row, column] == pytest.approx(-slope, rel=0.02)  # 300 Ry: the grid's own error
    assert middle.virial[0, 0] == pytest.approx(16.70, abs=0.01)


def test_the_cell_has_the_digits_of_the_input_beside_the_log(tmp_path: Path) -> None:
    (label,) = labels_of("cp2k_strain_0/out.log.gz")
    assert label.atoms.cell.array[0].tolist() == [0.02715, 2.674275, 2.810025]
    log = unpack("cp2k_strain_0/out.log", tmp_path)
    (alone,) = read_cp2k(log)
    assert alone.atoms.cell.array[0].tolist() == [0.027, 2.674, 2.810]
    text = (FILES / "cp2k_strain_0/in.inp").read_text()
    (tmp_path / "in.inp").write_text(text.replace("A 0.0271", "A 0.0371"))  # of another calculation
    (other,) = read_cp2k(log)
    assert other.atoms.cell.array[0].tolist() == [0.027, 2.674, 2.810]


def test_md_takes_positions_from_the_trajectory(tmp_path: Path) -> None:
    labels = labels_of("cp2k_md/out.log.gz")
    trajectory = (FILES / "cp2k_md/si-pos-1.xyz").read_text()
    energies = [float(energy) for energy in re.findall(r"E = +(\S+)", trajectory)]
    assert [label.energy / HARTREE for label in labels] == pytest.approx(energies, abs=1e-9)
    assert labels[3].atoms.positions[0].tolist() == [0.2056856582, -0.0954019061, -0.0208994538]
    assert len({label.atoms.cell.array.tobytes() for label in labels}) == 1
    unpack("cp2k_md/out.log", tmp_path)
    first, *others = read_cp2k(tmp_path / "out.log")  # without the trajectory
    assert first.energy == labels[0].energy
    assert [(step.reason, step.detail) for step in others] == [
        ("no_output", f"evaluation {n}: its positions are not in the log, and not in si-pos-1.xyz") for n in (2, 3, 4)
    ]


def test_md_at_constant_pressure_takes_its_cells_too(tmp_path: Path) -> None:
    labels = labels_of("cp2k_mdf/out.log.gz")
    table = np.loadtxt(FILES / "cp2k_mdf/si-1.cell")
    for label, row in zip(labels, table, strict=True):
        assert label.atoms.cell.array.ravel().tolist() == row[2:11].tolist()
        assert label.atoms.get_volume() == pytest.approx(row[11], abs=1e-8)
    log = unpack("cp2k_mdf/out.log", tmp_path)
    (tmp_path / "si-pos-1.xyz").write_bytes((FILES / "cp2k_mdf/si-pos-1.xyz").read_bytes())
    steps = list(read_cp2k(log))  # without the cells
    assert isinstance(steps[0], Label)
    assert {(step.reason, step.detail.partition(": ")[2]) for step in steps[1:]} == {
        ("no_output", "its cell is not in the log, and not in si-1.cell")
    }


def test_an_optimisation_begins_with_the_positions_of_the_log() -> None:
    labels = labels_of("cp2k_geo/out.log.gz")
    assert labels[0].atoms.positions[0].tolist() == [0.163364, -0.056884, -0.056415]
    assert labels[1].atoms.positions[0].tolist() == [0.2811369755, -0.3068839390, 0.1676352585]


def test_forces_of_newer_versions_are_found(tmp_path: Path) -> None:
    (old,) = labels_of("cp2k_strain_0/out.log.gz")
    text = unpack("cp2k_strain_0/out.log", tmp_path).read_text()
    title = " FORCES| Atomic forces [hartree/bohr]\n FORCES| Atom     x               y               z          |f|"
    text = text.replace(" ATOMIC FORCES in [a.u.]", title).replace(" SUM OF ATOMIC FORCES", " FORCES| Sum")
    text = re.sub(r"^ +(\d) +1 +Si +(-?0\.\S+) +(\S+) +(\S+)$", r" FORCES| \1 \2 \3 \4 9.9E-02", text, flags=re.M)
    (tmp_path / "out.log").write_text(text)
    (new,) = read_cp2k(tmp_path / "out.log")
    assert (new.forces == old.forces).all()


def test_a_log_without_forces_or_energy_says_so(tmp_path: Path) -> None:
    text = unpack("cp2k_strain_0/out.log", tmp_path).read_text()
    (tmp_path / "a").write_text(text.replace("ATOMIC FORCES in [a.u.]", ""))
    (step,) = read_cp2k(tmp_path / "a")
    assert step.reason == "no_output"
    assert step.detail == "evaluation 1: 0 forces for 2 atoms; CP2K prints them with FORCE_EVAL/PRINT/FORCES"
    (tmp_path / "b").write_text(text[: text.index(" ENERGY|")])
    (step,) = read_cp2k(tmp_path / "b")
    assert (step.reason, step.detail) == ("no_output", "the run ended before its first energy")
    (tmp_path / "c").write_text(text + text)  # `cp2k -o` appends
    one, other = read_cp2k(tmp_path / "c")
    assert one.energy == other.energy


def test_a_line_too_many_or_too_few_gives_no_other_label(tmp_path: Path) -> None:
    """Of a cell or stress only the rows x, y and z in their order count; a cell that may have moved is not guessed."""
    lines = unpack("cp2k_strain_0/out.log", tmp_path).read_text().splitlines(keepends=True)
    vectors = [index for index, line in enumerate(lines) if "CELL| Vector" in line][-3:]
    for index in vectors:
        for other in ("", 2 * lines[index]) if index == vectors[-1] else ("",):
            (tmp_path / "a").write_text("".join([*lines[:index], other, *lines[index + 1 :]]))
            with pytest.raises(ValueError, match="names no atoms or no cell"):
                list(read_cp2k(tmp_path / "a"))
    start = next(index for index, line in enumerate(lines) if "Analytical stress tensor [GPa]" in line)
    for index in (start + 2, start + 3):
        for other in ("", 2 * lines[index]):
            (tmp_path / "b").write_text("".join([*lines[:index], other, *lines[index + 1 :]]))
            (label,) = read_cp2k(tmp_path / "b")
            assert isinstance(label, Label) and label.virial is None
    for name in ("in.inp", "si-pos-1.xyz", "si-1.cell"):
        shutil.copy(FILES / "cp2k_mdf" / name, tmp_path)
    path = unpack("cp2k_mdf/out.log", tmp_path)
    whole = [step.atoms.cell.array.tolist() for step in read_cp2k(path) if isinstance(step, Label)]
    path.write_text(re.sub(r".*Ensemble type.*\n", "", path.read_text(), flags=re.I))
    assert [step.atoms.cell.array.tolist() for step in read_cp2k(path) if isinstance(step, Label)] == whole
    (tmp_path / "si-1.cell").unlink()
    assert [type(step) for step in read_cp2k(path)] == [Label, *[EngineError] * (len(whole) - 1)]


def test_positions_are_read_in_the_unit_that_the_log_names(tmp_path: Path) -> None:
    (plain,) = labels_of("cp2k_strain_0/out.log.gz")
    text = unpack("cp2k_strain_0/out.log", tmp_path).read_text()
    assert "ATOMIC COORDINATES IN ANGSTROM" in text
    (tmp_path / "out.log").write_text(text.replace("COORDINATES IN ANGSTROM", "COORDINATES IN BOHR"))
    (label,) = read_cp2k(tmp_path / "out.log")
    assert label.atoms.positions == pytest.approx(BOHR * plain.atoms.positions)
    (tmp_path / "out.log").write_text(text.replace("COORDINATES IN ANGSTROM", "COORDINATES IN PM"))
    with pytest.raises(ValueError, match="atomic coordinates in pm; angstrom or bohr was expected"):
        list(read_cp2k(tmp_path / "out.log"))


def test_an_energy_that_did_not_fit_its_field_is_told_alone(tmp_path: Path) -> None:
    log = unpack("cp2k_md/out.log", tmp_path)
    (tmp_path / "si-pos-1.xyz").write_bytes((FILES / "cp2k_md/si-pos-1.xyz").read_bytes())
    whole = list(read_cp2k(log))
    before, line, after = log.read_text().rpartition("ENERGY| Total FORCE_EVAL")
    log.write_text(before + line + re.sub(r"-\d+\.\d+", "*" * 20, after, count=1))
    *kept, last = read_cp2k(log)
    assert len(kept) == len(whole) - 1 and all(isinstance(step, Label) for step in kept)
    assert isinstance(last, EngineError)
