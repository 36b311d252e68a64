"""A hundred malformed inputs: each is told clearly, with its key path, and none ends in a traceback."""

import copy
import json
from pathlib import Path

import pytest

from al_driver.errors import ConfigError
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.load import load_params
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams

RUN = {
    "seed": 1,
    "type_map": ["Si", "C"],
    "init_data": ["init", {"path": "OUTCAR", "format": "vasp/outcar"}],
    "engines": {"truth": {"engine": "lammps", "pair_style": "sw", "pair_coeff": ["* * Si.sw Si C"]}},
    "train": {"trainer": "deepmd", "preset": "small", "models": 4, "steps": {"first": 10}},
    "explore": {
        "explorer": "lammps",
        "structures": ["POSCAR", {"path": "cells/*.vasp", "name": "bulk", "supercell": [2, 2, 2]}],
        "iterations": [
            {"jobs": [{"structures": [0, "bulk"], "ensemble": "nvt", "temperatures": [300, 600], "n_steps": 100}]},
            [{"structures": "all", "ensemble": "npt", "temperatures": 300, "pressures": 0.0, "n_steps": 100}],
        ],
        "guard": {"max_force": 50},
    },
    "query": {"lower": 0.1, "upper": 0.3},
    "label": "truth",
}
INIT = {
    "seed": 1,
    "type_map": ["Si"],
    "engines": {"truth": {"engine": "lammps", "pair_style": "sw"}},
    "label": "truth",
    "structures": ["POSCAR", {"path": "a.vasp", "scale": [0.9, 1.1], "perturb": {"copies": 3, "temperature": 300}}],
}
RESOURCE = {"default": {"executor": "local", "workers": 2, "env": {"A": "1"}}, "label": {"timeout_min": [10, 20]}}
LEFT_OUT = object()
JOB = "explore.iterations.0.jobs.0"
KEY = "explore.iterations[0].jobs[0]"
SHORT_JOB = "explore.iterations.1.0"
ENSEMBLES = '"nve", "nvt", "npt", "npt-aniso", "npt-tri" or "npt-xy"'

