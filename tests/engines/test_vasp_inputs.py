"""What is written for VASP: INCAR over the user's, POSCAR grouped and in full precision, POTCAR joined and private."""

import stat
from pathlib import Path

import ase.io
import numpy as np
import pytest
import vasp_path  # noqa: F401
from ase import Atoms, units
from ase.build import bulk, make_supercell
from vasp_case import INCAR, make_engine, write_potcar

from al_driver.engines.base import Dynamics, Relaxation
from al_driver.engines.vasp import Vasp
from al_driver.engines.vasp.incar import electronic, is_true, parse_incar, read_incar
from al_driver.engines.vasp.poscar import read_sent
from al_driver.errors import ConfigError
from al_driver.schema.base import identity
from al_driver.workflow.engine_tasks import calculation_key
from al_driver.workflow.report import render_files

SHORT = Dynamics(600.0, 5, 0.002, 2, 0.05, seed=11)


@pytest.fixture
def oxide() -> Atoms:
    """Two iron sublattices and oxygen, not sorted, off every site."""
    atoms = Atoms(
        "FeOFeO", positions=[(0, 0, 0), (2.1, 0, 0), (2.1, 2.1, 0), (0, 2.1, 0.1)], cell=[4.2, 4.2, 4.3], pbc=True
    )
    atoms.set_tags([1, 0, 2, 0])
    atoms.rattle(0.01, seed=3)
    return atoms


def write(engine: Vasp, atoms: Atoms, folder: Path) -> dict[str, str]:
    target = folder / "task"
    target.mkdir()
    engine.write_inputs(atoms, target)
    return read_incar(target / "INCAR")


def test_an_incar_is_read_as_vasp_reads_it() -> None:
    text = "encut=400;ISMEAR = 0 ! x = 3\n# NSW = 5\nMAGMOM = 2*1 \\\n 3*0\nSYSTEM = a b\nEDIFF = 1d-6\nno tag here\n"
    tags = parse_incar(text, Path("INCAR"))
    assert tags == {"ENCUT": "400", "ISMEAR": "0", "MAGMOM": "2*1   3*0", "SYSTEM": "a b", "EDIFF": "1d-6"}
    assert electronic(tags) == {"ENCUT": "400", "ISMEAR": "0", "MAGMOM": "2*1 3*0"}
    with pytest.raises(ConfigError, match=r"INCAR: ENCUT stands twice, as '400' and as '500'; keep one"):
        parse_incar("ENCUT = 400\nENCUT = 500\n", Path("INCAR"))
    with pytest.raises(ConfigError, match="holds no tag"):
        parse_incar("nothing\n", Path("INCAR"))


def test_tags_with_a_slash_and_blocks_are_tags(tmp_path: Path) -> None:
    slab = {"KERNEL_TRUNCATION/LTRUNCATE": "T", "KERNEL_TRUNCATION/IDIMENSIONALITY": "2"}
    plain = "KERNEL_TRUNCATION/LTRUNCATE = .TRUE.\nKERNEL_TRUNCATION/IDIMENSIONALITY = 2\n"
    block = "KERNEL_TRUNCATION {\n LTRUNCATE = T ! cut\n IDIMENSIONALITY = 2\n}\nENCUT = 400\n"
    assert electronic(parse_incar(plain, Path("INCAR"))) == dict(sorted(slab.items()))
    assert electronic(parse_incar(block, Path("INCAR"))) == {"ENCUT": "400", **dict(sorted(slab.items()))}
    for name in "ab":
        (tmp_path / name).mkdir()
    with_it = make_engine(tmp_path / "a", ["Si"], INCAR + plain)
    assert with_it.identity() != make_engine(tmp_path / "b", ["Si"]).identity()
    written = write(with_it, bulk("Si"), tmp_path)
    assert written["KERNEL_TRUNCATION/IDIMENSIONALITY"] == "2"


def test_a_truth_value_is_its_first_word() -> None:
    tags = parse_incar("ML_LMLFF = .TRUE. learn\nLDAU = T on\n", Path("INCAR"))
    assert is_true(tags, "ML_LMLFF")
    assert electronic(tags) == electronic(parse_incar("LDAU = .TRUE.\n", Path("INCAR"))) == {"LDAU": "T"}


