"""``al check`` of an ``init_bulk``: its structures and engines, what is rendered for them, and the counts."""

from collections.abc import Collection, Iterator, Mapping

from ase import Atoms

from al_driver.data.sources import read_structures
from al_driver.engines.base import Calculation, Engine
from al_driver.errors import ConfigError, Problem
from al_driver.schema.init_bulk import Aimd, InitBulkParams, InitStructure
from al_driver.schema.likely import check_move, check_scale, check_timestep
from al_driver.schema.relax import Relax
from al_driver.schema.resource import Resources
from al_driver.schema.suggest import nearest
from al_driver.structures.screened import is_made
from al_driver.structures.supercell import check_size, make_supercell
from al_driver.workflow.check_programs import check_engines, check_resources, render_scripts
from al_driver.workflow.foretell import expected_counts, expected_split
from al_driver.workflow.outliers import second_look
from al_driver.workflow.report import Report, render_files


def check_init_bulk(params: InitBulkParams, resources: Resources | None, *, render: bool = False) -> Report:
    """Check the files and programs of ``al init_bulk``; with ``render``, show inputs and the counts too."""
    report = Report()
    check_init_files(report, params)
    wanted = _find_calculations(params)
    if resources is not None:
        report.collect(lambda: check_resources(resources))
        check_engines(report, resources, wanted)
    for line, calculations in _set_in_inputs(wanted).items():
        report.set_by_driver.append(f"{', '.join(calculations)}: {line}")
    if params.label_engine is not None:
        report.set_by_driver += second_look(params.label_engine)
    if render and not report.errors:
        report.plan += expected_counts(params)
        if params.label_engine is not None:
            report.collect(lambda: report.plan.append(expected_split(params)))
        _check_frames(report, params)
        for entry in params.structures:
            report.inputs |= _render_entry(entry, params) | report.inputs  # one of each kind, the first
        if resources is not None:
            report.inputs |= render_scripts(resources, [role for role, engines in wanted.items() if engines])
    return report


def check_init_files(report: Report, params: InitBulkParams) -> None:
    """Add to a report what is wrong with the structures and engines of an ``init_bulk``."""
    names = [entry.called for entry in params.structures]
    for engines in _find_calculations(params).values():
        for key, engine in engines.items():
            report.collect(lambda engine=engine: engine.check(params.type_map), key)  # type: ignore[misc]
            report.collect(lambda engine=engine: check_named(engine, names), key)  # type: ignore[misc]
    sound = not report.errors
    for index, entry in enumerate(params.structures):
        report.collect(
            lambda entry=entry: _check_entry(entry, params, write=sound),  # type: ignore[misc]
            f"structures[{index}]",
        )


def check_named(engine: Engine, names: Collection[str]) -> Iterator[Problem]:
    """Yield entries of ``structures`` that an engine's keys speak of, and that are not there."""
    for key, name in engine.named_structures().items():
        if name not in names:
            yield Problem(f"no structure is called {name!r}{nearest(name, names, otherwise='there are')}", key)


def _find_calculations(params: InitBulkParams) -> dict[Calculation, dict[str, Engine]]:
    """Return the engines that label, relax and run dynamics, each by the key that names it."""
    found: dict[Calculation, dict[str, Engine]] = {"relax": {}, "aimd": {}, "label": {}}
    for index in range(len(params.structures)):
        for calculation, key, engine in _find_uses(params, index):
            found[calculation][key] = engine
    return found


def _find_uses(params: InitBulkParams, index: int) -> Iterator[tuple[Calculation, str, Engine]]:
    """Yield the calculations of an entry's structures, each with its engine and the key that names it."""

    def key_of(choice: object, key: str) -> str:
        return f"engines.{choice}" if isinstance(choice, str) else key

    entry = params.structures[index]
    stages: dict[Calculation, Relax | Aimd | None] = {"relax": entry.relax, "aimd": entry.aimd}
    for calculation, stage in stages.items():
        if stage is not None:
            own = key_of(stage.engine, f"structures[{index}].{calculation}.engine")
            key = key_of(params.label, "label") if stage.engine is None else own
            yield calculation, key, params.engine_of(stage)
    if params.label_engine is not None:
        yield "label", key_of(params.label, "label"), params.label_engine


