"""What makes a relaxation or dynamics of PWmat's SCF: lines of ``etot.input``, and ``IN.MDOPT``.

``RELAX_DETAIL = method, steps, force, cell, stress``: method 1 is conjugate gradients; forces in eV/Å; cell 1 relaxes
it too, until the mean of three components of the stress, in eV per atom, is below the limit (so a third of ours).
``MD_DETAIL = method, steps, time step (fs), first and last temperature``: 22 is Nosé–Hoover from the velocities of
``atom.config``. PWmat's own documents do not say whether the start is counted as a step, so one more is asked for.
``MD_ION_TAU`` (fs) is the thermostat's time. Sources: cellrelax.md of github.com/HongzhenTian/PWmat-doc, mod_md.f90
and mod_control.f90 of github.com/LonxunQuantum/PWMLFF.
"""

from collections.abc import Mapping

from ase import Atoms

from al_driver.engines.base import Calculation, Dynamics, Relaxation
from al_driver.engines.motion import check_relaxable
from al_driver.engines.pwmat.etot import EtotInput

JOBS: Mapping[Calculation, str] = {"label": "SCF", "relax": "RELAX", "aimd": "MD"}
MDOPT = "IN.MDOPT"
_CONJUGATE_GRADIENTS = "1"
WORDS: Mapping[Calculation, tuple[str, ...]] = {
    "label": ("JOB = SCF, OUT.MLMD = T",),
    "relax": (
        "JOB = RELAX, OUT.MLMD = F",
        "RELAX_DETAIL: your method or 1, conjugate gradients; max_steps; 0.57 max_force; for the cell 1 and a third of"
        " max_force, eV per atom",
    ),
    "aimd": (
        "JOB = MD, OUT.MLMD = F",
        "MD_DETAIL = 22 (Nosé–Hoover from given velocities), n_steps + 1, timestep, temperature",
        "IN.MDOPT = T with MD_ION_TAU from tau_t",
        "velocities in atom.config, from the seed",
    ),
}
"""What is set for each calculation."""


def make_relaxation(user: EtotInput, atoms: Atoms, relaxation: Relaxation) -> dict[str, str]:
    """Return the lines of a relaxation.

    Raises
    ------
    ConfigError
        If a cell is to be relaxed that is not periodic in three directions.
    """
    check_relaxable(atoms, relaxation)
    method = _method(user)
    force = relaxation.max_force / 3**0.5  # of a component, whichever PWmat looks at
    cell = f"1, {relaxation.max_force / 3:.6g}" if relaxation.what == "cell" else f"0, {relaxation.max_force:.6g}"
    return {"RELAX_DETAIL": f"{method}, {relaxation.max_steps}, {force:.6g}, {cell}"}


def search_of(user: EtotInput) -> dict[str, str]:
    """Return, for the settings of a relaxation, the user's method where it is another than PWmat's first."""
    method = _method(user)
    return {} if method == _CONJUGATE_GRADIENTS else {"search": method}


def _method(user: EtotInput) -> str:
    return (user.words("RELAX_DETAIL") or [_CONJUGATE_GRADIENTS])[0]


def make_dynamics(dynamics: Dynamics) -> dict[str, str]:
    """Return the lines of molecular dynamics."""
    timestep, temperature = f"{dynamics.timestep * 1000:.12g}", f"{dynamics.temperature:.12g}"
    return {"MD_DETAIL": f"22, {dynamics.n_steps + 1}, {timestep}, {temperature}, {temperature}", MDOPT: "T"}


def mdopt_text(dynamics: Dynamics) -> str:
    """Return the text of ``IN.MDOPT``."""
    return f"MD_ION_TAU = {dynamics.tau_t * 1000:.12g}\n"
