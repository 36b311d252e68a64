"""Every frame of anybody's pw.x output: real runs, several runs in a file, and what was cut or did not converge."""

import subprocess
from pathlib import Path

import ase.io
import numpy as np
import pytest

from al_driver.data.frames import Label
from al_driver.data.pw_output import read_pw_frames
from al_driver.errors import EngineError

PSEUDO = Path("/usr/share/espresso/pseudo")
POSITIONS = {
    "angstrom": "Si1 0 0 0\nSi1 1.4675 1.2875 1.4075",
    "crystal": "Si1 0 0 0 0 0 0\nSi1 0.27 0.26 0.24 1 1 1",
    "bohr": "Si1 0 0 0\nSi1 2.77 2.43 2.66",
    "alat": "Si1 0 0 0\nSi1 0.38 0.33 0.36",
}


def run_pw(folder: Path, calculation: str, option: str = "angstrom", **keys: str) -> Path:
    """Run pw.x on two atoms without symmetry in a triclinic cell."""
    folder.mkdir(parents=True)
    electrons = keys.pop("electrons", "conv_thr=1d-10")
    control = "".join(f", {key}={value}" for key, value in keys.items())
    control = f"calculation='{calculation}', outdir='./', tprnfor=.true., tstress=.true.{control}"
    cell = "&CELL press_conv_thr=0.3 /\n" if calculation == "vc-relax" else ""
    text = f"""&CONTROL {control}, pseudo_dir='{PSEUDO}' /
&SYSTEM ecutwfc=10, ibrav=0, nat=2, ntyp=1, nosym=.true. /
&ELECTRONS {electrons} /
&IONS /
{cell}ATOMIC_SPECIES
Si1 28.085 Si.pz-vbc.UPF
CELL_PARAMETERS angstrom
0.0543 2.743 2.7
2.769 0.0 2.7693
2.7 2.7 0.027
ATOMIC_POSITIONS {option}
{POSITIONS[option]}
K_POINTS automatic
{"2 2 2 0 0 0" if cell else "1 1 1 0 0 0"}
"""
    (folder / "pw.in").write_text(text)
    with (folder / "pw.out").open("w") as output:
        subprocess.run(["pw.x", "-in", "pw.in"], cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False)
    return folder / "pw.out"


def labels_of(path: Path) -> list[Label]:
    frames = list(read_pw_frames(path))
    assert all(isinstance(frame, Label) for frame in frames), frames
    return [frame for frame in frames if isinstance(frame, Label)]


def errors_of(path: Path) -> list[tuple[str, str]]:
    return [(frame.reason, frame.detail) for frame in read_pw_frames(path) if isinstance(frame, EngineError)]


@pytest.mark.needs("pw.x")
@pytest.mark.parametrize(
    ("calculation", "option"),
    [("scf", "alat"), ("relax", "crystal"), ("relax", "alat"), ("vc-relax", "bohr"), ("md", "angstrom")],
)
def test_frames_equal_an_independent_reading(calculation: str, option: str, tmp_path: Path) -> None:
    """ASE reads positions, energies and forces of all steps, and the stress of a column with two decimals."""
    path = run_pw(tmp_path / "run", calculation, option, nstep="4" if calculation == "md" else "30")
    labels, expected = labels_of(path), ase.io.read(path, index=":", format="espresso-out")
    done = [atoms for atoms in expected if "energy" in atoms.calc.results]
    assert len(labels) == len(done) == path.read_text().count("\n!")
    assert len(labels) > (0 if calculation == "scf" else 2)
    for label, atoms in zip(labels, done, strict=True):
        assert label.atoms.get_chemical_symbols() == ["Si", "Si"]
        assert np.abs(label.atoms.cell.array - atoms.cell.array).max() < 2e-5  # ASE's bohr is of another year
        assert np.abs(label.atoms.get_scaled_positions() - atoms.get_scaled_positions()).max() < 2e-6
        assert label.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
        assert np.abs(label.forces - atoms.get_forces()).max() < 1e-5
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        assert np.abs(np.asarray(label.virial) - virial).max() < 2e-3
        assert label.info["version"].startswith("6.") and label.atoms.pbc.all()