def _set_in_inputs(wanted: Mapping[Calculation, Mapping[str, Engine]]) -> dict[str, list[Calculation]]:
    """Return each line of what is set in the user's inputs, with the calculations it is said of."""
    said: dict[str, list[Calculation]] = {}
    for calculation, engines in wanted.items():
        for line in dict.fromkeys(line for engine in engines.values() for line in engine.set_by_driver(calculation)):
            said.setdefault(line, []).append(calculation)
    return said


def _check_entry(entry: InitStructure, params: InitBulkParams, *, write: bool) -> Iterator[Problem]:
    """Read an entry's structures, and write an engine's input of each kind for the first."""
    if entry.screen is not None and not is_made(entry.path):
        yield Problem("is not made yet; al init_bulk makes it first", "screen", severity="warning")
        return
    if entry.aimd is not None:
        yield from check_timestep(entry.aimd.timestep, "aimd.timestep")
    if entry.perturb is not None:
        yield from check_move(entry.perturb.atom_distance, "perturb.atom_distance")
    for index, factor in enumerate(entry.scale):
        yield from check_scale(factor, f"scale[{index}]")
    for atoms in read_structures(entry.path, params.type_map):
        check_size(atoms, entry.supercell)
        if entry.aimd is not None and len(make_supercell(atoms, entry.supercell)) == 1:
            yield Problem(f"{entry.path.name} holds one atom, which dynamics do not move; make a supercell", "aimd")
        if entry.relax is not None and entry.relax.what == "cell" and not atoms.pbc.all():
            raise ConfigError(
                Problem(
                    f"{entry.path.name} is not periodic in three directions, and has no cell to relax; "
                    'say "what": "positions"',
                    "relax",
                )
            )
    if write:
        _render_entry(entry, params)


def _check_frames(report: Report, params: InitBulkParams) -> None:
    """Hold each engine's input against the structures of all that it calculates."""
    engines: dict[str, Engine] = {}
    frames: dict[str, dict[Calculation, list[Atoms]]] = {}
    for index, entry in enumerate(params.structures):
        units = read_structures(entry.path, params.type_map)
        for atoms in units:
            atoms.info["structure"] = entry.called
        cells = [make_supercell(atoms, entry.supercell) for atoms in units]
        for calculation, key, engine in _find_uses(params, index):
            engines[key] = engine
            own = frames.setdefault(key, {}).setdefault(calculation, [])
            own += units if calculation == "relax" else cells
    for key, engine in engines.items():
        report.collect(lambda engine=engine, key=key: engine.check_frames(frames[key]), key)  # type: ignore[misc]


def _render_entry(entry: InitStructure, params: InitBulkParams) -> dict[str, str]:
    """Return the inputs of the first structure's relaxation, dynamics and label."""
    unit = read_structures(entry.path, params.type_map)[0]
    unit.info["structure"] = entry.called
    first = make_supercell(unit, entry.supercell)
    inputs: dict[str, str] = {}
    if entry.relax is not None:
        engine, relaxation = params.engine_of(entry.relax), entry.relax.relaxation
        inputs |= render_files(lambda folder: engine.write_relaxation(unit, relaxation, folder), "relax")
    if entry.aimd is not None:
        engine, dynamics = params.engine_of(entry.aimd), entry.aimd.dynamics(seed=1)
        inputs |= render_files(lambda folder: engine.write_dynamics(first, dynamics, folder), "aimd")
    label_engine = params.label_engine
    if label_engine is not None:
        inputs |= render_files(lambda folder: label_engine.write_inputs(first, folder), "label")
    return inputs
