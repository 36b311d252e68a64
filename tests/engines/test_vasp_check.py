"""What `al check` says of an INCAR and of potentials before anything is submitted."""

from pathlib import Path

import pytest
import vasp_path  # noqa: F401
from ase.build import bulk
from vasp_case import INCAR, make_engine, write_potcar

from al_driver.engines.vasp import Vasp


def problems(engine: Vasp, *type_map: str) -> dict[str, str]:
    """Return severity and key of every problem by its text without the file's folder."""
    found = list(engine.check(type_map))
    return {f"{p.key}: {p.message}": p.severity for p in found}


def test_a_sound_input_has_no_problem(tmp_path: Path) -> None:
    assert problems(make_engine(tmp_path, ["Si"]), "Si") == {}


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        (("ENCUT = 400 ;", ""), "error", "ENCUT (eV) is missing"),
        (("NELM", "ML_LMLFF = T\nNELM"), "error", "ML_LMLFF = .TRUE.: frames of VASP's own force field"),
        (("NELM", "ISIF = 1\nNELM"), "error", "ISIF = 1 leaves out the stress, and virials train"),
        (("NELM", "ICHARG = 11\nNELM"), "error", "ICHARG = 11 keeps the density of another"),
        (("NELM", "PSTRESS = 10\nNELM"), "error", "PSTRESS = 10 is added to the stress"),
        (
            ("NELM", "MAGMOM = 8*1\nNELM"),
            "error",
            "MAGMOM = 8*1 belongs to one structure; take it out and use `magmoms`",
        ),
        (("NELM", "NELECT = 32\nNELM"), "error", "NELECT = 32 belongs to one structure; take it out and use `charge`"),
        (("NELM", "LDAUU = 4\nNELM"), "error", "LDAUU = 4 belongs to one structure; take it out and use `ldau`"),
        (("NELM", "KSPACING = 0.2\nNELM"), "error", "KSPACING of the INCAR and `kspacing` both choose k-points"),
        (("ISYM = 0", "ISYM = 2"), "warning", "ISYM = 2: symmetry makes labels of one cell differ"),
        (("ISYM = 0", ""), "warning", "ISYM = 2 (VASP's default)"),
        (("1E-8", "1E-4"), "warning", "EDIFF = 0.0001: forces are noisy above 1e-05"),
        (("NELM = 120", "NELM = 60"), "warning", "NELM = 60: a hard frame needs more"),
        (("NELM", "ENCUT 600\nNELM"), "warning", "'ENCUT 600' is no TAG = VALUE, and VASP passes over it"),
        (("400", "300"), "warning", "ENCUT = 300 eV is below 1.3 × ENMAX of PAW_PBE Si 01Jan2001, 325 eV"),
        (("400", "200"), "warning", "ENCUT = 200 eV is below ENMAX of PAW_PBE Si 01Jan2001, 250 eV"),
        (("NELM", "NBANDS = 32\nNELM"), "warning", "NBANDS = 32 is kept as it is for structures of every size"),
        (("NELM", "NSW = 20\nNELM"), "warning", "NSW = 20: a label is one frame, so it is set to 0"),
        (
            ("ISMEAR", "ISMAER"),
            "warning",
            "ISMAER is not known here, and VASP would ignore what it does not know; did you mean 'ISMEAR'?",
        ),
    ],
)
def test_each_fault_of_an_incar_is_told(tmp_path: Path, change: tuple[str, str], severity: str, words: str) -> None:
    found = problems(make_engine(tmp_path, ["Si"], INCAR.replace(*change)), "Si")
    matching = {text: level for text, level in found.items() if words in text}
    assert list(matching.values()) == [severity], found
    assert all(text.startswith("incar: ") for text in matching)


