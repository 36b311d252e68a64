"""What logs of CP2K tell of their reference, and its input of itself: revPBE is no PBE, D3 is not nothing."""

import gzip
from pathlib import Path

import pytest

from al_driver.data.formats.cp2k_head import told_in_log
from al_driver.data.reference import Told, describe_mixed
from al_driver.engines.cp2k import Cp2k

FILES = Path(__file__).parents[1] / "data/files"
HEAD = gzip.decompress((FILES / "cp2k_strain_0/out.log.gz").read_bytes()).decode().partition("ENERGY|")[0]
INPUT = (FILES / "cp2k_strain_0/in.inp").read_text()
PADE = HEAD[HEAD.index(" FUNCTIONAL| PADE") : HEAD.index(" QS| Method")]
PBE = """\
 FUNCTIONAL| PBE:
 FUNCTIONAL| J.P.Perdew, K.Burke, M.Ernzerhof, Phys. Rev. Letter, vol. 77, n 18,
 FUNCTIONAL|  pp. 3865-3868, (1996){spin unpolarized}                           
"""  # noqa: W291  (as CP2K 2023.1 prints them)
REVPBE = """\
 FUNCTIONAL| PBE:
 FUNCTIONAL| revPBE, Yingkay Zhang and Weitao Yang, Phys. Rev. Letter, vol 80,n 
 FUNCTIONAL| 4, p. 890, (1998){spin unpolarized}                                
"""  # noqa: W291
PBESOL = """\
 FUNCTIONAL| PBE:
 FUNCTIONAL| PBEsol, J.P. Perdew et al., Phys. Rev. Letter, vol 100,n 13, p. 136
 FUNCTIONAL| 406, (2008) {spin unpolarized}                                     
"""  # noqa: W291
PBE0 = PBE.replace("(1996){spin unpolarized}", "(1996)sx=0.750sc=1.000{spin unpolarized}")
HFX = " HFX_INFO| FRACTION:                                               0.2500000000\n"
D3 = """\
 vdW POTENTIAL|                                                   Pair Potential
 vdW POTENTIAL|          DFT-D3 (Version 3.1)
 vdW POTENTIAL|          Zero Damping
"""
BJ = D3.replace("Zero Damping", "BJ Damping: S. Grimme et al, JCC 32: 1456 (2011)")
U = """
     A DFT+U correction is applied to atoms of this atomic kind:
       Angular quantum momentum number L:                                      2
       U(eff) = (U - J) value in [eV]:                                     3.000
"""


def log(functional: str = PBE, more: str = "", potential: str = "GTH-PADE-q4", u: str = "", spin: str = "") -> Told:
    """Return what a log of silicon tells."""
    text = HEAD.replace(PADE, functional + more + "\n").replace("GTH-PADE-q4", potential)
    if spin:
        text = text.replace("Spin restricted Kohn-Sham (RKS) calculation                            RKS", spin)
    return told_in_log(text.replace("\n TOTAL NUMBERS", f"{u}\n TOTAL NUMBERS", 1))


