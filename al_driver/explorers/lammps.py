"""Molecular dynamics with LAMMPS and ``pair_style deepmd``: one folder, one trajectory, one deviation file a task.

The first model drives and the others observe. Guards end a run by ``fix halt``; a run that exploded or crashed keeps
the frames before. Units metal: K, bar, ps, Å, eV/Å.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

from ase import Atoms

from al_driver.data.frames import SITE_COLUMNS
from al_driver.data.lammps import read_rotation, read_sites, write_data
from al_driver.data.lammps_dump import dump_steps, iter_steps, last_step, read_dump
from al_driver.data.lammps_script import find_pushed, has_ended, last_lines, read_error, read_halt, read_version
from al_driver.data.lammps_wheel import unwrap
from al_driver.errors import ConfigError, EngineError, Problem
from al_driver.explorers.base import Explorer, Job, Outcome, Trajectory
from al_driver.explorers.lammps_restart import go_on, join_parts
from al_driver.explorers.lammps_template import check_template, make_values, render_input
from al_driver.explorers.sweep import check_sweep, make_trajectories, read_entries
from al_driver.files import find_disk_error
from al_driver.schema.base import Bool, UserPath
from al_driver.schema.likely import check_pressure, check_timestep

INPUT_FILE = "in.lammps"
DATA_FILE = "structure.data"
TRAJECTORY_FILE = "traj.lammpstrj"


class LammpsExplorer(Explorer):
    """LAMMPS with DeePMD models."""

    default_command: ClassVar[str] = "lmp"

    explorer: Literal["lammps"]
    template: UserPath | None = None
    """The user's own LAMMPS input, a jinja2 template; ours when left out."""
    allow_commands: Bool = False
    """Whether the template may hold ``shell``, ``python``, ``include`` and the like, which run anything."""

    def write_inputs(
        self,
        trajectory: Trajectory,
        type_map: Sequence[str],
        models: Sequence[str],
        directory: Path,
        *,
        relative_epsilon: float | None = None,
    ) -> None:
        text = self._render(trajectory, type_map, models, relative_epsilon)
        write_data(directory / DATA_FILE, trajectory.atoms, type_map)
        (directory / INPUT_FILE).write_text(text, encoding="utf-8")

    def arguments(self) -> tuple[str, ...]:
        return ("-in", INPUT_FILE, "-log", "none", "-nocite")

    def command(self, launcher: Sequence[str]) -> tuple[str, ...]:
        """Return the command line; the wheel's ``lmp`` is replaced by the program that it wraps."""
        return super().command((*launcher[:-1], *unwrap(launcher[-1], plugins=True), launcher[-1]))

    @classmethod
    def verify(cls, directory: Path) -> None:
        output = directory / cls.output_name
        error = read_error(output)
        if error is not None and find_disk_error(error) is not None:
            raise EngineError("engine_error", directory, error)  # the machine's: the frames before are no trajectory
        if error is None and not has_ended(output):
            raise EngineError("no_output", directory, f"LAMMPS vanished without a word after: {last_lines(output)}")
        cls.salvage(directory)

    @classmethod
    def salvage(cls, directory: Path) -> None:
        output = directory / cls.output_name
        expected = [TRAJECTORY_FILE]
        if cls.deviation_name in (directory / INPUT_FILE).read_text(encoding="utf-8"):
            expected.append(cls.deviation_name)
        for name in expected:
            if not _has_frames(directory / name):
                message = read_error(output) or f"no frame in {name}; {last_lines(output)}"
                raise EngineError("engine_error", directory, message)

        join_parts(directory, cls.deviation_name)

    def go_on(self, before: Path, directory: Path) -> bool:
        """See `explorers.lammps_restart`; a user's own input writes no restart files, and begins anew."""
        if self.template is not None:
            return False
        return go_on(before, directory, TRAJECTORY_FILE, self.deviation_name)

    @classmethod
    def outcome(cls, directory: Path) -> Outcome:
        output = directory / cls.output_name
        halt = read_halt(output)
        if halt is not None:
            return {"state": "halted", "step": halt[0], "why": halt[1]}
        last = cls.last_step(directory)
        if has_ended(output):
            return {"state": "ended", "step": last, "why": ""}
        return {"state": "crashed", "step": last, "why": read_error(output) or last_lines(output)}

    @classmethod
    def version(cls, directory: Path) -> str | None:
        version = read_version(directory / cls.output_name)
        return None if version == "unknown" else f"LAMMPS {version}"

    @classmethod
    def halted_at(cls, directory: Path) -> int | None:
        halt = read_halt(directory / cls.output_name)
        return None if halt is None else halt[0]

    @classmethod
    def frame_steps(cls, directory: Path) -> list[int]:
        return dump_steps(directory / TRAJECTORY_FILE)

    @classmethod
    def last_step(cls, directory: Path) -> int | None:
        return last_step(directory / TRAJECTORY_FILE)

    @classmethod
    def read_frames(
        cls, directory: Path, steps: Collection[int] | None, type_map: Sequence[str]
    ) -> Iterator[tuple[int, Atoms]]:
        rotation, sites = read_rotation(directory / DATA_FILE), read_sites(directory / DATA_FILE)
        for step, atoms in read_dump(directory / TRAJECTORY_FILE, steps, type_map):
            restored = rotation.restore(atoms)
            for name, values in sites.items():
                restored.set_array(name, values, int if SITE_COLUMNS[name] == "I" else float)
            yield step, restored

    def check(self, type_map: Sequence[str], relative: bool) -> Iterator[Problem]:
        sound = True
        for problem in check_sweep(self, type_map):
            sound = False
            yield problem
        for key, job in self._jobs().items():
            yield from check_timestep(job.timestep, f"{key}.timestep")
            for index, pressure in enumerate(job.pressures or ()):
                yield from check_pressure(pressure, f"{key}.pressures[{index}]")
        if self.template is None:
            return
        for problem in check_template(self.template, self._jobs(), relative=relative):
            sound &= problem.severity == "warning"
            yield problem
        if sound:
            yield from self._check_rendered(type_map, 1.0 if relative else None)

    def check_forces(self) -> Iterator[Problem]:
        if self.template is not None and self.template.is_file():
            text = self.template.read_text(encoding="utf-8", errors="replace")
            words = set(text.split())
            if pushed := find_pushed(text):
                message = (
                    f"fix {pushed} changes forces before they are dumped, and audit frames need those of the model "
                    "alone: dump what a `fix store/force` before it keeps (dump_modify colname fx)"
                )
                yield Problem(message, "template", self.template)
            if not {"fx", "fy", "fz"} <= words:
                message = "dumps no forces (fx fy fz), and audit frames need those of the model that explores"
                yield Problem(message, "template", self.template)

    def set_by_driver(self) -> tuple[str, ...]:
        if self.template is None:
            return ()
        return (f"{self.template.name}: nothing but the values of its variables; {DATA_FILE} gives box, masses, atoms",)

    def _render(
        self, trajectory: Trajectory, type_map: Sequence[str], models: Sequence[str], relative_epsilon: float | None
    ) -> str:
        files = {
            "data_file": DATA_FILE,
            "trajectory_file": TRAJECTORY_FILE,
            "deviation_file": self.deviation_name,
        }
        values = make_values(trajectory, type_map, models, self.guard, files=files, relative_epsilon=relative_epsilon)
        return render_input(self.template, values, allow_commands=self.allow_commands)

    def _jobs(self) -> dict[str, Job]:
        return {
            f"iterations[{number}].jobs[{index}]": job
            for number, stage in enumerate(self.iterations)
            for index, job in enumerate(stage.jobs)
        }

    def _check_rendered(self, type_map: Sequence[str], relative_epsilon: float | None) -> Iterator[Problem]:
        """Render the user's template for one trajectory of every job; LAMMPS itself is not asked."""
        structures = read_entries(self, type_map)
        rendered: set[int] = set()
        for stage in self.iterations:
            for trajectory in make_trajectories(self, stage, structures, seed=0, iteration=0):
                if id(trajectory.job) in rendered:
                    continue
                rendered.add(id(trajectory.job))
                try:
                    self._render(trajectory, type_map, ["model.000", "model.001"], relative_epsilon)
                except ConfigError as error:
                    yield from (Problem(problem.message, "template", problem.file) for problem in error.problems)
                    return


def _has_frames(path: Path) -> bool:
    """Say whether a dump or deviation file holds at least its first frame; a head alone has one or nine lines."""
    if not path.is_file():
        return False
    if path.name == TRAJECTORY_FILE:
        return next(iter_steps(path), None) is not None
    with path.open("rb") as stream:
        return len(list(islice(stream, 2))) == 2