def test_real_space_projection_is_for_large_cells(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Si"], INCAR.replace("LREAL = .FALSE.", "LREAL = Auto"))
    cells = [bulk("Si", cubic=True) * (3, 1, 1), bulk("Si", cubic=True), bulk("Si", cubic=True) * (2, 2, 1)]
    (problem,) = engine.check_frames({"relax": cells[2:], "aimd": cells, "label": cells[:2]})
    words = "LREAL = Auto: real-space projection is inaccurate in a cell of 8 atoms; below 30 take .FALSE."
    assert problem.message == f"{tmp_path / 'INCAR.user'}: {words}" and problem.severity == "warning"
    assert problem.key == "incar"
    assert not list(engine.check_frames({"label": cells[2:]})) and not problems(engine, "Si")
    (tmp_path / "INCAR.bulk").write_text(INCAR)
    user = str(tmp_path / "INCAR.user")
    split = engine.model_validate(
        {
            **engine.model_dump(mode="json"),
            "incar": {"label": str(tmp_path / "INCAR.bulk"), "aimd": user},
            "incar_of": {"small": str(tmp_path / "INCAR.bulk"), "own": user},
        }
    )
    cells[0].info["structure"], cells[1].info["structure"] = "large", "small"
    (problem,) = split.check_frames({"label": cells[:2], "aimd": cells[:2]})
    assert problem.key == "incar.aimd" and "in a cell of 24 atoms" in problem.message


def test_tetrahedra_in_a_metal_are_an_error_and_in_an_oxide_not(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Cu", "Al", "O"], INCAR.replace("ISMEAR = 0", "ISMEAR = -5"))
    assert any("wrong forces in a metal (Cu Al)" in text for text in problems(engine, "Cu", "Al"))
    assert problems(engine, "Cu", "Al", "O") == {}


def test_each_incar_is_checked_for_what_it_is_for(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Si"])
    (tmp_path / "INCAR.aimd").write_text("EDIFF = 1E-6\nISYM = 0\nNELM = 100\nISIF = 0\n")
    incar = {"label": tmp_path / "INCAR.user", "aimd": tmp_path / "INCAR.aimd", "relax": tmp_path / "INCAR.usr"}
    split = Vasp.model_validate({**engine.model_dump(), "incar": incar})
    found = problems(split, "Si")
    assert any(text.startswith("incar.aimd: ") and "ENCUT (eV) is missing" in text for text in found)
    assert any(text.startswith("incar.relax: ") and "did you mean 'INCAR.user'?" in text for text in found)
    assert not any("leaves out the stress" in text for text in found)


def test_potentials_are_compared_with_their_elements(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Fe", "O"])
    assert list(problems(engine, "Fe", "O", "Ni")) == ["potcar: no POTCAR for Ni of the type_map; there are Fe, O"]
    swapped = engine.model_copy(update={"potcar": {"Fe": engine.potcar["O"], "O": engine.potcar["Fe"]}})
    texts = list(problems(swapped, "Fe", "O"))
    assert len(texts) == 2 and "POTCAR.O is for O (TITEL PAW_PBE O 01Jan2001), not for Fe" in texts[0]
    joined = tmp_path / "joined"
    joined.write_text(engine.potcar["Fe"].read_text() + engine.potcar["O"].read_text())
    both = engine.model_copy(update={"potcar": {"Fe": joined, "O": engine.potcar["O"]}})
    assert "holds 2 potentials (PAW_PBE Fe 01Jan2001, PAW_PBE O 01Jan2001); one was" in next(iter(problems(both, "Fe")))
    write_potcar(tmp_path / "POTCAR.O", "O", title="PAW O 01Jan2001", lexch="CA")
    (text,) = problems(engine, "Fe", "O")
    assert "different functionals: Fe: PAW_PBE (LEXCH PE), O: PAW (LEXCH CA)" in text
    write_potcar(tmp_path / "POTCAR.O", "O", vrhfin="N")
    assert "contradicts itself" in next(iter(problems(engine, "Fe", "O")))
    (tmp_path / "POTCAR.O").write_text("no potential\n")
    assert "is no POTCAR" in next(iter(problems(engine, "Fe", "O")))
    (tmp_path / "POTCAR.O").unlink()
    assert "does not exist" in next(iter(problems(engine, "Fe", "O")))


def test_sites_and_u_are_checked(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Fe", "O"], ldau={"Fe": {"l": 2, "u": 4.0}}, magmoms={"Ni": 2.0})
    found = problems(engine, "Fe", "O")
    assert found["magmoms: Ni is not of the type_map, Fe O"] == "warning"
    assert any("U converges badly with LMAXMIX = 2; set LMAXMIX = 4" in text for text in found)
    spin = make_engine(tmp_path, ["Fe"], INCAR + "ISPIN = 1\n", magmoms={"Fe": 2.0})
    assert any("ISPIN = 1, but `magmoms` are given" in text for text in problems(spin, "Fe"))
    vector = make_engine(tmp_path, ["Fe"], INCAR + "LSORBIT = T\n", magmoms={"Fe": 2.0})
    assert any("LSORBIT = T, but `magmoms` are given" in text for text in problems(vector, "Fe"))
    with pytest.raises(ValueError, match="'fe' needs an element, or an element and the tag of its atoms"):
        make_engine(tmp_path, ["Fe"], magmoms={"fe": 2.0})


def test_a_kpoints_file_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "KPOINTS.user"
    for text, words in (
        ("x\n0\nAuto\n30\n", "is not for structures of every size"),
        ("x\n0\nG\n2 2\n", "three numbers"),
    ):
        file.write_text(text)
        engine = make_engine(tmp_path, ["Si"], kspacing=None, kpoints=str(file))
        assert [text for text in problems(engine, "Si") if text.startswith("kpoints: ") and words in text]