def test_a_frame_of_another_incar_is_another_calculation(tmp_path: Path) -> None:
    (tmp_path / "INCAR.slab").write_text(INCAR + "LDIPOL = T\n")
    engine = make_engine(tmp_path, ["Si"], incar_of={"slab": str(tmp_path / "INCAR.slab")})
    keys = []
    for name in ("bulk", "slab", "other", "slab"):
        atoms = bulk("Si")
        atoms.info["structure"] = name
        keys.append([calculation_key(engine, atoms, engine.identity(), *what) for what in ((), ("relax",))])
    assert keys[0] == keys[2] and keys[1] == keys[3]
    assert not set(keys[0]) & set(keys[1])


def test_a_label_is_one_frame_whatever_the_user_says(tmp_path: Path) -> None:
    engine = make_engine(
        tmp_path, ["Si"], INCAR + "NSW = 50\nIBRION = 2\nISIF = 3\nPOTIM = 0.3\nEDIFFG = -0.1\nALGO = Fast\n"
    )
    tags = write(engine, bulk("Si"), tmp_path)
    assert {tags[name] for name in ("NSW", "IBRION", "ISIF")} == {"0", "-1", "2"}
    assert "POTIM" not in tags and "EDIFFG" not in tags
    assert tags["ENCUT"] == "400" and tags["ALGO"] == "Fast" and tags["LWAVE"] == ".FALSE."
    assert any("NSW = 0, IBRION = -1" in line for line in engine.set_by_driver())