RUN_CASES = [
    ("seed", LEFT_OUT, "seed: is missing (Every random draw follows from it)"),
    ("seed", 1.5, "seed: needs a whole number; found 1.5"),
    ("seed", "1", 'seed: needs a whole number; found "1"'),
    ("seed", True, "seed: needs a whole number; found true"),
    ("seed", None, "seed: needs a whole number; found null"),
    ("sede", 1, "sede: there is no such key; did you mean 'seed'?"),
    ("Seed", 1, "Seed: there is no such key; did you mean 'seed'?"),
    ("work_dir", 3, "work_dir: needs a path; found 3"),
    ("work_dir", "", "work_dir: needs a path; found ''"),
    ("work_dir", "a\0b", "work_dir: needs a path"),
    ("work_dir", "~nobody-of-this-name/x", "home folder of that user is not known"),
    ("type_map", LEFT_OUT, "type_map: is missing (Elements, in the order in which models number them)"),
    ("type_map", [], "type_map: needs at least 1 entry; found 0"),
    ("type_map", "Si", 'type_map: needs a list; found "Si"'),
    ("type_map", ["Si", "Sii"], "type_map[1]: 'Sii' is not an element; did you mean 'Si'?"),
    ("type_map", ["si"], "type_map[0]: 'si' is not an element; did you mean 'Si'?"),
    ("type_map", ["X"], "type_map[0]: 'X' is not an element"),
    ("type_map", [14], "type_map[0]: needs a text; found 14"),
    ("type_map", ["Si", "C", "Si"], "type_map: Si stands more than once"),
    ("init_data", LEFT_OUT, "init_data: is missing"),
    ("init_data", [], "init_data: needs at least 1 entry; found 0"),
    ("init_data", "init", 'init_data: needs a list; found "init"'),
    ("init_data", [{}], "init_data[0]: needs either `path` or `init_bulk`"),
    ("init_data", [{"path": "a", "init_bulk": "b"}], "init_data[0]: needs either `path` or `init_bulk`"),
    ("init_data", [{"init_bulk": "b", "format": "c"}], "init_data[0]: `format` belongs to `path`"),
    ("init_data.1.fromat", "x", "init_data[1].fromat: there is no such key; did you mean 'format'?"),
    ("init_data.0", 7, "init_data[0]: needs a path or an object {…}; found 7"),
    ("valid_data", {"path": "a"}, "valid_data: needs a list"),
    ("engines", [], "engines: needs an object {…}; found []"),
    ("engines.my engine", {"engine": "lammps", "pair_style": "x"}, 'engines["my engine"]: needs a name of letters'),
    ("engines.truth.engine", "lamps", "engines.truth.engine: \"lamps\" is not known here; did you mean 'lammps'?"),
    ("engines.truth.engine", LEFT_OUT, "engines.truth.engine: is missing; legal are "),
    ("engines.truth", "lammps", "engines.truth: needs an object {…}"),
    ("engines.truth.pair_stile", "x", "engines.truth.pair_stile: there is no such key; did you mean 'pair_style'?"),
    ("engines.truth.pair_coeff", "* * x", "engines.truth.pair_coeff: needs a list"),
    ("label", LEFT_OUT, "label: is missing (The reference: a name from ``engines``, or an engine)"),
    ("label", "thruth", "label: no engine is called 'thruth'; did you mean 'truth'?"),
    ("label", 5, "label: needs a text or an object {…}; found 5"),
    ("label", None, "label: needs a text or an object {…}; found null"),
    ("label", ["truth"], 'label: needs a text or an object {…}; found ["truth"]'),
    ("label", {}, "label.engine: is missing; legal are "),
    ("label", {"engine": "qee"}, "label.engine: \"qee\" is not known here; did you mean 'qe'?"),
    ("label", {"engine": "lammps"}, "label.pair_style: is missing"),
    ("label", {"engine": 3}, 'label.engine: 3 is not known here; legal are '),
    ("label", {"engine": "qe", "input": "a", "pseudopotentials": {"Si": "b"}, "kspacing": -1},
     "label.kspacing: needs a number larger than 0, in 1/Å; found -1"),
    ("label", {"engine": "qe", "input": "a", "pseudopotentials": {"Sl": "b"}},
     "label.pseudopotentials.Sl: 'Sl' is not an element"),
    ("train", LEFT_OUT, "train: is missing (How models are made)"),
    ("train", "deepmd", "train: needs an object {…}"),
    ("train.trainer", "deepmdd", "train.trainer: needs \"deepmd\"; found \"deepmdd\"; did you mean 'deepmd'?"),
    ("train.trainer", LEFT_OUT, "train.trainer: is missing; legal are deepmd"),
    ("train.models", 0, "train.models: needs a whole number larger than 0; found 0"),
    ("train.models", 1, "train.models: needs at least 2 models for a committee; found 1"),
    ("train.models", 4.0, "train.models: needs a whole number"),
    ("train.preset", "tiny", 'train.preset: needs "small" or "standard"; found "tiny"'),
    ("train.preset", LEFT_OUT, "train: needs either `input` or `preset`"),
    ("train.input", "a.json", "train: needs either `input` or `preset`"),
    ("train.steps", 100, "train.steps: needs an object {…}; found 100"),
    ("train.steps.frist", 100, "train.steps.frist: there is no such key; did you mean 'first'?"),
    ("train.steps.first", -1, "train.steps.first: needs a whole number larger than 0; found -1"),
    ("train.warm_start", True, "train.warm_start: needs false or an object {…}; found true"),
    ("train.warm_start", {"steps": 5, "start_lr": 0}, "train.warm_start.start_lr: needs a number larger than 0"),
    ("train.compress", "False", 'train.compress: needs true or false; found "False"'),
    ("explore", LEFT_OUT, "explore: is missing (Where models are tried)"),
    ("explore", [], "explore: needs an object {…}; found []"),
    ("explore.explorer", "lamps", "explore.explorer: needs \"lammps\"; found \"lamps\"; did you mean 'lammps'?"),
    ("explore.structures", [], "explore.structures: needs at least 1 entry; found 0"),
    ("explore.structures.0", 5, "explore.structures[0]: needs a path or an object {…}; found 5"),
    ("explore.structures.0", "", "explore.structures[0]: needs a path"),
    ("explore.structures.0", {"name": "a"}, "explore.structures[0].path: is missing"),
    ("explore.structures.0", {"path": "b", "name": "bulk"}, "are both called 'bulk'"),
    ("explore.structures.1.name", "a,b", "explore.structures[1].name: needs a name of letters"),
    ("explore.structures.1.supercell", [2, 2], "explore.structures[1].supercell: needs 3 whole numbers, or a 3×3"),
    ("explore.structures.1.supercell", 2, "explore.structures[1].supercell: needs 3 whole numbers, or a 3×3"),
    ("explore.structures.1.supercell", [0, 1, 1], "explore.structures[1].supercell: needs 3 numbers larger than 0"),
    ("explore.structures.1.supercell", [[1, 0, 0], [1, 0, 0], [0, 0, 1]], "needs a matrix with a positive determinant"),
    ("explore.structures.1.pbc", [True], "explore.structures[1].pbc: needs 3 entries; found 1"),
    ("explore.structures.1.pbc", [1, True, True], "explore.structures[1].pbc[0]: needs true or false; found 1"),
    ("explore.structures.1.max_select", 0, "explore.structures[1].max_select: needs a whole number larger than 0"),
    ("explore.iterations", [], "explore.iterations: needs at least 1 entry; found 0"),
    ("explore.iterations", 3, "explore.iterations: needs a list; found 3"),
    ("explore.iterations.1", [], "explore.iterations[1]: needs at least 1 entry; found 0"),
    ("explore.iterations.1", 5, "explore.iterations[1]: needs a list or an object {…}; found 5"),
    ("explore.iterations.0.max_repeat", 2, "did you mean 'max_repeats'?"),
    (f"{SHORT_JOB}.n_steps", -3, "explore.iterations[1][0].n_steps: needs a whole number larger than 0; found -3"),
    (f"{JOB}.n_steps", LEFT_OUT, f"{KEY}.n_steps: is missing (Steps of each trajectory)"),
    (f"{JOB}.n_step", 100, f"{KEY}.n_step: there is no such key; did you mean 'n_steps'?"),
    (f"{JOB}.structures", [], f"{KEY}: `structures` is empty"),
    (f"{JOB}.structures", 7, f"{KEY}.structures: there is no entry 7 in `structures`; there are 2, counted from 0"),
    (f"{JOB}.structures", [0, -1], f"{KEY}.structures[1]: there is no entry -1"),
    (f"{JOB}.structures", ["bulk", "blk"], f"{KEY}.structures[1]: no structure is called 'blk'; did you mean 'bulk'?"),
    (f"{JOB}.structures", "al", f"{KEY}.structures: no structure is called 'al'; did you mean 'all'?"),
    (f"{JOB}.structures", [0.5], f"{KEY}.structures[0]: needs a whole number or a text; found 0.5"),
    (f"{JOB}.ensemble", "NVT", f"{KEY}.ensemble: needs {ENSEMBLES}; found \"NVT\"; did you mean 'nvt'?"),
    (f"{JOB}.ensemble", "npt", f"{KEY}: ensemble 'npt' needs `pressures` (bar), e.g. [0.0]"),
    (f"{JOB}.ensemble", LEFT_OUT, f"{KEY}.ensemble: is missing; legal are nve, nvt, npt"),
    (f"{JOB}.pressures", [1.0], f"{KEY}: ensemble 'nvt' has no use for `pressures`"),
    (f"{JOB}.pressures", ["a"], f'{KEY}.pressures[0]: needs a number, in bar; found "a"'),
    (f"{JOB}.temperatures", [], f"{KEY}: `temperatures` is empty: the job would have no task"),
    (f"{JOB}.temperatures", -1, f"{KEY}.temperatures: needs a number larger than 0, in K; found -1"),
    (f"{JOB}.temperatures", [300, "hot"], f'{KEY}.temperatures[1]: needs a number larger than 0, in K; found "hot"'),
    (f"{JOB}.temperatures", None, f"{KEY}.temperatures: needs a number larger than 0 or a list or an object {{…}}"),
    (f"{JOB}.temperatures", {"ramp": [300]}, f"{KEY}.temperatures.ramp: needs 2 entries; found 1"),
    (f"{JOB}.temperatures", {"ramp": [1, 2, 3]}, f"{KEY}.temperatures.ramp: needs 2 entries; found 3"),
    (f"{JOB}.temperatures", {"rampe": [1, 2]}, f"{KEY}.temperatures.rampe: there is no such key; did you mean 'ramp'?"),
    (f"{JOB}.temperatures", [[300, 600]], f"{KEY}.temperatures[0]: needs a number larger than 0, in K"),
    (f"{JOB}.temperature", 300, f"{KEY}.temperature: there is no such key; did you mean 'temperatures'?"),
    (f"{JOB}.timestep", "1fs", f'{KEY}.timestep: needs a number larger than 0, in ps; found "1fs"'),
    (f"{JOB}.dump_every", 1000, f"{KEY}: dump_every (1000) is larger than n_steps (100): no frame"),
    (f"{JOB}.tau_t", 0, f"{KEY}.tau_t: needs a number larger than 0, in ps; found 0"),
    (f"{JOB}.tau_p", "", f'{KEY}.tau_p: needs a number larger than 0, in ps; found ""'),
    ("explore.guard.max_force", -5, "explore.guard.max_force: needs a number larger than 0, in eV/Å; found -5"),
    ("explore.guard.volume_ratio", [0.5], "explore.guard.volume_ratio: needs 2 entries; found 1"),
    ("explore.guard.volume_ratio", [1.6, 0.7], "explore.guard: `volume_ratio` needs a number below 1, then one above"),
    ("explore.stop_after", 2.5, "explore.stop_after: needs a whole number larger than 0; found 2.5"),
    ("query", LEFT_OUT, "query: is missing (Which frames are calculated)"),
    ("query", [], "query: needs an object {…}; found []"),
    ("query.lower", 0.5, "query: `lower` (0.5) must be below `upper` (0.3)"),
    (
        "query.upper",
        "0.3 eV",
        "query.upper: needs a number larger than 0, in eV/Å (eV/atom for max_virial, a share for relative_force)",
    ),
    ("query.lower", LEFT_OUT, "query: `lower` missing; give both, or `target_force_error` in their place"),
    ("query", {}, "query: `lower` and `upper` missing; give both, or `target_force_error`"),
    ("query.target_force_error", 0.1, "query: `target_force_error` takes the place of `lower` and `upper`"),
    ("query.audit", 4, "query: `audit` belongs to `target_force_error`, which is not there"),
    ("query.stop_when_converged", False, "query: `stop_when_converged` belongs to `target_force_error`"),
    ("query", {"target_force_error": {}}, "query: `target_force_error` is empty"),
    ("query", {"target_force_error": {"Si": 0.1}}, "query.target_force_error: has no number for C"),
    ("query", {"target_force_error": {"Si": 0.1, "C": 0.1, "si": 1}}, "'si' is not in `type_map`; did you mean 'Si'?"),
    ("query", {"target_force_error": 0.1, "metric": "max_virial"}, '`target_force_error` needs the metric "max_force"'),
    ("query", {"target_force_error": 0.1, "coverage": 1.0}, "query.coverage"),
    ("query.Lower", 0.2, "query.Lower: there is no such key; did you mean 'lower'?"),
    ("query.metric", "maxforce", "did you mean 'max_force'?"),
    ("query.metric", "relative_force", "`relative_epsilon` (eV/Å) belongs to the metric"),
    ("query.converged_fraction", 2, "query.converged_fraction: needs a number larger than 0 and of at most 1; found 2"),
    ("query.choose", "best", 'query.choose: needs "random", "largest", "diverse" or "lookahead"; found "best"'),
    ("query.uncertainty", "comittee", "did you mean 'committee'?"),
    ("query.uncertainty", "kpu", 'train.models: found 4, but the uncertainty "kpu" needs one model; leave it out'),
    ("train.kalman_memory", 0, "train.kalman_memory: needs a number larger than 0, in GB; found 0"),
]  # fmt: skip
INIT_CASES = [
    ("structures", "POSCAR", 'structures: needs a list; found "POSCAR"'),
    ("structures", [], "structures: needs at least 1 entry; found 0"),
    ("structures.1.relex", True, "structures[1].relex: there is no such key; did you mean 'relax'?"),
    ("structures.1.scale", [], "structures[1].scale: needs at least 1 entry; found 0"),
    ("structures.1.scale", 0, "structures[1].scale: needs a number larger than 0; found 0"),
    ("structures.1.scale", [1, "b"], 'structures[1].scale[1]: needs a number larger than 0; found "b"'),
    ("structures.1.supercell", [1, 1, 1.5], "structures[1].supercell: needs 3 whole numbers"),
    ("structures.1.perturb", 5, "structures[1].perturb: needs an object {…} or null; found 5"),
    ("structures.1.perturb.copies", LEFT_OUT, "structures[1].perturb.copies: is missing"),
    (
        "structures.1.perturb.cell_fraction",
        0.5,
        "structures[1].perturb.cell_fraction: needs a number of at least 0 and",
    ),
    ("structures.1.perturb.temperature", -3, "temperature: needs a number larger than 0, in K; found -3"),
    ("structures.1.perturb.atom_distance", 0.1, "structures[1].perturb: needs `atom_distance` or `temperature`, not"),
    ("structures.1.perturb.atom_dist", 0.1, "atom_dist: there is no such key; did you mean 'atom_distance'?"),
    ("label", True, "label: needs false or a text or an object {…}; found true"),
    ("label", "turth", "label: no engine is called 'turth'; did you mean 'truth'?"),
    ("valid_fraction", 1, "valid_fraction: needs a number of at least 0 and smaller than 1; found 1"),
    ("explore", {}, "explore: there is no such key"),
]
RESOURCE_CASES = [
    ("labels", {}, "labels: there is no such key; did you mean 'label'?"),
    ("default", "local", "default: needs an object {…}"),
    (
        "default.executor",
        "locl",
        'default.executor: needs "slurm", "local" or "inline"; found "locl"; did you mean \'local\'?',
    ),
    ("default.workers", 0, "default.workers: needs a whole number larger than 0; found 0"),
    ("default.env.A", 1, 'default.env.A: needs a text; found 1; write "1", in quotes'),
    (
        "default.executor",
        "pbs",
        'default.executor: needs "slurm", "local" or "inline"; found "pbs"; pbs is not spoken here: within one of its '
        'jobs, "local" starts `workers` tasks side by side',
    ),
    ("default.env", ["A=1"], "default.env: needs an object {…}"),
    ("default.command", "", "default.command: a command needs at least the name of a program"),
    ("default.command", "mpirun 'pw.x", "default.command: cannot be split into words"),
    ("default.command", ["pw.x"], "default.command: needs a text or null"),
    ("default.modules", "vasp", 'default.modules: needs a list; found "vasp"'),
    ("default.max_failed_fraction", 5, "max_failed_fraction: needs a number of at least 0 and of at most 1; found 5"),
    ("default.retries", -1, "default.retries: needs a whole number of at least 0; found -1"),
    ("query", {"command": "srun -n 1 al"}, "query.command: the query is our own program, and takes no command; take"),
    ("label.timeout_min", [], "label.timeout_min: needs at least 1 entry; found 0"),
    ("label.timeout_min", [5, -1], "label.timeout_min[1]: needs a number larger than 0, in min; found -1"),
    ("label.timeout_min", "1h", 'label.timeout_min: needs a number larger than 0, in min; found "1h"'),
]
CASES = [
    (kind, base, *case)
    for kind, base, cases in (
        (RunParams, RUN, RUN_CASES),
        (InitBulkParams, INIT, INIT_CASES),
        (Resources, RESOURCE, RESOURCE_CASES),
    )
    for case in cases
]
TEXTS = [
    (b"", "is empty; a JSON object was expected"),
    (b"  \n\n", "is empty; a JSON object was expected"),
    (b"[]", "needs an object {…} at top level; found a list"),
    (b"3", "needs an object {…} at top level; found a number"),
    (b"null", "needs an object {…} at top level; found null"),
    (b'{"seed": 1,}', ":1:12: the comma before this } is one too many"),
    (b'{"a": [1,\n]}', ":2:1: the comma before this ] is one too many"),
    (b'{\n "seed": 1\n "a": 2}', ":3:2: a comma, or a closing bracket, is missing before this"),
    (b'{"seed" 1}', ":1:9: a colon is missing between key and value"),
    (b'{"seed": 1', "the file ends too early; a closing } or ] is missing"),
    (b'{"seed": 1}}', ":1:12: the file goes on after its last bracket"),
    (b'{"seed: 1}', "this text has no closing quote"),
    (b'{"seed": "a\nb"}', ":1:12: this text goes over the end of its line"),
    (b"{'seed': 1}", ":1:2: JSON has no '; write double quotes"),
    (b"{seed: 1}", ":1:2: a key in double quotes was expected here"),
    (b'{"a": True}', ":1:7: JSON has no True; write true"),
    (b'{"a": None}', ":1:7: JSON has no None; write null"),
    (b'{"a": }', ":1:7: a value was expected here"),
    (b'{"a": "C:\\dir"}', "a backslash in a text must be doubled"),
    (b'{"a": NaN}', ":1:7: NaN is not a number in JSON"),
    (b'// text\n{"a": -Infinity}', ":2:7: -Infinity is not a number in JSON"),
    (b'{"a": 1e999}', "a number that is not usable (1e999 is too large)"),
    (b'{"a": 1, /* never closed\n}', ":1:10: this comment is never closed by */"),
    (b'{"seed": 1, "seed": 2}', '"seed" stands twice in one object'),
    (b'{"a": {"b": 1,\n"b": 2}}', '"b" stands twice in one object (the key stands in lines 1, 2)'),
    ('{"seed": "ü"}'.encode("latin-1"), "is not UTF-8 text (byte 0xfc at 10); save it as UTF-8"),
    ('{"seed": 1}'.encode("utf-16"), "is not UTF-8 text (byte 0xff at 0)"),
    (b'{"a": "\\ud800"}', "holds half of a \\ud800 pair"),
    (b"[" * 100_000, "is nested too deeply"),
    (b'{"seed": ' + b"9" * 5000 + b"}", "holds a number that is not usable"),
    (b'{"seed": \x00}', "a value was expected here"),
]


