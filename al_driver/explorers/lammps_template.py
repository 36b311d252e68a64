"""The LAMMPS input of an exploration: what a template may use, what it must use, and what it may not do.

Ours is ``templates/lammps/explore.in.j2``; a user's own is a jinja2 template with the same variables. Units metal: K,
bar, ps, Å, eV/Å.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from al_driver.data.lammps import boundary, make_rotation
from al_driver.data.lammps_script import find_refused
from al_driver.errors import ConfigError, Problem
from al_driver.explorers.base import Guard, Job, Ramp, Trajectory
from al_driver.templates import read_variables, render, templates_dir

VARIABLES = {
    "models": "model files; the first drives, the others observe",
    "data_file": "the structure, for read_data",
    "trajectory_file": "the dump: columns id type x y z fx fy fz, sorted by id, format float %.17g",
    "deviation_file": "out_file of pair_style deepmd",
    "dump_every": "steps between two frames, for the dump and for out_freq",
    "n_steps": "steps to run",
    "relative_epsilon": "for `relative` of pair_style deepmd, eV/Å; none unless the metric is relative_force",
    "type_map": "elements in the order of types, for pair_coeff * *",
    "boundary": "letters for the boundary command: p, or m along the vacuum of a slab or molecule",
    "structure": "name of the structure's entry",
    "ensemble": "nve, nvt, npt, npt-aniso, npt-tri or npt-xy",
    "temperature": "set temperature, K; the first of a ramp",
    "temperature_end": "last temperature of a ramp, K; otherwise equal to `temperature`",
    "pressure": "bar; none unless the ensemble is an npt",
    "timestep": "ps",
    "tau_t": "damping time of the thermostat, ps",
    "tau_p": "damping time of the barostat, ps",
    "seed": "for velocities and thermostats; each trajectory has its own",
    "dynamics": "a ready block: the fix that integrates, with ensemble, temperatures, pressure, tau_t and tau_p",
    "guards": "a ready block: computes and fix halt for every guard; it belongs before run",
}
"""What a template may use, and what it means."""

_REQUIRED = ("models", "data_file", "trajectory_file", "deviation_file", "dump_every", "n_steps")
_USED_BY_DYNAMICS = frozenset({"ensemble", "temperature", "temperature_end", "pressure", "tau_t", "tau_p"})


def make_values(
    trajectory: Trajectory,
    type_map: Sequence[str],
    models: Sequence[str],
    guard: Guard,
    *,
    files: Mapping[str, str],
    relative_epsilon: float | None,
) -> dict[str, Any]:
    """Return the value of each of `VARIABLES`; ``files`` holds those that end in ``_file``."""
    job, (first, last) = trajectory.job, trajectory.temperature
    values: dict[str, Any] = {
        **files,
        "models": list(models),
        "dump_every": job.dump_every,
        "n_steps": job.n_steps,
        "relative_epsilon": relative_epsilon,
        "type_map": list(type_map),
        "boundary": boundary(trajectory.atoms.pbc),
        "structure": " ".join(trajectory.structure.split()),  # a line break would end a comment
        "ensemble": job.ensemble,
        "temperature": first,
        "temperature_end": last,
        "pressure": trajectory.pressure,
        "timestep": job.timestep,
        "tau_t": job.tau_t,
        "tau_p": job.tau_p,
        "seed": trajectory.seed,
    }
    values["dynamics"] = _render_block("dynamics.j2", values)
    values["guards"] = _render_block("guards.j2", _guard_values(trajectory, type_map, guard))
    return values


def render_input(template: Path | None, values: Mapping[str, Any], *, allow_commands: bool) -> str:
    """Return the LAMMPS input.

    Raises
    ------
    ConfigError
        If the template fails, or the input holds a command that may run other programs.
    """
    text = render(template or templates_dir() / "lammps" / "explore.in.j2", values)
    refused = find_refused(text) if template is not None and not allow_commands else []
    if refused:
        message = f"the command {refused[0].splitlines()[0]!r} may run other programs or read unchecked commands"
        raise ConfigError(Problem(f"{message}; take it out, or set `allow_commands`: true", file=template))
    return text


def check_template(path: Path, jobs: Mapping[str, Job], *, relative: bool = False) -> Iterator[Problem]:
    """Yield what a user's template does not use although it must, or although a job sets it.

    Parameters
    ----------
    jobs
        From the key of each job to the job.
    """
    try:
        used = read_variables(path)
    except ConfigError as error:
        yield from (Problem(problem.message, "template", problem.file) for problem in error.problems)
        return
    if "dynamics" in used:
        used |= _USED_BY_DYNAMICS
    for name in (*_REQUIRED, *(["relative_epsilon"] if relative else [])):
        if name not in used:
            yield Problem(f"does not use {{{{ {name} }}}} ({VARIABLES[name]})", "template", path)
    if "guards" not in used:
        message = "does not use {{ guards }}: an exploded trajectory runs to its end"
        yield Problem(message, "template", path, severity="warning")
    for key, job in jobs.items():
        for name, where in _swept(job).items():
            if name not in used:
                yield Problem(f"sets what the template {path.name} does not use: {{{{ {name} }}}}", f"{key}.{where}")
    ensembles = sorted({job.ensemble for job in jobs.values()})
    if "ensemble" not in used and len(ensembles) > 1:
        message = f"jobs ask for {', '.join(ensembles)}, but it uses neither {{{{ ensemble }}}} nor {{{{ dynamics }}}}"
        yield Problem(message, "template", path)


def _swept(job: Job) -> dict[str, str]:
    """Return the variables that a job's keys set, and those keys."""
    keys = {"pressures": "pressure", "tau_t": "tau_t", "tau_p": "tau_p", "timestep": "timestep"}
    swept = {variable: key for key, variable in keys.items() if key in job.model_fields_set}
    if job.pressures is None:
        swept.pop("pressure", None)
    swept["temperature"] = "temperatures"
    if isinstance(job.temperatures, Ramp):
        swept["temperature_end"] = "temperatures.ramp"
    return swept


def _guard_values(trajectory: Trajectory, type_map: Sequence[str], guard: Guard) -> dict[str, Any]:
    """Return what the block of guards needs: limits for the types that are there, and the first volume or area."""
    atoms, numbers = trajectory.atoms, [atomic_numbers[name] for name in type_map]
    types = [index for index, number in enumerate(numbers, 1) if number in atoms.numbers]
    radius = {index: float(covalent_radii[numbers[index - 1]]) for index in types}
    pairs = combinations_with_replacement(types, 2) if guard.min_distance > 0 else ()
    edges = np.diag(make_rotation(atoms.cell.array, atoms.pbc).box)
    size, first_size = None, 1.0
    if all(atoms.pbc):
        size, first_size = "vol", float(np.prod(edges))
    elif trajectory.job.ensemble == "npt-xy":
        size, first_size = "lx*ly", float(edges[0] * edges[1])  # the height of a slab is not a cell's
    return {
        "types": types if guard.min_distance > 0 else [],
        "distances": [(a, b, guard.min_distance * (radius[a] + radius[b])) for a, b in pairs],
        "dump_every": trajectory.job.dump_every,
        "max_force": guard.max_force,
        "max_temperature": guard.max_temperature_ratio * max(trajectory.temperature),
        "size": size,
        "first_size": first_size,
        "volume_ratio": guard.volume_ratio,
    }


def _render_block(name: str, values: Mapping[str, Any]) -> str:
    return render(templates_dir() / "lammps" / name, values).rstrip("\n")
