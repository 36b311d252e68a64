"""What the stand-in of VASP writes: OUTCAR and vasprun.xml as VASP 6 lays them out, and the files nobody reads."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from ase import Atoms

RULE = "-" * 104
EV_TO_RY = 13.605693122994


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class Step:
    """One ionic step.

    ``energies`` and ``changes`` are of the electronic steps, ``kbar`` is the line "in kB" as a matrix.
    """

    number: int
    atoms: Atoms
    energy: float
    forces: np.ndarray
    kbar: np.ndarray
    energies: np.ndarray
    changes: np.ndarray
    is_converged: bool
    moments: list[float] | None


class Writer:
    """Writes the outputs step by step."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.outcar: TextIO = Path("OUTCAR").open("w", encoding="utf-8")  # noqa: SIM115  (closed in __exit__)
        self.xml: TextIO = Path("vasprun.xml").open("w", encoding="utf-8")  # noqa: SIM115  (closed in __exit__)
        self.last: Step | None = None

    def __enter__(self) -> "Writer":
        self._outcar_head()
        self._xml_head()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.outcar.write(
                "\n\n General timing and accounting informations for this job:\n"
                f" {'=' * 56}\n\n                  Total CPU time used (sec):        1.000\n"
                "                 Voluntary context switches:            1\n"
            )
            self._xml_tail()
            for name in ("OSZICAR", "XDATCAR", "IBZKPT", "DOSCAR", "EIGENVAL", "PCDAT", "CHG", "REPORT"):
                Path(name).write_text("stand-in\n", encoding="utf-8")
            if self.last is not None:
                self.last.atoms.write("CONTCAR", format="vasp")
        self.outcar.close()
        self.xml.close()

    def note(self, text: str) -> None:
        say(f" {text}")
        self.outcar.write(f"\n {text}\n")

    def step(self, step: Step, kinetic: float | None = None) -> None:
        """Write an ionic step; ``kinetic``, eV, of dynamics."""
        self.last = step
        self._outcar_electrons(step)
        self._outcar_ions(step, kinetic)
        self._xml_step(step)
        say(f"{step.number:4d} F= {step.energy:.8E} E0= {step.energy:.8E}")
        self.outcar.flush()
        self.xml.flush()

    def _outcar_head(self) -> None:
        given, out = self.given, self.outcar
        out.write(
            " vasp.6.4.2 20Jul23 (build Jan 01 2024 00:00:00) complex\n\n"
            " executed on             LinuxGNU date 2024.01.01  00:00:00\n running on    1 total cores\n\n\n"
            f"{RULE}\n\n\n INCAR:\n"
        )
        out.writelines(f"   {name} = {value}\n" for name, value in given.tags.items())
        out.writelines(f" POTCAR:    {one.title}\n" for one in given.potentials)
        for one in given.potentials:
            out.write(
                f" POTCAR:    {one.title}\n   VRHFIN ={one.element}: made up\n   LEXCH  = {one.lexch}\n\n"
                f"   TITEL  = {one.title}\n   POMASS =   {self._mass(one.element):7.3f}; ZVAL   = {one.zval:8.3f}"
                f"    mass and valenz\n   ENMAX  = {one.enmax:8.3f}; ENMIN  = {0.75 * one.enmax:8.3f} eV\n\n"
            )
        counts = "".join(f"{count:4d}" for count in given.counts)
        n_electrons = sum(n * one.zval for n, one in zip(given.counts, given.potentials, strict=True))
        number = given.number
        out.write(
            f"\n{RULE}\n\n\n Dimension of arrays:\n   k-points           NKPTS = {int(np.prod(given.grid)):6d}"
            f"   k-points in BZ     NKDIM = {int(np.prod(given.grid)):6d}"
            f"   number of bands    NBANDS={int(n_electrons):6d}\n"
            f"   number of dos      NEDOS =    301   number of ions     NIONS = {len(given.atoms):6d}\n"
            f"   ions per type =            {counts}\n\n SYSTEM =  {given.tags.get('SYSTEM', 'unknown system')}\n"
            " POSCAR =  made by a test\n\n Startparameter for this run:\n"
            "   NWRITE =      2    write-flag & timer\n"
            f"   ISPIN  = {number('ISPIN', 1):6.0f}    spin polarized calculation?\n\n"
            " Electronic Relaxation 1\n"
            f"   ENCUT  = {number('ENCUT', 300):6.1f} eV  {number('ENCUT', 300) / EV_TO_RY:5.2f} Ry    5.00 a.u.\n"
            f"   NELM   = {number('NELM', 60):6.0f};   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
            f"   EDIFF  = {self._fortran(number('EDIFF', 1e-4))}   stopping-criterion for ELM\n Ionic relaxation\n"
            f"   EDIFFG = {self._fortran(number('EDIFFG', 1e-3))}   stopping-criterion for IOM\n"
            f"   NSW    = {number('NSW', 0):6.0f}    number of steps for IOM\n"
            f"   IBRION = {number('IBRION', -1):6.0f}    ionic relax: 0-MD 1-quasi-New 2-CG\n"
            f"   ISIF   = {number('ISIF', 2):6.0f}    stress and relaxation\n\n"
            f"   POTIM  = {number('POTIM', 0.5):6.4f}    time-step for ionic-motion\n"
            f"   TEBEG  = {number('TEBEG', 0):6.1f};   TEEND  = {number('TEEND', 0):6.1f} temperature during run\n"
            f"   NELECT =  {number('NELECT', n_electrons):11.4f}    total number of electrons\n\n"
        )
        if "LDAUU" in given.tags:
            rows = {"angular momentum": "LDAUL", "U (eV)          ": "LDAUU", "J (eV)          ": "LDAUJ"}
            out.write(" LDA+U is selected, type is set to LDAUTYPE =  2\n")
            out.writelines(f"   {words} for each species {tag} = {given.tags[tag]}\n" for words, tag in rows.items())
        out.write(f"{RULE}\n\n")
        self._outcar_cell(given.atoms)
        points = [np.array(index) / given.grid for index in np.ndindex(*given.grid)]
        rows = "".join(f"  {x:11.8f} {y:11.8f} {z:11.8f}  {1 / len(points):10.6f}\n" for x, y, z in points)
        out.write(f"\n k-points in reciprocal lattice and weights: from a grid\n{rows}\n")

    def _outcar_cell(self, atoms: Atoms) -> None:
        self.outcar.write(
            f"\n  energy-cutoff  : {self.given.number('ENCUT', 300):11.2f}\n"
            f"  volume of cell : {atoms.get_volume():11.2f}\n"
            "      direct lattice vectors                 reciprocal lattice vectors\n"
        )
        for vector, other in zip(atoms.cell.array, atoms.cell.reciprocal(), strict=True):
            row = "".join(f"{number:13.9f}" for number in vector) + "    " + "".join(f"{n:13.9f}" for n in other)
            self.outcar.write(f" {row}\n")
        lengths = [*atoms.cell.lengths(), *np.linalg.norm(atoms.cell.reciprocal(), axis=1)]
        self.outcar.write("\n  length of vectors\n " + "".join(f"{number:13.9f}" for number in lengths) + "\n\n")

    def _outcar_electrons(self, step: Step) -> None:
        out, last = self.outcar, len(step.energies)
        for index, (energy, change) in enumerate(zip(step.energies, step.changes, strict=True), 1):
            out.write(
                f"\n--------------------------------------- Iteration {step.number:6d}({index:4d})  "
                "---------------------------------------\n\n\n    POTLOK:  cpu time    0.0100: real time    0.0100\n\n"
                f" total energy-change (2. order) :{self._fortran(change, 7)}  ({self._fortran(-abs(change) / 2, 7)})\n"
                f" number of electron {self.given.number('NELECT', 8.0):15.7f} magnetization {self._total(step)}\n\n"
                " Free energy of the ion-electron system (eV)\n  ---------------------------------------------------\n"
                f"  free energy    TOTEN  = {energy:18.8f} eV\n\n"
                f"  energy without entropy ={energy:18.8f}  energy(sigma->0) ={energy:18.8f}\n\n"
            )
            out.write(f"\n{RULE}\n\n" if index < last else "")
        reached = "EDIFF is reached" if step.is_converged else "EDIFF was not reached (unconverged)"
        out.write(f"\n------------------------ aborting loop because {reached} {'-' * 40}\n\n")

    def _outcar_ions(self, step: Step, kinetic: float | None) -> None:
        out, atoms = self.outcar, step.atoms
        if step.moments is not None:
            rows = "".join(f"{i:5d}    {0:8.3f}{0:8.3f}{m:8.3f}{m:8.3f}\n" for i, m in enumerate(step.moments, 1))
            out.write(
                f"\n magnetization (x)\n\n# of ion       s       p       d       tot\n{'-' * 42}\n{rows}{'-' * 50}\n"
            )
            total = sum(step.moments)
            out.write(f"tot      {0:8.3f}{0:8.3f}{total:8.3f}{total:8.3f}\n\n")
        order = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))
        kbar = "".join(f"{step.kbar[i, j]:12.5f}" for i, j in order)
        total = "".join(f"{step.kbar[i, j] * atoms.get_volume() / 1602.176634:12.5f}" for i, j in order)
        names = ("Alpha Z", "Ewald", "Hartree", "E(xc)", "Local", "n-local", "augment", "Kinetic", "Fock")
        parts = "".join(f"  {name:8s}{'     0.00000' * 6}\n" for name in names)
        out.write(
            "\n  FORCE on cell =-STRESS in cart. coord.  units (eV):\n"
            "  Direction    XX          YY          ZZ          XY          YZ          ZX\n"
            f"  {'-' * 86}\n{parts}  {'-' * 85}\n  Total   {total}\n  in kB   {kbar}\n"
            f"  external pressure = {np.trace(step.kbar) / 3:11.2f} kB  Pullay stress =        0.00 kB\n\n"
            " VOLUME and BASIS-vectors are now :\n"
            " -----------------------------------------------------------------------------"
        )
        self._outcar_cell(atoms)
        out.write(f" POSITION                                       TOTAL-FORCE (eV/Angst)\n {'-' * 83}\n")
        for position, force in zip(atoms.positions, step.forces, strict=True):
            left, right = "".join(f"{x:13.5f}" for x in position), "".join(f"{x:14.6f}" for x in force)
            out.write(f"{left}   {right}\n")
        out.write(
            f" {'-' * 83}\n    total drift:                                0.000000      0.000000      0.000000\n\n\n"
        )
        out.write(
            f"{RULE}\n\n\n\n  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
            "  ---------------------------------------------------\n"
            f"  free  energy   TOTEN  = {step.energy:18.8f} eV\n\n"
            f"  energy  without entropy={step.energy:18.8f}  energy(sigma->0) ={step.energy:18.8f}\n\n\n\n{RULE}\n\n"
        )
        if kinetic is not None:
            out.write(
                "  ENERGY OF THE ELECTRON-ION-THERMOSTAT SYSTEM (eV)\n"
                f"% ion-electron   TOTEN  = {step.energy:16.6f}  see above\n"
                f"  kinetic energy EKIN   = {kinetic:16.6f}\n\n"
            )

    def _xml_head(self) -> None:
        given = self.given
        symbols = given.atoms.get_chemical_symbols()
        types = [index for index, count in enumerate(given.counts, 1) for _ in range(count)]
        number = given.number
        self.xml.write(
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n'
            '  <i name="program" type="string">vasp </i>\n'
            '  <i name="version" type="string">6.4.2  </i>\n </generator>\n'
            " <incar>\n"
            + "".join(f'  <i type="string" name="{name}">{value}</i>\n' for name, value in given.tags.items())
            + " </incar>\n <kpoints>\n"
            + '  <generation param="Gamma">\n   <v type="int" name="divisions"> '
            + " ".join(map(str, given.grid))
            + ' </v>\n   <v name="usershift"> 0.0 0.0 0.0 </v>\n  </generation>\n'
            '  <varray name="kpointlist" >\n   <v> 0.0 0.0 0.0 </v>\n  </varray>\n'
            '  <varray name="weights" >\n   <v> 1.0 </v>\n  </varray>\n </kpoints>\n'
            ' <parameters>\n  <separator name="electronic" >\n'
            f'   <i name="ENMAX"> {number("ENCUT", 300):.8f}</i>\n'
            f'   <i name="EDIFF"> {number("EDIFF", 1e-4):.8f}</i>\n'
            '   <separator name="electronic convergence" >\n'
            f'    <i type="int" name="NELM"> {number("NELM", 60):.0f}</i>\n'
            "   </separator>\n  </separator>\n </parameters>\n"
            f" <atominfo>\n  <atoms> {len(symbols)} </atoms>\n  <types> {len(given.counts)} </types>\n"
            '  <array name="atoms" >\n   <dimension dim="1">ion</dimension>\n   <field type="string">element</field>\n'
            '   <field type="int">atomtype</field>\n   <set>\n'
            + "".join(
                f"    <rc><c>{symbol:2s}</c><c>{kind:4d}</c></rc>\n"
                for symbol, kind in zip(symbols, types, strict=True)
            )
            + '   </set>\n  </array>\n  <array name="atomtypes" >\n   <dimension dim="1">type</dimension>\n'
            '   <field type="int">atomspertype</field>\n   <field type="string">element</field>\n'
            "   <field>mass</field>\n"
            '   <field>valence</field>\n   <field type="string">pseudopotential</field>\n   <set>\n'
            + "".join(
                f"    <rc><c>{n:4d}</c><c>{one.element:2s}</c><c> {self._mass(one.element):.8f}</c>"
                f"<c> {one.zval:.8f}</c><c>  {one.title} </c></rc>\n"
                for n, one in zip(given.counts, given.potentials, strict=True)
            )
            + "   </set>\n  </array>\n </atominfo>\n"
        )
        self._xml_structure(given.atoms, ' name="initialpos" ')

    def _xml_structure(self, atoms: Atoms, name: str = "") -> None:
        self.xml.write(f" <structure{name}>\n  <crystal>\n")
        self._xml_table("basis", atoms.cell.array)
        self.xml.write(f'   <i name="volume"> {atoms.get_volume():15.8f} </i>\n')
        self._xml_table("rec_basis", atoms.cell.reciprocal())
        self.xml.write("  </crystal>\n")
        self._xml_table("positions", atoms.get_scaled_positions(wrap=False))
        self.xml.write(" </structure>\n")

    def _xml_table(self, name: str, rows: np.ndarray) -> None:
        lines = "".join(f"   <v> {' '.join(f'{number:15.8f}' for number in row)} </v>\n" for row in rows)
        self.xml.write(f'  <varray name="{name}" >\n{lines}  </varray>\n')

    def _xml_step(self, step: Step) -> None:
        self.xml.write(" <calculation>\n")
        for energy in step.energies:
            self.xml.write(f"  <scstep>\n   <energy>\n{self._xml_energy(energy)}   </energy>\n  </scstep>\n")
        self._xml_structure(step.atoms)
        self._xml_table("forces", step.forces)
        self._xml_table("stress", step.kbar)
        self.xml.write(f"  <energy>\n{self._xml_energy(step.energy)}  </energy>\n </calculation>\n")

    def _xml_tail(self) -> None:
        if self.last is not None:
            self._xml_structure(self.last.atoms, ' name="finalpos" ')
        self.xml.write("</modeling>\n")

    def _xml_energy(self, energy: float) -> str:
        names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
        return "".join(f'   <i name="{name}"> {energy:15.8f} </i>\n' for name in names)

    def _total(self, step: Step) -> str:
        return "" if step.moments is None else f"{sum(step.moments):15.7f}"

    @staticmethod
    def _mass(element: str) -> float:
        return float(Atoms(element).get_masses()[0])

    @staticmethod
    def _fortran(number: float, digits: int = 1) -> str:
        """Return a number as Fortran prints it: 0.1E-05."""
        mantissa, _, exponent = f"{number:.{digits - 1}E}".partition("E")
        value = float(mantissa) / 10
        return f"{value:.{digits}f}E{int(exponent) + 1:+03d}"