def _spoil(base: dict, path: str, value: object) -> dict:
    spoilt = copy.deepcopy(base)
    place, keys = spoilt, [int(key) if key.isdecimal() else key for key in path.split(".")]
    for key in keys[:-1]:
        place = place[key]
    if value is LEFT_OUT:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return spoilt


def _refusal(path: Path, kind: type) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_params(path, kind)
    assert caught.value.exit_code == 2
    for problem in caught.value.problems:
        assert 1 <= str(problem).count("\n") + 1 <= 3
        assert str(path) in str(problem)
        for jargon in ("pydantic", "validation error", "Input should", "constrained", "function-", "tagged-union"):
            assert jargon not in str(problem)
    return caught.value


def test_there_are_a_hundred_and_all_differ():
    distinct = {json.dumps([kind.__name__, path, repr(value)]) for kind, _, path, value, _ in CASES}
    assert len(distinct) == len(CASES)
    assert len(distinct) + len({text for text, _ in TEXTS}) >= 150


@pytest.mark.parametrize(("kind", "base"), [(RunParams, RUN), (InitBulkParams, INIT), (Resources, RESOURCE)])
def test_the_inputs_that_are_spoilt_are_sound(kind, base, tmp_path):
    file = tmp_path / "param.json"
    file.write_text(json.dumps(base))
    load_params(file, kind)


@pytest.mark.parametrize(("kind", "base", "path", "value", "says"), CASES)
def test_a_wrong_value_is_told_with_its_key(kind, base, path, value, says, tmp_path):
    file = tmp_path / "param.json"
    file.write_text(json.dumps(_spoil(base, path, value)))
    error = _refusal(file, kind)
    assert says in str(error)
    assert len(error.problems) == 1


@pytest.mark.parametrize(("text", "says"), TEXTS)
def test_a_text_that_is_no_json_is_told_with_its_place(text, says, tmp_path):
    file = tmp_path / "param.json"
    file.write_bytes(text)
    assert says in str(_refusal(file, RunParams))