def own(tmp_path: Path, xc: str = "&XC_FUNCTIONAL PBE\n&END", potential: str = "GTH-PADE-q4", **lines: str) -> Told:
    """Return what an engine tells of an input of silicon."""
    start, end = INPUT.index("&XC_FUNCTIONAL PADE"), INPUT.index("&END XC_FUNCTIONAL") + len("&END XC_FUNCTIONAL")
    text = (INPUT[:start] + xc + INPUT[end:]).replace("GTH-PADE-q4", potential)
    text = text.replace("&DFT\n", f"&DFT\n{lines.get('dft', '')}\n", 1).replace(
        "POTENTIAL GTH", f"{lines.get('kind', '')}\nPOTENTIAL GTH"
    )
    (tmp_path / "cp2k.inp").write_text(text)
    return Cp2k.model_validate({"engine": "cp2k", "input": str(tmp_path / "cp2k.inp")}).told_reference()


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (log(), log(REVPBE), "functional is PBE in A, revPBE in B"),
        (log(), log(PBESOL), "functional is PBE in A, PBEsol in B"),
        (log(), log(PBE0, HFX), "functional is PBE in A, PBE 0.75 1 in B; exact exchange is 0 in A, 0.25 in B"),
        (log(), log(PBE, D3), "dispersion is none in A, DFTD3 in B"),
        (log(PBE, D3), log(PBE, BJ), "dispersion is DFTD3 in A, DFTD3(BJ) in B"),
        (log(), log(u=U), "U Si is 0 in A, 3 in B"),
        (log(), log(spin="Spin unrestricted (spin-polarized) Kohn-Sham calculation               UKS"),
         "UKS is F in A, T in B"),
        (log(potential="GTH-PBE-q3"), log(potential="GTH-PBE-q13"), "electrons of potential Si is 3 in A, 13 in B"),
    ],
)  # fmt: skip
def test_two_logs(one: Told, other: Told, words: str) -> None:
    assert describe_mixed([("A", one), ("B", other)]) == words


def test_the_same_potential_under_two_names() -> None:
    assert not describe_mixed([("A", log(potential="GTH-PBE")), ("B", log(potential="GTH-PBE-q4"))])


def test_an_input_and_its_own_log(tmp_path: Path) -> None:
    def compare(told: Told, **keys: str) -> str:
        return describe_mixed([("own", own(tmp_path, **keys)), ("log", told)])

    def pbe(*lines: str, shortcut: str = "") -> str:
        return "\n".join([f"&XC_FUNCTIONAL {shortcut}", "&PBE", *lines, "&END PBE", "&END XC_FUNCTIONAL"])

    d3 = "&XC_FUNCTIONAL PBE\n&END\n&VDW_POTENTIAL\n&PAIR_POTENTIAL\nTYPE {}\n&END\n&END"
    assert not compare(log())
    assert not compare(log(), xc=pbe())
    assert not compare(log(REVPBE), xc=pbe("PARAMETRIZATION revPBE"))
    assert not compare(log(REVPBE), xc=pbe("PARAMETRIZATION REVPBE", shortcut="PBE"))  # which CP2K reads both
    assert not compare(log(PBESOL), xc=pbe("PARAMETRIZATION PBESOL"))
    assert not compare(log(PBE0, HFX), xc=pbe("SCALE_X 0.75") + "\n&HF\nFRACTION 0.25\n&END")
    assert not compare(log(PBE0, HFX), xc="&XC_FUNCTIONAL PBE0\n&END")
    assert not compare(log(PBE, BJ), xc=d3.format("DFTD3(BJ)"))
    assert not compare(log(potential="GTH-PBE-q4"), potential="GTH-PBE")
    assert not compare(log(u=U), kind="&DFT_PLUS_U\nL 2\nU_MINUS_J [eV] 3.0\n&END DFT_PLUS_U")
    assert compare(log(PBE), xc=pbe("PARAMETRIZATION REVPBE")) == "functional is revPBE in own, PBE in log"
    assert compare(log(PBE), xc=d3.format("DFTD3")) == "dispersion is DFTD3 in own, none in log"
    assert compare(log(PBE), dft="UKS") == "UKS is T in own, F in log"
    assert compare(log(u=U)) == "U Si is 0 in own, 3 in log"
    words = "electrons of potential Si is 3 in own, 13 in log"
    assert compare(log(potential="GTH-PBE-q13"), potential="GTH-PBE-q3") == words


def test_older_logs_tell_it_too() -> None:
    told = told_in_log(gzip.decompress((FILES / "cp2k_output.gz").read_bytes()).decode().partition("ENERGY|")[0])
    assert told.items() >= {"functional": "PBE", "dispersion": "DFTD3", "UKS": "T", "U Fe1": "3", "U O": "0"}.items()
    assert told["potential Fe1"] == "GTH-PBE" and told["electrons of potential Fe1"] == "16"
