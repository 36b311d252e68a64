"""From the keys of an explorer to its trajectories: structures × temperatures × pressures, in a fixed order.

Å, K, bar. Indices and names of a job count *entries* of ``structures``; an entry may hold several structures (a
pattern, or a file of many frames), and each of them runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ase import Atoms

from al_driver.data.sources import read_structures
from al_driver.errors import ConfigError, Problem
from al_driver.explorers.base import Ensemble, Explorer, Job, Ramp, Stage, Structure, Trajectory
from al_driver.layout import iteration_name
from al_driver.schema.suggest import nearest
from al_driver.seeds import make_seed
from al_driver.structures.supercell import check_size, make_supercell


def structure_names(explorer: Explorer) -> list[str]:
    """Return the name of each entry: its own, else the file's, else (for a pattern) the folder's.

    Files of one name in two folders are told apart by their folders: ``fcc/POSCAR`` becomes ``fcc_POSCAR``.

    Raises
    ------
    ConfigError
        If two entries still have the same name.
    """
    names = [entry.name or _file_name(entry) for entry in explorer.structures]
    clear = [
        name if entry.name or names.count(name) == 1 else f"{entry.path.parent.name}_{name}"
        for entry, name in zip(explorer.structures, names, strict=True)
    ]
    for index, name in enumerate(clear):
        first = clear.index(name)
        if first != index:
            message = f"entries {first} and {index} are both called {name!r}; give one another `name`"
            raise ConfigError(Problem(message, f"structures[{index}].name"))
    return clear


def entries_of(explorer: Explorer, job: Job, key: str = "structures") -> list[int]:
    """Return the indices of the entries a job explores, in the order it names them, each once.

    Raises
    ------
    ConfigError
        If an index or name is not among the entries; ``key`` says where the job names them.
    """
    names = structure_names(explorer)
    if job.structures == "all":
        return list(range(len(names)))
    found: dict[int, None] = {}
    problems = []
    for position, wanted in enumerate(job.structures):
        where = f"{key}[{position}]"
        if isinstance(wanted, str) and wanted in names:
            found[names.index(wanted)] = None
        elif isinstance(wanted, str):
            problems.append(Problem(f"no structure is called {wanted!r}{nearest(wanted, [*names, 'all'])}", where))
        elif 0 <= wanted < len(names):
            found[wanted] = None
        else:
            count = f"there are {len(names)}, counted from 0" if len(names) > 1 else "the only one is 0"
            problems.append(Problem(f"there is no entry {wanted} in `structures`; {count}", where))
    if problems:
        raise ConfigError(problems)
    return list(found)


def read_entries(explorer: Explorer, type_map: Sequence[str]) -> list[list[Atoms]]:
    """Read the structures of every entry, supercells made.

    Raises
    ------
    ConfigError
        With everything that is wrong with the files.
    """
    problems: list[Problem] = []
    entries: list[list[Atoms]] = []
    for index, entry in enumerate(explorer.structures):
        try:
            frames = read_structures(entry.path, type_map, entry.pbc)
            for atoms in frames:
                check_size(atoms, entry.supercell)
            entries.append([make_supercell(atoms, entry.supercell) for atoms in frames])
        except ConfigError as error:
            problems += [
                replace(problem, key=f"structures[{index}].{problem.key or 'path'}") for problem in error.problems
            ]
    if problems:
        raise ConfigError(problems)
    return entries


def make_trajectories(
    explorer: Explorer,
    stage: Stage,
    structures: Sequence[Sequence[Atoms]],
    *,
    seed: int,
    iteration: int,
    purpose: str | None = None,
) -> list[Trajectory]:
    """Return the molecular dynamics of one iteration: job by job, structure by structure, T by T, p by p.

    Parameters
    ----------
    structures
        What `read_entries` gave.
    seed, iteration
        Each trajectory of each iteration has a seed of its own.
    purpose
        What the trajectories are for, where that is not an iteration: their seeds are then of this.

    Raises
    ------
    ConfigError
        If a job names an entry that is not there, or an ensemble would move the vacuum of a slab or molecule.
    """
    names = structure_names(explorer)
    trajectories: list[Trajectory] = []
    for number, job in enumerate(stage.jobs):
        for index in entries_of(explorer, job, f"jobs[{number}].structures"):
            for atoms in structures[index]:
                problem = _vacuum_problem(job.ensemble, atoms, names[index])
                if problem:
                    raise ConfigError(Problem(problem, f"jobs[{number}].ensemble"))
                for temperature, pressure in _conditions(job):
                    own = make_seed(seed, purpose or iteration_name(iteration), "explore", len(trajectories))
                    trajectories.append(Trajectory(names[index], atoms, job, temperature, pressure, own))
    return trajectories


def check_sweep(explorer: Explorer, type_map: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with structures and jobs, with keys relative to the explorer's object."""
    try:
        structures = read_entries(explorer, type_map)
        structure_names(explorer)
    except ConfigError as error:
        yield from error.problems
        return
    for number, stage in enumerate(explorer.iterations):
        try:
            make_trajectories(explorer, stage, structures, seed=0, iteration=0)
        except ConfigError as error:
            for problem in error.problems:
                yield Problem(problem.message, f"iterations[{number}].{problem.key}")


def _conditions(job: Job) -> list[tuple[tuple[float, float], float | None]]:
    """Return the pairs of first and last temperature, and pressure."""
    temperatures = [job.temperatures.ramp] if isinstance(job.temperatures, Ramp) else [(t, t) for t in job.temperatures]
    return [(temperature, pressure) for temperature in temperatures for pressure in job.pressures or (None,)]


def _vacuum_problem(ensemble: Ensemble, atoms: Atoms, name: str) -> str | None:
    """Say why an ensemble does not suit a slab or molecule: a barostat must leave the vacuum alone."""
    periodic = tuple(bool(flag) for flag in atoms.pbc)
    if all(periodic) or not ensemble.startswith("npt"):
        return None
    if ensemble == "npt-xy" and periodic == (True, True, False):
        return None
    letters = ", ".join("true" if flag else "false" for flag in periodic)
    instead = '"npt-xy" or "nvt"' if periodic == (True, True, False) else '"nvt"'
    return f"{ensemble!r} would move the vacuum of {name!r} (pbc [{letters}]); use {instead}"


def _file_name(entry: Structure) -> str:
    """Return the stem of a file; for a pattern the folder's name, since its stem says little."""
    pattern = not entry.path.exists() and any(character in str(entry.path) for character in "*?[")
    if not pattern:
        return entry.path.stem
    fixed = [part for part in entry.path.parts[:-1] if not set(part) & set("*?[")]
    return fixed[-1].strip("/") or "structures"