def test_a_relaxation_keeps_a_tighter_limit(tmp_path: Path) -> None:
    for name, own, expected in (
        ("a", "", "-0.02"),
        ("b", "EDIFFG = -0.001\n", "-0.001"),
        ("c", "EDIFFG = -0.5\n", "-0.02"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        make_engine(folder, ["Si"], INCAR + own).write_relaxation(bulk("Si"), Relaxation("cell", 0.02, 30), folder)
        tags = read_incar(folder / "INCAR")
        assert (tags["EDIFFG"], tags["ISIF"], tags["IBRION"], tags["NSW"]) == (expected, "3", "2", "30")
    folder = tmp_path / "positions"
    folder.mkdir()
    make_engine(folder, ["Si"]).write_relaxation(bulk("Si"), Relaxation("positions", 0.02, 30), folder)
    assert read_incar(folder / "INCAR")["ISIF"] == "2"
    with pytest.raises(ConfigError, match="has no cell to relax"):
        slab = bulk("Si")
        slab.pbc = (True, True, False)
        make_engine(folder, ["Si"]).write_relaxation(slab, Relaxation("cell", 0.02, 30), folder)


def test_dynamics_start_from_seeded_velocities(tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    make_engine(tmp_path, ["Si"]).write_dynamics(atoms, SHORT, tmp_path)
    tags = read_incar(tmp_path / "INCAR")
    assert (tags["IBRION"], tags["MDALGO"], tags["NSW"], tags["POTIM"]) == ("0", "2", "6", "2")
    assert tags["TEBEG"] == tags["TEEND"] == "600" and tags["ISYM"] == "0"
    mass = 21 * 1.380649e-23 * 600 * (0.05e-12) ** 2 / 1.66053907e-27 / (5.43e-10) ** 2
    assert float(tags["SMASS"]) == pytest.approx(mass, rel=1e-6)
    lines = (tmp_path / "POSCAR").read_text().splitlines()
    velocities = np.array([line.split() for line in lines[17:25]], dtype=float)  # Å/fs
    assert lines[16] == ""
    kinetic = 0.5 * 28.085 * (velocities**2).sum() / units.fs**2
    assert kinetic == pytest.approx(1.5 * 7 * units.kB * 600, rel=1e-4)
    assert np.abs(velocities.sum(axis=0)).max() < 1e-15


def test_a_poscar_groups_atoms_and_keeps_them_to_the_bit(tmp_path: Path, oxide: Atoms) -> None:
    write(make_engine(tmp_path, ["O", "Fe"]), oxide, tmp_path)
    text = (tmp_path / "task/POSCAR").read_text().splitlines()
    assert text[5].split() == ["O", "Fe"] and text[6].split() == ["2", "2"]
    seen = ase.io.read(tmp_path / "task/POSCAR", format="vasp")
    assert np.abs(seen.positions - oxide.positions[[1, 3, 0, 2]]).max() < 1e-12
    sent, order = read_sent(tmp_path / "task")
    assert list(order) == [1, 3, 0, 2]
    assert (sent.positions == oxide.positions).all() and (sent.cell.array == oxide.cell.array).all()
    assert sent.get_chemical_symbols() == ["Fe", "O", "Fe", "O"] and sent.pbc.all()


def test_a_potcar_is_joined_once_privately_and_only_linked(tmp_path: Path, oxide: Atoms) -> None:
    engine = make_engine(tmp_path, ["O", "Fe"])
    work = tmp_path / "work"
    (work / "label").mkdir(parents=True)
    (work / "history.json").write_text("[]")
    for name in ("task.0", "task.1"):
        (work / "label" / name).mkdir()
        engine.write_inputs(oxide, work / "label" / name)
    (joined,) = (work / ".potcar").iterdir()
    assert stat.S_IMODE(joined.stat().st_mode) == 0o600 and stat.S_IMODE(joined.parent.stat().st_mode) == 0o700
    titles = [line.split()[3] for line in joined.read_text().splitlines() if "TITEL" in line]
    assert titles == ["O", "Fe"]
    for name in ("task.0", "task.1"):
        link = work / "label" / name / "POTCAR"
        assert link.is_symlink() and link.resolve() == joined and not link.readlink().is_absolute()
    assert {"POTCAR", ".potcar"} <= set(engine.scratch)


def test_no_check_shows_a_potcar(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Si"])
    shown = render_files(lambda folder: engine.write_inputs(bulk("Si"), folder), "label")
    assert set(shown) == {"label/INCAR", "label/KPOINTS", "label/POSCAR"}
    assert "k-points: 5 × 5 × 5, from kspacing 0.5 1/Å" in shown["label/INCAR"]
    assert shown["label/KPOINTS"].splitlines()[2:4] == ["Gamma", "5 5 5"]


def test_k_points_come_from_one_place(tmp_path: Path) -> None:
    (tmp_path / "KPOINTS.user").write_text("mine\n0\nMonkhorst-Pack\n2 2 1\n0 0 0\n")
    own = make_engine(tmp_path, ["Si"], kspacing=None, kpoints=str(tmp_path / "KPOINTS.user"))
    write(own, bulk("Si"), tmp_path)
    assert (tmp_path / "task/KPOINTS").read_text().startswith("mine\n")
    inside = tmp_path / "inside"
    inside.mkdir()
    write(make_engine(inside, ["Si"], INCAR + "KSPACING = 0.5\n", kspacing=None), bulk("Si"), inside)
    assert not (inside / "task/KPOINTS").exists()
    assert "k-points: 5 × 5 × 5, from KSPACING 0.5" in (inside / "task/INCAR").read_text()
    none = tmp_path / "none"
    none.mkdir()
    with pytest.raises(ConfigError, match="nothing chooses k-points"):
        write(make_engine(none, ["Si"], kspacing=None), bulk("Si"), none)
    with pytest.raises(ValueError, match="both choose k-points"):
        make_engine(tmp_path, ["Si"], kpoints=str(tmp_path / "KPOINTS.user"))


def test_tetrahedra_need_k_points(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Si"], INCAR.replace("ISMEAR = 0", "ISMEAR = -5"), kspacing=3.0)
    with pytest.raises(
        ConfigError, match=r"ISMEAR = -5 needs at least 4 k-points, and 2 atoms have k-points: 1 × 1 × 1"
    ):
        write(engine, bulk("Si"), tmp_path)


def test_moments_and_u_follow_the_atoms(tmp_path: Path, oxide: Atoms) -> None:
    ldau = {"Fe1": {"l": 2, "u": 5.0}, "Fe2": {"l": 2, "u": 3.0, "j": 0.5}}
    engine = make_engine(tmp_path, ["Fe", "O"], magmoms={"Fe1": 4.0, "Fe2": -4.0, "O": 0.1}, ldau=ldau)
    large = make_supercell(oxide, np.diag([2, 1, 1]))
    tags = write(engine, large, tmp_path)
    text = (tmp_path / "task/POSCAR").read_text().splitlines()
    assert text[5].split() == ["Fe", "Fe", "O"] and text[6].split() == ["2", "2", "4"]
    assert tags["MAGMOM"] == "2*4 2*-4 4*0.1" and tags["ISPIN"] == "2" and tags["LORBIT"] == "11"
    assert (tags["LDAUL"], tags["LDAUU"], tags["LDAUJ"]) == ("2 2 -1", "5 3 0", "0 0.5 0")
    joined = (tmp_path / "task/POTCAR").read_text()
    assert joined.count("TITEL") == 3
    large.set_initial_magnetic_moments([3.0 if tag == 1 else -2.0 if tag == 2 else 0.0 for tag in large.get_tags()])
    other = tmp_path / "own"
    other.mkdir()
    assert write(engine, large, other)["MAGMOM"] == "2*3 2*-2 4*0"


def test_sublattices_that_no_atom_belongs_to_are_refused(tmp_path: Path, oxide: Atoms) -> None:
    engine = make_engine(tmp_path, ["Fe", "O"], ldau={"Fe8": {"l": 2, "u": 4.0}, "Fe9": {"l": 2, "u": 3.0}})
    with pytest.raises(ConfigError, match=r"ldau: Fe8 and Fe9 are given, but no Fe atom has such a tag"):
        engine.write_inputs(oxide, tmp_path)


def test_moments_of_a_structure_are_never_dropped_without_a_word(tmp_path: Path, oxide: Atoms) -> None:
    oxide.set_initial_magnetic_moments([4.0, 0, -4.0, 0])
    with pytest.raises(ConfigError, match="a structure gives its atoms moments, but the INCAR has no ISPIN"):
        write(make_engine(tmp_path, ["Fe", "O"]), oxide, tmp_path)
    folder = tmp_path / "without"
    folder.mkdir()
    assert "MAGMOM" not in write(make_engine(folder, ["Fe", "O"], INCAR + "ISPIN = 1\n"), oxide, folder)


def test_a_charge_sets_the_number_of_electrons(tmp_path: Path, oxide: Atoms) -> None:
    assert float(write(make_engine(tmp_path, ["Fe", "O"], charge=1.0), oxide, tmp_path)["NELECT"]) == 2 * 8 + 2 * 6 - 1


def test_what_is_not_for_this_structure_is_refused(tmp_path: Path, oxide: Atoms) -> None:
    engine = make_engine(tmp_path, ["Fe"])
    with pytest.raises(ConfigError, match="no POTCAR for O of the type_map"):
        write(engine, oxide, tmp_path)
    with pytest.raises(ConfigError, match="put a molecule into a box"):
        engine.write_inputs(Atoms("Fe2", positions=[(0, 0, 0), (0, 0, 2)]), tmp_path)


def test_settings_are_what_decides_the_numbers(tmp_path: Path) -> None:
    for name, text in (("aimd", "NSW = 9\nISYM = 1\nNELM = 40\nNCORE = 4\nALGO = Fast\n"), ("low", "PREC = Low\n")):
        (tmp_path / f"INCAR.{name}").write_text(INCAR.replace("ISYM = 0\n", "").replace("NELM = 120\n", "") + text)
    base = make_engine(tmp_path, ["Si", "O"])
    incars = {
        "label": str(tmp_path / "INCAR.user"),
        "aimd": str(tmp_path / "INCAR.aimd"),
        "relax": str(tmp_path / "INCAR.low"),
    }
    split = Vasp.model_validate({**base.model_dump(mode="json"), "incar": incars})
    assert split.identity("aimd") == base.identity() == split.identity("label")
    assert split.identity("relax") != base.identity()
    assert split.settings("relax")["incar"]["PREC"] == "LOW"
    cutoff = make_engine(tmp_path, ["Si", "O"], INCAR.replace("400", "500"))
    different = {key for key, value in cutoff.settings().items() if value != split.settings("relax").get(key)}
    assert cutoff.settings()["incar"]["ENCUT"] == "500" and different == {"incar"}
    write_potcar(tmp_path / "POTCAR.Si", "Si", title="PAW_PBE Si_GW 01Jan2002")
    assert cutoff.settings()["potcar"]["Si"]["titel"] == "PAW_PBE Si_GW 01Jan2002"
    assert identity(cutoff)


def test_what_says_how_a_search_ends_is_part_of_what_a_relaxation_is(tmp_path: Path) -> None:
    engines = []
    for number, tags in enumerate(("", "EDIFFG = -0.01\n", "EDIFFG = -0.02\n", "IBRION = 1\n")):
        (tmp_path / str(number)).mkdir()
        engines.append(make_engine(tmp_path / str(number), ["Si", "O"], INCAR + tags))
    assert len({engine.identity("relax") for engine in engines}) == len(engines)
    assert len({engine.identity() for engine in engines} | {engine.identity("aimd") for engine in engines}) == 1


def test_the_threshold_is_of_the_identity_and_not_of_the_reference(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Si"])
    before, settings = engine.identity(), engine.settings()
    (tmp_path / "INCAR.user").write_text(INCAR.replace("EDIFF = 1E-8", "EDIFF = 1D-06") + "AMIX = 0.1\n! a word\n")
    assert engine.accuracy() == {"EDIFF": 1e-6}
    assert engine.settings() == settings and engine.identity() != before


def test_another_start_has_other_wave_functions_and_mixing(tmp_path: Path, oxide: Atoms) -> None:
    engine = make_engine(tmp_path, ["Fe", "O"], INCAR + "AMIX = 0.1\nINIWAV = 0\n")
    for name, write_one in (("a", engine.write_inputs), ("b", engine.write_other_start)):
        (tmp_path / name).mkdir()
        write_one(oxide, tmp_path / name)
    usual, other = (read_incar(tmp_path / name / "INCAR") for name in "ab")
    assert usual | {"INIWAV": "1", "AMIX": "0.05"} == other


def test_tags_change_in_a_copy(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ["Si"])
    (tmp_path / "new").mkdir()
    changed = engine.with_tags({"nelm": "400", "ALGO": "All"}, tmp_path / "new")
    tags = read_incar(tmp_path / "new/INCAR")
    assert tags == read_incar(tmp_path / "INCAR.user") | {"NELM": "400", "ALGO": "All"}
    assert changed.settings() == engine.settings()
    with pytest.raises(ConfigError, match=r"NELMN: VASP has no such tag; did you mean 'NELM"):
        engine.with_tags({"NELMN": "400"}, tmp_path / "new")


def test_frames_of_a_structure_may_have_incars_of_their_own(tmp_path: Path, oxide: Atoms) -> None:
    metal = INCAR.replace("ISMEAR = 0 ; SIGMA = 0.05", "ISMEAR = 1 ; SIGMA = 0.2")
    for name, text in (("metal", metal), ("fast", metal.replace("1E-8", "1E-5"))):
        (tmp_path / f"INCAR.{name}").write_text(text)
    own = {"Fe": {"label": str(tmp_path / "INCAR.metal"), "aimd": str(tmp_path / "INCAR.fast")}}
    engine = make_engine(tmp_path, ["Fe", "O"], incar_of=own)
    assert list(engine.check(["Fe", "O"])) == []
    oxide.info["structure"] = "Fe"
    found = {}
    for calculation in ("label", "relax", "aimd"):
        folder = tmp_path / calculation
        folder.mkdir()
        if calculation == "label":
            engine.write_inputs(oxide, folder)
        elif calculation == "relax":
            engine.write_relaxation(oxide, Relaxation("positions", 0.1, 5), folder)
        else:
            engine.write_dynamics(oxide, SHORT, folder)
        found[calculation] = read_incar(folder / "INCAR")
    assert {name: (tags["SIGMA"], tags["EDIFF"]) for name, tags in found.items()} == {
        "label": ("0.2", "1E-8"), "relax": ("0.2", "1E-8"), "aimd": ("0.2", "1E-5"),
    }  # fmt: skip
    oxide.info["structure"] = "FeO"
    assert write(engine, oxide, tmp_path)["SIGMA"] == "0.05"
    assert engine.named_structures() == {"incar_of.Fe": "Fe"}
    assert engine.identity() != make_engine(tmp_path, ["Fe", "O"]).identity()
    assert engine.accuracy("aimd") == {"EDIFF": 1e-8, "EDIFF of Fe": 1e-5}
    retried = tmp_path / "retried"
    retried.mkdir()
    other = engine.with_tags({"ALGO": "All"}, retried)
    oxide.info["structure"] = "Fe"
    (tmp_path / "again").mkdir()
    other.write_inputs(oxide, tmp_path / "again")
    tags = read_incar(tmp_path / "again/INCAR")
    assert (tags["ALGO"], tags["SIGMA"]) == ("All", "0.2")


def test_incars_of_two_structures_keep_what_gives_energies_one_zero(tmp_path: Path) -> None:
    (tmp_path / "INCAR.slab").write_text(INCAR.replace("ENCUT = 400", "ENCUT = 500") + "IVDW = 11\nISPIN = 2\n")
    engine = make_engine(tmp_path, ["Si"], incar_of={"slab": str(tmp_path / "INCAR.slab")})
    found = [problem for problem in engine.check(["Si"]) if problem.severity == "error"]
    path = tmp_path / "INCAR.slab"
    end = "for other structures: labels of both do not belong into one training"
    assert [(problem.key, problem.message) for problem in found] == [
        ("incar_of.slab", f"{path}: ENCUT = 500, and ENCUT = 400 {end}"),
        ("incar_of.slab", f"{path}: IVDW = 11, and no IVDW {end}"),
    ]
