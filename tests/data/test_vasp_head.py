"""What heads of VASP tell of their reference: what is off is told where the file would name it, and nowhere else."""

import gzip
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from al_driver.data.formats.vasp_head import acting, tell, told_in_outcar, told_in_vasprun
from al_driver.data.reference import Told, describe_mixed

FILES = Path(__file__).parent / "files"
OUTCAR = gzip.decompress((FILES / "OUTCAR.h2o.md.gz").read_bytes()).decode().partition("Iteration")[0]
VASPRUN = gzip.decompress((FILES / "vasprun.h2o.md.xml.gz").read_bytes()).decode()
HYBRID = ("LHFCALC =     F", "LHFCALC =     T")
WIDTH = "ISMEAR =     0;   SIGMA  =   0.05"
SCAN = (' name="LHFCALC"> F', ' name="METAGGA">SCAN</i><i name="LHFCALC"> F')
D3 = ('<i name="SIGMA">', '<i name="IVDW">11</i><i name="SIGMA">')
RPBE = ('name="GGA">--', 'name="GGA">RP')
U_ON = ('name="LDAU"> F  </i>', 'name="LDAU"> T  </i><v name="LDAUL">2 -1</v><v name="LDAUU">4.00 0.00</v>')


def change(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def outcar(*changes: tuple[str, str], echo: str = "") -> Told:
    """Return what an OUTCAR of water tells; with an echo of its INCAR as VASP 6 prints it."""
    return told_in_outcar(change(OUTCAR, *changes, (" INCAR:\n", f" INCAR:\n{echo}")), ["O", "H"])


def vasprun(*changes: tuple[str, str]) -> Told:
    root = ET.fromstring(change(VASPRUN, *changes))  # noqa: S314  (ours)
    incar, parameters, atoms = (root.find(name) for name in ("incar", "parameters", "atominfo"))
    assert parameters is not None and atoms is not None
    return told_in_vasprun(incar, parameters, atoms)


def mixed(one: Told, other: Told) -> str:
    return describe_mixed([("A", one), ("B", other)])


J = "   J (eV)           for each species LDAUJ =    1.0  0.0\n"
FULL = " LDA+U is selected, type is set to LDAUTYPE =  1\n"


def of_hubbard(values: str, orbitals: str = "2 -1", more: str = "") -> tuple[str, str]:
    block = f"   angular momentum for each species LDAUL = {orbitals}\n"
    block += f"   U (eV)           for each species LDAUU = {values}\n{more}"
    return "   LHFCALC =", f"{block}   LHFCALC ="


ECHO = "   ENCUT = 800 ! eV\n   SIGMA = 0.05\n"


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (outcar(), outcar(of_hubbard("  4.0  0.0")), "U-J O is 0 in A, 4 in B"),
        (outcar(of_hubbard("4.0 0.0")), outcar(of_hubbard("4.0 0.0", more=J)), "U-J O is 4 in A, 3 in B"),
        (outcar(of_hubbard("4.0 0.0")), outcar(of_hubbard("5.0 0.0", more=J + FULL)), "U-J O is 4 in A, 5 J 1 in B"),
        (outcar(echo=ECHO), outcar(echo=f"{ECHO}   LUSE_VDW = .TRUE.\n"), "LUSE_VDW is F in A, T in B"),
        (outcar(), outcar(("LSORBIT =      F", "LSORBIT =      T")), "LSORBIT is F in A, T in B"),
        (outcar(HYBRID, ("AEXX    =    0.0000", "AEXX    =    1.0000")),
         outcar(HYBRID, ("AEXX    =    0.0000", "AEXX    =    0.2500")), "AEXX is 1 in A, 0.25 in B"),
        (outcar(HYBRID, ("AEXX ", "HFSCREEN=    0.0000\n   AEXX ")),
         outcar(HYBRID, ("AEXX ", "HFSCREEN=    0.2000\n   AEXX ")), "HFSCREEN is 0 in A, 0.2 in B"),
        (outcar(echo=ECHO), outcar(echo=f"{ECHO}   METAGGA = R2SCAN\n"), "METAGGA is none in A, R2SCA in B"),
        (outcar(echo=ECHO), outcar(echo=f"{ECHO}   IVDW = 11\n"), "IVDW is 0 in A, 11 in B"),
        (outcar(echo=ECHO), vasprun(D3), "IVDW is 0 in A, 11"),
        (vasprun(), vasprun(RPBE), "GGA is PE in A, RP in B"),
        (outcar(), vasprun(RPBE), "GGA is PE in A, RP in B"),
        (vasprun(), vasprun(SCAN), "METAGGA is none in A, SCAN"),
        (vasprun(), vasprun(U_ON), "U-J O is 0 in A, 4"),
        (vasprun(), vasprun(("0.05000000", "0.00400000")), "SIGMA is 0.05 in A, 0.004 in B"),
        (vasprun(("0.05000000", "0.00100000")), vasprun(("0.05000000", "0.00400000")), "SIGMA is 0.001 in A"),
    ],
)  # fmt: skip
def test_what_one_file_has_and_the_other_lacks(one: Told, other: Told, words: str) -> None:
    assert mixed(one, other).startswith(words)
    assert not mixed(one, one | {}) and not mixed(other, other | {})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (outcar(), vasprun()),
        (outcar(echo=ECHO), vasprun()),
        # an OUTCAR of VASP 5 may not say which they were
        (outcar(), vasprun(SCAN)),
        (outcar(), vasprun(D3)),
        (outcar(of_hubbard("4.0 9.0")), vasprun(U_ON)),
        (outcar(), outcar(echo="   LDAU = .FALSE.\n   LDAUU = 4.0 0.0\n")),
        (outcar(), outcar(echo="   GGA = 'PE'\n   SYSTEM = x\n   ENCUT = 800.0D0\n")),
        (outcar(), outcar((" SYSTEM =", " SYSTEM = water GGA = RP ISPIN = 2 SIGMA = 1 test"))),
        (outcar(), outcar(echo="   SYSTEM = water GGA = RP LSORBIT = T test\n")),
        (outcar((WIDTH, "ISMEAR =    -5;   SIGMA  =   0.05")), outcar((WIDTH, "ISMEAR =    -5;   SIGMA  =   0.20"))),
        (outcar((WIDTH, "ISMEAR =     0;   SIGMA  =   0.13")), vasprun(("0.05000000", "0.12500000"))),
        (outcar((WIDTH, "ISMEAR =     0;   SIGMA  =   0.03")), vasprun(("0.05000000", "0.02500000"))),
        (outcar((WIDTH, "ISMEAR =     0;   SIGMA  =   0.00")), vasprun(("0.05000000", "0.00400000"))),
        (outcar(echo="   IVDW = 1\n"), outcar(echo="   IVDW = 10\n")),
        (outcar(echo="   METAGGA = SCAN\n"), outcar(("GGA     =    --", "GGA =  RP"), echo="   METAGGA = Scan\n")),
        (tell({}, ["Fe", "Fe"], ["a", "b"], ["4", "3"]), tell({}, ["Fe", "Fe"], ["b", "a"], ["3", "4"])),
    ],
)  # fmt: skip
def test_what_is_one_reference_or_is_not_told(one: Told, other: Told) -> None:
    assert mixed(one, other) == ""


def test_what_is_not_known_is_not_told() -> None:
    assert "U-J O" not in outcar(of_hubbard("4.0 0.0 1.0", "2 -1 2"))  # of three potentials
    assert tell({}, ["Si"], ["US Si"], acting({"LDAUU": ["x"]}, 1)) == {"TITEL Si": "US Si"}
    root = ET.fromstring(VASPRUN)  # noqa: S314  (ours)
    parameters, atoms = root.find("parameters"), root.find("atominfo")
    assert parameters is not None and atoms is not None
    assert not {"METAGGA", "IVDW"} & told_in_vasprun(None, parameters, atoms).keys()
