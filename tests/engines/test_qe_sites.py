"""Spin, U and charge with Quantum ESPRESSO: what belongs to atoms becomes species, and moments come back."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_driver.data.frames import Label
from al_driver.data.gate import GateLimits, check_label
from al_driver.data.pw_head import INTERSITE
from al_driver.data.pw_output import read_pw_frames
from al_driver.data.pw_steps import read_pw_steps
from al_driver.data.reference import parse_reference
from al_driver.engines.base import Dynamics
from al_driver.engines.pw_input import PwInput, read_pw_input
from al_driver.engines.pw_sites import MOST_SPECIES
from al_driver.engines.qe import QuantumEspresso
from al_driver.engines.upf import read_upf_valence
from al_driver.errors import ConfigError
from al_driver.units import BOHR_TO_ANGSTROM, RYDBERG_TO_EV

PSEUDO = Path("/usr/share/espresso/pseudo")
POTENTIALS = {"O": PSEUDO / "O.pz-rrkjus.UPF", "Fe": PSEUDO / "Fe.pz-nd-rrkjus.UPF"}
SMEARED = "ecutwfc = 20, ecutrho = 120, occupations = 'smearing', degauss = 0.02"
TEXT = f"&SYSTEM\n {SMEARED}\n/\n&ELECTRONS\n conv_thr = 1d-8, mixing_beta = 0.3\n/\n"
pytestmark = pytest.mark.needs("pw.x", str(POTENTIALS["Fe"]))


def make_engine(folder: Path, text: str = TEXT, **keys: Any) -> QuantumEspresso:
    (folder / "scf.in").write_text(text)
    keys = {"input": folder / "scf.in", "pseudopotentials": POTENTIALS, "kpoints": (1, 1, 1)} | keys
    return QuantumEspresso(engine="qe", **keys)


def make_oxide() -> Atoms:
    """Return FeO with two iron sublattices in a skewed cell, its atoms in no order."""
    cell = [[4.3, 2.15, 2.15], [2.15, 4.25, 2.2], [2.1, 2.15, 4.3]]
    places = [(0, 0, 0), (0.25, 0.25, 0.26), (0.5, 0.5, 0.5), (0.75, 0.74, 0.75)]
    atoms = Atoms("FeOFeO", scaled_positions=places, cell=cell, pbc=True)
    atoms.set_tags([2, 0, 1, 0])
    return atoms


def written(engine: QuantumEspresso, atoms: Atoms, folder: Path) -> PwInput:
    engine.write_inputs(atoms, folder)
    return read_pw_input(folder / "pw.in")


def names(result: PwInput, card: str) -> list[str]:
    return [line.split()[0] for line in result.cards[card].lines]


def errors(engine: QuantumEspresso) -> list[str]:
    return [str(problem) for problem in engine.check(("Fe", "O")) if problem.severity == "error"]


def test_moments_of_atoms_make_species(tmp_path: Path) -> None:
    atoms = make_oxide()
    atoms.set_initial_magnetic_moments([-4, 0, 4, 0])
    result = written(make_engine(tmp_path, TEXT.replace("ecutwfc", "nspin = 2, ecutwfc")), atoms, tmp_path)
    system = result.namelists["system"]
    assert names(result, "ATOMIC_SPECIES") == ["O", "Fe1", "Fe2"]
    assert names(result, "ATOMIC_POSITIONS") == ["Fe2", "O", "Fe1", "O"]
    assert {key: value for key, value in system.items() if key.startswith("starting")} == {
        "starting_magnetization(1)": "0", "starting_magnetization(2)": "0.5", "starting_magnetization(3)": "-0.5",
    }  # fmt: skip
    assert system["ntyp"] == "3" and system["nspin"] == "2"
    with pytest.raises(ConfigError, match=r"moments, but the input has no nspin; set nspin = 2, or 1 to ignore"):
        written(make_engine(tmp_path), atoms, tmp_path)
    ignored = written(make_engine(tmp_path, TEXT.replace("ecutwfc", "nspin = 1, ecutwfc")), atoms, tmp_path)
    assert names(ignored, "ATOMIC_SPECIES") == ["O", "Fe"]
    assert not any(key.startswith("starting") for key in ignored.namelists["system"])


def test_keys_give_moments_and_u_by_element_and_by_sublattice(tmp_path: Path) -> None:
    keys = {"magmoms": {"Fe1": 4.0, "Fe2": -3.0, "O": 0.6}, "hubbard_u": {"Fe": 4.5, "Fe2": 3.0}, "charge": -1.0}
    engine = make_engine(tmp_path, **keys)
    result = written(engine, make_oxide(), tmp_path)
    assert names(result, "ATOMIC_SPECIES") == ["O", "Fe1", "Fe2"]
    expected = {
        "starting_magnetization(1)": "0.1", "starting_magnetization(2)": "0.5", "starting_magnetization(3)": "-0.375",
        "nspin": "2", "lda_plus_u": ".true.", "hubbard_u(2)": "4.5", "hubbard_u(3)": "3", "tot_charge": "-1",
    }  # fmt: skip
    assert result.namelists["system"].items() >= expected.items()
    said = "\n".join(engine.set_by_driver())
    assert "starting_magnetization(i)" in said and "Hubbard_U(i)" in said and "tot_charge = -1" in said
    oxygen = written(engine, bulk("O", "fcc", a=4.0), tmp_path).namelists["system"]
    assert "lda_plus_u" not in oxygen and oxygen["starting_magnetization(1)"] == "0.1"
    engine.write_dynamics(make_oxide(), Dynamics(300, 2, 0.001, 1, 0.1, seed=1), tmp_path)
    assert names(read_pw_input(tmp_path / "pw.in"), "ATOMIC_VELOCITIES") == ["Fe2", "O", "Fe1", "O"]
    untold = make_oxide()
    untold.set_tags(0)
    with pytest.raises(ConfigError, match=r"magmoms: Fe1 and Fe2 are given, but no Fe atom has such a tag"):
        written(engine, untold, tmp_path)


def test_the_users_own_species_are_sublattices(tmp_path: Path) -> None:
    moments = "starting_magnetization(1) = 0.4, starting_magnetization(2) = -0.4"
    own = f"nspin = 2, {moments}, lda_plus_u = .true., Hubbard_U(1) = 4"
    types = "ATOMIC_SPECIES\nFe 55.8 Fe.pz-nd-rrkjus.UPF\nFe2 55.8 Fe.pz-nd-rrkjus.UPF\nO 16 O.pz-rrkjus.UPF\n"
    engine = make_engine(tmp_path, TEXT.replace("ecutwfc", f"{own}, ecutwfc") + types)
    assert errors(engine) == []
    result = written(engine, make_oxide(), tmp_path)
    assert names(result, "ATOMIC_POSITIONS") == ["Fe2", "O", "Fe1", "O"]
    found = {key: value for key, value in result.namelists["system"].items() if key.endswith(")")}
    assert found == {
        "starting_magnetization(1)": "0", "starting_magnetization(2)": "0.4", "starting_magnetization(3)": "-0.4",
        "hubbard_u(2)": "4", "hubbard_u(3)": "4",
    }  # fmt: skip
    plain = written(engine, bulk("FeO", "rocksalt", a=4.3), tmp_path)
    assert names(plain, "ATOMIC_SPECIES") == ["O", "Fe"]
    assert plain.namelists["system"]["starting_magnetization(2)"] == "0.4"


def test_a_card_of_later_versions_follows_the_species(tmp_path: Path) -> None:
    card = "HUBBARD {ortho-atomic}\nU Fe-3d 4.5\nU Fe2-3d 3.0\nJ0 Fe-3d 0.1\n"
    engine = make_engine(tmp_path, TEXT + card)
    assert errors(engine) == []
    result = written(engine, make_oxide(), tmp_path)
    assert names(result, "ATOMIC_SPECIES") == ["O", "Fe1", "Fe2"]
    assert result.cards["HUBBARD"].option == "ortho-atomic"
    assert result.cards["HUBBARD"].lines == ("U Fe1-3d 4.5", "U Fe2-3d 3.0", "J0 Fe1-3d 0.1", "J0 Fe2-3d 0.1")
    assert "lda_plus_u" not in result.namelists["system"]
    assert "HUBBARD" not in written(engine, bulk("O", "fcc", a=4.0), tmp_path).cards


@pytest.mark.parametrize(
    ("system", "cards", "keys", "words"),
    [
        ("nspin = 1", "", {"magmoms": {"Fe": 4.0}}, "nspin = 1, but `magmoms` are given"),
        ("nspin = 3", "", {}, "nspin = 3 is not 1, 2 or 4"),
        ("nspin = 2, starting_magnetization(1) = 0.5", "ATOMIC_SPECIES\nFe 55.8 x.UPF\n", {"magmoms": {"Fe": 4.0}},
         "starting_magnetization(1) and `magmoms` both speak of the atoms"),
        ("Hubbard_U(1) = 4", "ATOMIC_SPECIES\nFe 55.8 x.UPF\n", {"hubbard_u": {"Fe": 4.0}}, "and `hubbard_u` both"),
        ("tot_charge = 1", "", {"charge": 1.0}, "tot_charge = 1 and `charge` both give the charge"),
        ("degauss = 0.02", "HUBBARD atomic\nU Fe-3d 4\n", {"hubbard_u": {"Fe": 4.0}}, "card HUBBARD and `hubbard_u`"),
        ("degauss = 0.02", "HUBBARD atomic\nV Fe-3d O-2p 1 2 0.5\n", {}, "speaks of the atoms of one structure"),
        ("degauss = 0.02", "HUBBARD atomic\nU iron-3d 4\n", {}, "'iron-3d' names no element"),
        ("Hubbard_U(1) = 4", "ATOMIC_SPECIES\nFe_up 55.8 x.UPF\n", {}, "element that is; call it there Fe, or Fe1"),
    ],
)  # fmt: skip
def test_contradictions_are_told(system: str, cards: str, keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    found = errors(make_engine(tmp_path, TEXT.replace("ecutwfc", f"{system}, ecutwfc") + cards, **keys))
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize(
    ("text", "keys", "told"),
    [
        ("", {}, {"Fe": "0", "O": "0"}),
        ("", {"Fe": 4.0}, {"Fe": "4", "O": "0"}),
        ("", {"Fe1": 4.0, "Fe2": 3.5}, {"Fe": "", "O": "0"}),
        ("hubbard_u(1) = 4.0", {}, {"Fe": "0", "O": "0"}),  # which pw.x reads with lda_plus_u alone
        ("lda_plus_u = .true., hubbard_u(1) = 4.0d0", {}, {"Fe": "4", "O": "0"}),
        ("lda_plus_u = .true., hubbard_u(1) = 4.0, hubbard_j0(1) = 0.5", {}, {}),
        ("lda_plus_u = .true., lda_plus_u_kind = 1, hubbard_u(1) = 4.0", {}, {}),
        ("lda_plus_u = .true., lda_plus_u_kind = 2", {}, {"Fe": INTERSITE, "O": INTERSITE}),
        ("HUBBARD (atomic)\nU Fe-3d 4.0", {}, {"Fe": "4", "O": "0"}),
        ("HUBBARD (atomic)\nU Fe-3d 4.0\nV Fe-3d O-2p 1 2 0.5", {}, {"Fe": INTERSITE, "O": INTERSITE}),
    ],
)
def test_what_an_input_tells_of_u(text: str, keys: dict[str, float], told: dict[str, str], tmp_path: Path) -> None:
    card = text if text.startswith("HUBBARD") else ""
    system = TEXT if card else TEXT.replace("ecutwfc", f"{text}\n ecutwfc", 1)
    species = "ATOMIC_SPECIES\nFe 55.8 Fe.UPF\nO 16 O.UPF\n"
    engine = make_engine(tmp_path, f"{system}{species}{card}\n", hubbard_u=keys)
    found = engine.told_reference()
    assert {name.split()[1]: value for name, value in found.items() if name.startswith("U ")} == told


def test_spin_needs_smearing_a_first_moment_and_few_kinds(tmp_path: Path) -> None:
    fixed = TEXT.replace("occupations = 'smearing', degauss = 0.02", "nspin = 2")
    assert "nspin = 2 with fixed occupations needs tot_magnetization" in errors(make_engine(tmp_path, fixed))[0]
    engine = make_engine(tmp_path, TEXT.replace("ecutwfc", "nspin = 2, ecutwfc"))
    with pytest.raises(ConfigError, match="nspin = 2, but nothing gives a first moment"):
        written(engine, make_oxide(), tmp_path)
    crowd = bulk("Fe").repeat((11, 1, 1))
    crowd.set_initial_magnetic_moments(np.linspace(1, 3, 11))
    with pytest.raises(ConfigError, match=f"11 kinds of atoms, .* pw.x tells {MOST_SPECIES} apart"):
        written(engine, crowd, tmp_path)
    with pytest.raises(ConfigError, match=r"Fe has 8 valence electrons, and no moment of 9 μ_B"):
        written(make_engine(tmp_path, magmoms={"Fe": 9.0}), make_oxide(), tmp_path)
    (warning,) = make_engine(tmp_path, magmoms={"Ni": 2.0}).check(("Fe", "O"))
    assert "Ni is not of the type_map" in str(warning) and warning.severity == "warning"


def test_what_belongs_to_atoms_is_part_of_the_identity(tmp_path: Path) -> None:
    keys = ({}, {"magmoms": {"Fe": 4.0}}, {"hubbard_u": {"Fe": 4.0}}, {"hubbard_u": {"Fe": 3.0}}, {"charge": 1.0})
    assert len({make_engine(tmp_path, **each).identity() for each in keys}) == len(keys)


def test_valence_electrons_are_read_from_each_kind_of_header() -> None:
    found = {name: read_upf_valence(PSEUDO / name) for name in ("Fe.pz-nd-rrkjus.UPF", "O.pbe-kjpaw.UPF", "C.UPF")}
    assert found == {"Fe.pz-nd-rrkjus.UPF": 8, "O.pbe-kjpaw.UPF": 6, "C.UPF": 4}


def test_moments_of_newer_versions_are_read() -> None:
    lines = [
        "     Program PWSCF v.7.2 starts\n",
        "     Magnetic moment per site  (integrated on atomic sphere of radius R)\n",
        "     atom   1 (R=0.395)  charge= 10.4388  magn=  2.2345\n",
        "     atom   2 (R=0.395)  charge=  5.8109  magn= -0.0244\n",
    ]
    (step,) = read_pw_steps(lines)
    assert step.moments == [2.2345, -0.0244]


# --- the real program ---


def run_pw(engine: QuantumEspresso, atoms: Atoms, folder: Path) -> str:
    folder.mkdir()
    engine.write_inputs(atoms, folder)
    with (folder / "pw.out").open("w") as output:
        subprocess.run(["pw.x", "-in", "pw.in"], cwd=folder, stdout=output, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return (folder / "pw.out").read_text()


def test_an_antiferromagnetic_oxide_with_u_equals_what_was_printed(tmp_path: Path) -> None:
    keys = {"magmoms": {"Fe1": 4.0, "Fe2": -4.0}, "hubbard_u": {"Fe": 4.0}}
    engine = make_engine(tmp_path, TEXT.replace("1d-8", "1d-6"), **keys)
    atoms = make_oxide()
    text = run_pw(engine, atoms, tmp_path / "run")
    label = engine.read_label(tmp_path / "run")
    check_label(atoms, label, tmp_path, GateLimits())
    assert "Hubbard energy" in text
    moments = label.info["magmoms"]
    assert moments == [float(word) for word in re.findall(r"magn: +(\S+)", text)[-4:]]
    assert moments[0] < -2 and moments[2] > 2 and abs(moments[1]) < 0.3 and abs(moments[3]) < 0.3
    energy = float(re.search(r"! +total energy += +(\S+) Ry", text)[1])
    assert label.energy == pytest.approx(energy * RYDBERG_TO_EV, rel=1e-12)
    rows = re.findall(r"atom +\d+ type +\d+ +force = +(\S+) +(\S+) +(\S+)\n", text)[:4]
    printed = np.array(rows, dtype=float) * RYDBERG_TO_EV / BOHR_TO_ANGSTROM
    assert np.abs(printed).max() > 0.1 and label.forces == pytest.approx(printed, rel=1e-12)
    stress = re.search(r"total +stress +\(Ry/bohr.*\n((?:.*\n){3})", text)[1].splitlines()
    printed = np.array([row.split()[:3] for row in stress], dtype=float) * RYDBERG_TO_EV / BOHR_TO_ANGSTROM**3
    assert label.virial == pytest.approx(printed * atoms.get_volume(), rel=1e-12)
    (found,) = read_pw_frames(tmp_path / "run/pw.out")
    assert isinstance(found, Label)
    told = parse_reference(found.info["reference"])
    assert told.items() >= {"U Fe": "4", "U O": "0", **engine.told_reference()}.items()


def test_a_charged_molecule_with_spin_has_the_forces_of_its_energy(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, TEXT.replace("1d-8", "1d-10"), magmoms={"O": 1.0}, charge=1.0)
    atoms = Atoms("O2", [(0, 0, 0), (0.1, 0, 1.25)], cell=[4, 4.2, 4.5], pbc=True)
    labels = []
    for amount in (0.0, 0.01, -0.01):
        moved = atoms.copy()
        moved.positions[1, 2] += amount
        text = run_pw(engine, moved, tmp_path / f"run{amount}")
        assert float(re.search(r"number of electrons +=\s+(\S+)", text)[1]) == 11
        labels.append(engine.read_label(tmp_path / f"run{amount}"))
    assert sum(labels[0].info["magmoms"]) == pytest.approx(0.6, abs=0.2)  # within spheres; 1 in the cell
    assert abs(labels[0].forces[1, 2]) > 1
    assert labels[0].forces[1, 2] == pytest.approx((labels[2].energy - labels[1].energy) / 0.02, abs=5e-3)
