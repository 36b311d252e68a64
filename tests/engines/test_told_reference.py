"""What engines say that outputs of their settings would tell, held against what readers make of such outputs."""

import gzip
import sys
from pathlib import Path
from typing import Any

import pytest

from al_driver.data.reference import Told
from al_driver.workflow.references import check_told

sys.path.append(str(Path(__file__).parents[1] / "standins"))
from pwmat_case import ETOT, MOVEMENT, make_dftb
from pwmat_case import make_engine as make_pwmat
from vasp_case import INCAR, make_engine, run_standin

from al_driver.data.formats.pwmat import read_movement
from al_driver.data.formats.vasp_outcar import read_outcar
from al_driver.data.frames import Label
from al_driver.data.reference import parse_reference, references_in

VASP = {
    "SIGMA": "0.05", "ISMEAR": "0", "ISPIN": "1", "ENCUT": "400", "GGA": "PE", "METAGGA": "none", "IVDW": "0",
    "LHFCALC": "F", "LSORBIT": "F", "LUSE_VDW": "F", "TITEL Si": "PAW_PBE Si 01Jan2001", "U-J Si": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("incar", "keys", "told"),
    [
        ("", {}, {}),
        ("ISPIN = 2\n", {}, {"ISPIN": "2"}),
        ("", {"magmoms": {"Si": 0.0}}, {"ISPIN": "2"}),
        ("LSORBIT = T\n", {"magmoms": {"Si": 0.0}}, {"LSORBIT": "T", "ISPIN": None}),
        ("", {"ldau": {"Si": {"l": 2, "u": 4.5}}}, {"U-J Si": "4.5"}),
        ("", {"ldau": {"Si1": {"l": 2, "u": 4.5}}}, {"U-J Si": None}),
        ("", {"ldau": {"Si": {"l": 2, "u": 4.5, "j": 1}}}, {"U-J Si": "3.5"}),
        ("LDAUTYPE = 1\n", {"ldau": {"Si": {"l": 2, "u": 4.5, "j": 1}}}, {"U-J Si": "4.5 J 1"}),
        ("", {"ldau": {"O": {"l": 2, "u": 4.5}}}, {}),
        ("LDAU = T\nLDAUU = 3\n", {}, {"U-J Si": None}),
        ("METAGGA = R2SCAN\n", {}, {"METAGGA": "R2SCA", "GGA": None}),
        ("IVDW = 10\nGGA = 'Pe'\n", {}, {"IVDW": "1"}),
        ("LHFCALC = T\nHFSCREEN = 0.2D0\n", {}, {"LHFCALC": "T", "AEXX": "0.25", "HFSCREEN": "0.2"}),
    ],
)
def test_vasp(tmp_path: Path, incar: str, keys: dict[str, Any], told: dict[str, str | None]) -> None:
    found = make_engine(tmp_path, ["Si"], INCAR + incar, **keys).told_reference()
    assert found == {name: value for name, value in (VASP | told).items() if value is not None}


def test_vasp_and_its_own_output(tmp_path: Path) -> None:
    """The OUTCAR of a stand-in, which repeats the INCAR as VASP 6 does."""
    from ase.build import bulk

    incar = INCAR.replace("SIGMA = 0.05", "SIGMA = 0.125") + "IVDW = 11\n"
    engine = make_engine(tmp_path, ["Cu"], incar, magmoms={"Cu": 1.0}, ldau={"Cu": {"l": 2, "u": 4.0}})
    (task := tmp_path / "task").mkdir()
    engine.write_inputs(bulk("Cu", cubic=True), task)
    assert run_standin(engine, task) == 0
    (label,) = read_outcar(task / "OUTCAR")
    found = parse_reference(label.info["reference"])  # type: ignore[union-attr]
    assert found.items() >= {"ISPIN": "2", "IVDW": "11", "METAGGA": "none", "U-J Cu": "4"}.items()
    own = engine.told_reference()
    assert not {name for name in own.keys() & found.keys() if own[name] != found[name]}
    assert not list(check_told([("OUTCAR", found)], engine))


def test_vasp_with_incars_of_their_own(tmp_path: Path) -> None:
    """What the run itself gives its structures apart is no difference between data; what all of them have is."""
    slab = tmp_path / "INCAR.slab"
    slab.write_text(INCAR.replace("SIGMA = 0.05", "SIGMA = 0.2").replace("ENCUT = 400 ;", ""))
    engine = make_engine(tmp_path, ["Si"], INCAR, incar_of={"slab": str(slab)})
    own = engine.told_reference()
    assert own == VASP | {"SIGMA": "", "ENCUT": ""}
    data: list[tuple[str, Told]] = [("a", VASP), ("b", VASP | {"SIGMA": "0.2", "ENCUT": "250"})]
    assert not list(check_told(data, engine)) and not list(check_told(data[1:], engine))
    (error,) = check_told([*data, ("c", VASP | {"LSORBIT": "T"})], engine)
    assert "LSORBIT is F in `label`, T in c" in error.message and "SIGMA" not in error.message


def test_pwmat_by_the_input_beside_its_output(tmp_path: Path) -> None:
    for name, text in {"one": ETOT, "other": ETOT.replace("ECUT = 50", "ecut = 80"), "dftb": "USE_DFTB = T\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "etot.input").write_text(text)
        (tmp_path / name / "MOVEMENT").write_bytes(gzip.decompress(MOVEMENT.read_bytes()))
    told = {
        name: references_in(
            step.info for step in read_movement(tmp_path / name / "MOVEMENT") if isinstance(step, Label)
        )
        for name in ("one", "other", "dftb")
    }
    engine = make_pwmat(tmp_path / "engine")
    assert engine.told_reference() == {"USE_DFTB": "F", "ECUT": "50", "XCFUNCTIONAL": "PBE"}
    assert told["one"] and not list(check_told(told["one"], engine))
    (error,) = check_told(told["other"], engine)
    assert "ECUT is 50 in `label`, 80 in" in error.message
    (error,) = check_told(told["dftb"], engine)
    assert "USE_DFTB is F in `label`, T in" in error.message
    assert make_dftb(tmp_path / "dftb_engine").told_reference() == {"USE_DFTB": "T"}
    assert "reference" not in next(iter(read_movement(MOVEMENT))).info
