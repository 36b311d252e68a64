"""``al check`` sees before the queue what would fail after it: every file, every program, in both files at once."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from rich.console import Console
from small_run import INIT, RESOURCE, RUN, merge

from al_driver.data.dataset import write_dataset
from al_driver.engines.ase import AseEngine
from al_driver.errors import ConfigError
from al_driver.live import print_report
from al_driver.workflow.report import Report
from al_driver.workflow.verbs import check, init_bulk, run

pytestmark = pytest.mark.needs("dp", "lmp")
DATA = {"init_data": ["data"], "valid_data": []}
TEMPLATE = """
{%- macro again(n) %}{{ again(n + 1) }}{% endmacro %}
{{ again(1) }} {{ models }} {{ data_file }} {{ trajectory_file }} {{ dump_every }} {{ n_steps }} {{ deviation_file }}
{{ temperature }}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with POSCAR, labelled data and a resource file."""
    atoms = bulk("Si", cubic=True, a=5.431)
    atoms.write(tmp_path / "POSCAR", format="vasp")
    atoms.info["energy"], atoms.arrays["forces"] = -34.0, np.zeros((8, 3))
    write_dataset(tmp_path / "data", [atoms, atoms], ["Si"])
    write_dataset(tmp_path / "germanium", [bulk_labelled("Ge")], ["Ge"])
    (tmp_path / "init.json").write_text(json.dumps(INIT))
    (tmp_path / "resource.json").write_text(json.dumps(RESOURCE))
    (tmp_path / "junk").write_text("no structure, no data\n")
    (tmp_path / "template.in").write_text(TEMPLATE)
    return tmp_path


def bulk_labelled(symbol: str) -> Any:
    atoms = bulk(symbol, "diamond", cubic=True, a=5.6)
    atoms.info["energy"], atoms.arrays["forces"] = -30.0, np.zeros((8, 3))
    return atoms


def check_param(folder: Path, changes: dict[str, Any], resource: dict[str, Any] | None = None) -> Report:
    (folder / "param.json").write_text(json.dumps(merge(RUN | DATA, changes)))
    (folder / "resource.json").write_text(json.dumps(merge(RESOURCE, resource or {})))
    return check(folder / "param.json", folder / "resource.json")


def told(report: Report, severity: str = "error") -> list[str]:
    return [str(problem) for problem in report.problems if problem.severity == severity]


def test_a_sound_run_has_no_problem_and_a_plan(folder: Path) -> None:
    report = check_param(folder, {})
    assert report.problems == []
    assert report.plan[0].startswith("0/train: 2 trainings, each: ")
    assert report.plan[1:3] == [
        "0/explore: 1 trajectory, each: lmp -in in.lammps -log none -nocite",
        "  si (8 atoms), nvt, 100 K, 40 steps of 0.001 ps",
    ]
    assert report.plan[3].startswith("0/label: at most 4 frames, each: lmp -in")
    assert {"train/input.json", "explore/in.lammps", "label/in.lammps"} <= set(report.inputs)
    assert any("numb_steps" in line or "systems" in line for line in report.set_by_driver)
    assert not (folder / "work").exists()


def test_a_label_input_is_written_once_and_its_positions_are_not_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    write = AseEngine.write_inputs
    monkeypatch.setattr(AseEngine, "write_inputs", lambda *given: written.append(given) or write(*given))
    label = {"engine": "ase", "calculator": "ase.calculators.lj.LennardJones", "arguments": {"rc": 4.0}}
    (folder / "param.json").write_text(json.dumps(RUN | DATA | {"label": label}))
    report = check(folder / "param.json", folder / "resource.json")
    assert len(written) == 1
    printed = io.StringIO()
    print_report(report, Console(file=printed, width=120))
    shown = printed.getvalue().partition("label/calculation.json")[2]
    assert '"structure": "Si8, 8 atoms, cell vectors 5.4' in shown
    assert '"pbc"' in report.inputs["label/calculation.json"] and '"pbc"' not in shown and " more" in shown


STRUCTURE = {"path": "POSCAR", "name": "si"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"init_data": ["dta"]}, ["dta: init_data[0]: does not exist; did you mean 'data'?"]),
        ({"init_data": ["junk"]}, ["junk: init_data[0]: is a file; say what it is by `format`"]),
        ({"init_data": [{"path": "junk", "format": "nonsense"}]}, ["init_data[0]: dpdata knows no format 'nonsense'"]),
        ({"init_data": [{"path": "junk", "format": "vasp/outcar"}]}, ["junk: init_data[0]: cannot be read as vasp"]),
        ({"init_data": ["germanium"]}, ["Ge8_novirial: init_data[0]: has Ge, which type_map ['Si'] lacks"]),
        ({"valid_data": ["."], "init_data": ["data"]}, ["germanium/Ge8_novirial: valid_data[0]: has Ge, which"]),
        ({"init_data": [{"init_bulk": "junk"}]}, ["junk:1:1: init_data[0].init_bulk: a value was expected here"]),
        ({"init_data": [{"init_bulk": "int.json"}]}, ["int.json: init_data[0].init_bulk: does not exist"]),
        ({"explore": {"structures": [{"path": "junk", "name": "si"}]}}, ["junk: explore.structures[0].path: cannot"]),
        ({"explore": {"structures": [STRUCTURE | {"path": "P*R", "supercell": [2000, 2000, 2000]}]}},
         ["explore.structures[0].supercell: (2000, 2000, 2000) of 8 atoms makes 6.4e+10; at most 1,000,000 were"]),
        ({"explore": {"template": "template.in"}}, ["template.in: explore.template: an expression fails: maximum rec"]),
        ({"explore": {"template": "none.in"}}, ["none.in: explore.template: cannot read the template: No such file"]),
        ({"train": {"input": "junk"}}, ["junk:1:1: train: a value was expected here"]),
        ({"train": {"input": "none.json"}}, ["none.json: train: does not exist"]),
        ({"train": {"input": {"learning_rate": 5}}}, ["train.input.learning_rate: needs an object; found 5"]),
        ({"label": {"pair_coeff": ["* * none.sw Si"]}}, ["label.pair_coeff[0]: potential file 'none.sw' is neither"]),
        ({"init_data": ["dta"], "label": {"files": ["none.sw"]}}, ["none.sw", "dta"]),
    ],
)  # fmt: skip
def test_what_is_missing_or_cannot_be_read_is_named(folder: Path, changes: dict[str, Any], expected: list[str]) -> None:
    messages = told(check_param(folder, changes))
    assert len(messages) == len(expected)
    for message, text in zip(messages, expected, strict=True):
        assert text in message


def damage_array(folder: Path) -> None:
    np.save(folder / "set.000/force.npy", np.zeros((2, 21)))


def cut_short(folder: Path) -> None:
    file = folder / "set.000/coord.npy"
    file.write_bytes(file.read_bytes()[:-40])


def lose_a_frame(folder: Path) -> None:
    np.save(folder / "set.000/energy.npy", np.zeros(1))


def lose_types(folder: Path) -> None:
    (folder / "type_map.raw").unlink()


def lose_sets(folder: Path) -> None:
    (folder / "set.000").rename(folder / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (damage_array, "set.000/force.npy: init_data[0]: has shape (2, 21); expected (frames, 24)"),
        (cut_short, "set.000/coord.npy: init_data[0]: cannot be read ("),
        (lose_a_frame, "set.000: init_data[0]: the numbers of frames disagree: coord 2, force 2, energy 1, box 2"),
        (lose_types, "type.raw and type_map.raw do not name its atoms (No such file"),
        (lose_sets, "init_data[0]: holds no set.* folder"),
    ],
)
def test_a_damaged_dataset_is_named(folder: Path, damage: Callable[[Path], None], text: str) -> None:
    damage(folder / "data/Si8_novirial")
    (message,) = told(check_param(folder, {}))
    assert text in message


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"label": {"command": "mpirun -np 2 lmpp"}, "default": {"env": {"PATH": "{bin}:/bin"}}},
         ["label.command (resource file): program 'lmpp' is neither on the PATH nor beside this Python; install it"]),
        ({"explore": {"command": "env OMP_NUM_THREADS=1 nice -n 5 lmpp"}},
         ["explore.command (resource file): program 'lmpp' is neither"]),
        ({"explore": {"command": "timeout 60s"}}, ["explore.command (resource file): 'timeout 60s' names no program"]),
        ({"explore": {"command": "bin/lmp"}}, ["'bin/lmp' is a relative path, but each task runs in its own folder"]),
        ({"explore": {"command": "/opt/none/lmp"}, "label": {"modules": ["x"], "command": "/opt/none/pw.x"}},
         ["/opt/none/lmp does not exist or cannot be executed", "/opt/none/pw.x does not exist or cannot be"]),
        ({"train": {"command": "dp --pt"}}, ["train.command (resource file): its last word, '--pt', is an option"]),
        ({"train": {"command": "nodp"}}, ["train.command (resource file): its last word, 'nodp', is neither"]),
        ({"train": {"command": "nice -n 5 dp"}}, []),
        ({"label": {"source": ["env.sh"]}}, ["env.sh: label.source[0] (resource file): does not exist"]),
    ],
)  # fmt: skip
def test_programs_are_looked_for_behind_launchers(folder: Path, resource: dict[str, Any], expected: list[str]) -> None:
    for name in ("mpirun", "nice", "timeout", "env"):
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text("#!/bin/sh\n")
        (folder / "bin" / name).chmod(0o755)
    resource = json.loads(json.dumps(resource).replace("{bin}", str(folder / "bin")))
    messages = told(check_param(folder, {}, resource))
    assert len(messages) == len(expected)
    for message, text in zip(messages, expected, strict=True):
        assert text in message


def test_what_modules_may_bring_is_a_warning(folder: Path) -> None:
    report = check_param(folder, {}, {"explore": {"command": "mpirun_of_nobody -np 2 lmp", "modules": ["mpi"]}})
    assert told(report) == []
    (warning,) = told(report, "warning")
    assert warning.startswith("explore.command (resource file): program 'mpirun_of_nobody' is neither")
    assert warning.endswith("that is left to what is loaded or sourced")


def test_dp_is_looked_for_where_its_tasks_find_it(folder: Path) -> None:
    (folder / "own").mkdir()
    (folder / "own/owndp").write_text(f"#!{sys.executable}\n")
    (folder / "own/owndp").chmod(0o755)
    resource = {"train": {"command": "owndp", "env": {"PATH": str(folder / "own")}}}
    assert told(check_param(folder, {}, resource)) == []


def test_validation_data_that_will_never_be_are_an_error(folder: Path) -> None:
    (folder / "init.json").write_text(json.dumps(INIT | {"valid_fraction": 0}))
    report = check_param(
        folder, {"init_data": [{"init_bulk": "init.json"}], "valid_data": [{"init_bulk": "init.json"}]}
    )
    (error,) = told(report)
    assert error.startswith("valid_data[0].init_bulk: valid_fraction: holds nothing back (valid_fraction 0); raise it")
    (warning,) = told(report, "warning")
    assert warning.startswith(
        f"init_data[0]: not made yet; make it first: al init_bulk {folder / 'init.json'} {folder}/res"
    )


def test_validation_data_may_be_all_that_an_init_bulk_makes_where_nothing_of_it_trains(folder: Path) -> None:
    (folder / "valid.json").write_text(json.dumps(INIT | {"valid_fraction": 0, "work_dir": "valid"}))
    report = check_param(folder, {"valid_data": [{"init_bulk": "valid.json"}]})
    assert told(report) == []
    (warning,) = told(report, "warning")
    assert warning.startswith(
        f"valid_data[0]: not made yet; make it first: al init_bulk {folder / 'valid.json'} {folder}/res"
    )
    (folder / "germanium").rename(folder / "dataset")
    (folder / "valid").mkdir()
    (folder / "dataset").rename(folder / "valid/dataset")
    (error,) = told(check_param(folder, {"valid_data": [{"init_bulk": "valid.json"}]}))
    assert "valid/dataset/Ge8_novirial: valid_data[0].init_bulk: has Ge, which type_map" in error
    by_path = {"init_data": ["valid/dataset"], "valid_data": [{"init_bulk": "valid.json"}]}
    assert any("holds nothing back (valid_fraction 0)" in message for message in told(check_param(folder, by_path)))


@pytest.mark.parametrize("made", ["dataset", "valid"])
def test_what_makes_a_folder_that_is_not_there_is_named(folder: Path, made: str) -> None:
    (error,) = told(check_param(folder, {"valid_data": [f"init/{made}"]}))
    assert error == (
        f"{folder}/init/{made}: valid_data[0]: is not there yet; "
        f"make it first: al init_bulk {folder}/init.json {folder}/resource.json\n"
        '  Where {"init_bulk": "init.json"} stands in its place, `al check` looks into that file too'
    )


def test_a_work_folder_is_no_dataset_since_it_holds_frames_twice_and_those_held_back(folder: Path) -> None:
    for place in ("dataset", "label/dataset"):
        write_dataset(folder / "first/init" / place, [bulk_labelled("Si")], ["Si"])
    (folder / "first/init/history.json").write_text("{}")
    told_why = "with every label and those held back; name first/init/dataset in its place"
    for given, what in (("first/init", "is a work folder"), ("first", "holds the work folder first/init")):
        (error,) = told(check_param(folder, {"init_data": [given]}))
        assert error.replace(f"{folder}/", "") == f"{given}: init_data[0]: {what}, {told_why}"
    (error,) = told(check_param(folder, {"valid_data": ["first/init"]}))
    assert error.replace(f"{folder}/", "").endswith("held back; `al gather first/init -o OUT` in its place")
    assert told(check_param(folder, {"init_data": ["first/init/dataset"]})) == []


@pytest.mark.parametrize(("factor", "volume"), [(2, "8"), (0.5, "0.125")])
def test_a_scale_far_from_one_is_a_warning(folder: Path, factor: float, volume: str) -> None:
    structures = [{"path": "POSCAR", "scale": [1.0, factor]}]
    (folder / "init.json").write_text(json.dumps(INIT | {"structures": structures}))
    report = check(folder / "init.json", folder / "resource.json")
    assert told(report) == []
    (warning,) = told(report, "warning")
    assert warning.startswith(
        f"structures[0].scale[1]: {factor:g} makes the volume {volume} times as large; factors of"
    )


def test_a_wrong_type_map_is_told_once_with_the_number_of_files(folder: Path) -> None:
    write_dataset(folder / "more", [bulk_labelled("Ge")], ["Ge"])
    report = check_param(folder, {"init_data": ["data", "germanium", "more"], "valid_data": ["junk.npy"]})
    lines = str(ConfigError(report.errors)).splitlines()
    key = f"{folder}/germanium/Ge8_novirial: init_data[1]: has Ge, which type_map ['Si'] lacks"
    assert lines[0] == f"{key}; add it there, or name another file; so does 1 more file"
    assert len(lines) == 2 and "junk.npy: valid_data[0]: does not exist" in lines[1]


@pytest.mark.parametrize(
    ("factor", "what"), [(97, "; 97 % is 0.97"), (3, ", near 1, e.g. [0.96, 1.0, 1.04]"), (0.04, ", near 1, e.g.")]
)
def test_a_scale_that_is_no_factor_is_refused(folder: Path, factor: float, what: str) -> None:
    structures = [{"path": "POSCAR", "scale": [1.0, factor]}]
    (folder / "init.json").write_text(json.dumps(INIT | {"structures": structures}))
    (error,) = told(check(folder / "init.json", folder / "resource.json"))
    assert error.startswith(f"structures[0].scale[1]: {factor:g} is a factor of the cell vectors{what}")


def test_atoms_that_are_moved_too_far_are_a_warning(folder: Path) -> None:
    structures = [{"path": "POSCAR", "perturb": {"copies": 2, "atom_distance": distance}} for distance in (0.1, 5)]
    (folder / "init.json").write_text(json.dumps(INIT | {"structures": structures}))
    report = check(folder / "init.json", folder / "resource.json")
    warning = "structures[1].perturb.atom_distance: 5 Å takes atoms as far as their neighbours; 0.05 is common"
    assert told(report, "warning") == [warning]


def test_a_pressure_in_other_units_is_a_warning(folder: Path) -> None:
    job = {**RUN["explore"]["iterations"][0][0], "ensemble": "npt"}
    job["pressures"] = [0, 1.01325, 10, -0.5, 1e4, 1e9]
    report = check_param(folder, {"explore": {"iterations": [[job]]}})
    key = "explore.iterations[0].jobs[0].pressures"
    assert told(report) == []
    assert told(report, "warning") == [
        f"{key}[2]: 10 bar are 0.001 GPa; no solid feels that, and 10 GPa are 100000 bar",
        f"{key}[3]: -0.5 bar are -5e-05 GPa; no solid feels that, and -0.5 GPa are -5000 bar",
        f"{key}[5]: 1e+09 bar are 100000 GPa; 1e+09 Pa are 10000 bar",
    ]


def test_a_timestep_in_other_units_is_a_warning(folder: Path) -> None:
    job = {**RUN["explore"]["iterations"][0][0], "timestep": 1.0}
    report = check_param(folder, {"explore": {"iterations": [[job]]}})
    assert told(report) == []
    assert told(report, "warning") == [
        "explore.iterations[0].jobs[0].timestep: 1 ps is a long step; 0.001 is common; 1 fs are 0.001 ps"
    ]


def test_a_window_in_other_units_is_a_warning(folder: Path) -> None:
    report = check_param(folder, {"query": {"lower": 100, "upper": 500}})
    assert told(report, "warning") == [
        "query.lower: 100 eV/Å is beyond any force that models can be asked for; 100 meV/Å are 0.1"
    ]
    assert told(check_param(folder, {"query": {"lower": 0.1, "upper": 500}}), "warning") == []


def test_a_reference_that_is_wrong_itself_is_not_compared_with_that_of_the_data(folder: Path) -> None:
    initial = {**INIT, "label": {"engine": "ase", "calculator": "ase.calculators.emt.EMT"}}
    (folder / "init.json").write_text(json.dumps(initial))
    label = {"engine": "ase", "calculator": "ase.calculators.emt.EMTT"}
    param = RUN | {"init_data": [{"init_bulk": "init.json"}], "valid_data": [], "label": label}
    (folder / "param.json").write_text(json.dumps(param))
    (error,) = told(check(folder / "param.json", folder / "resource.json"))
    assert error.startswith("label") and "EMTT" in error


def test_swapped_files_are_told_in_one_line(folder: Path) -> None:
    (folder / "param.json").write_text(json.dumps(RUN | DATA))
    roles = {"train": {"command": "dp"}, "explore": {"command": "lmp"}, "label": {"command": "lmp"}}
    for param, more in (("param.json", {}), ("init.json", {}), ("param.json", roles), ("init.json", roles)):
        (folder / "resource.json").write_text(json.dumps({"default": {"executor": "local"}} | more))
        for verb in (check, run, init_bulk):
            with pytest.raises(ConfigError) as refused:
                verb(folder / "resource.json", folder / param)
            second = folder / param
            swapped = f"{folder}/resource.json and {second} are swapped: the param file, {second}, comes first."
            assert str(refused.value) == swapped


def test_one_file_given_twice_is_told(folder: Path) -> None:
    for name in ("init.json", "resource.json"):
        with pytest.raises(ConfigError, match=rf"{name} is given twice: the param file comes first"):
            check(folder / name, folder / name)


def test_a_param_file_of_another_command_is_told_in_one_line(folder: Path) -> None:
    (folder / "param.json").write_text(json.dumps(RUN | DATA))
    with pytest.raises(ConfigError) as refused:
        run(folder / "init.json", folder / "resource.json")
    text = "init.json is for `al init_bulk`, since it has `structures`; `al run` needs `explore`."
    assert str(refused.value) == f"{folder}/{text}"
    with pytest.raises(ConfigError) as refused:
        init_bulk(folder / "param.json", folder / "resource.json")
    text = "param.json is for `al run`, since it has `explore`; `al init_bulk` needs `structures`."
    assert str(refused.value) == f"{folder}/{text}"


def test_what_will_make_the_data_is_checked_too_and_once(folder: Path) -> None:
    (folder / "init.json").write_text(json.dumps(INIT | {"structures": ["POSCR"]}))
    source = [{"init_bulk": "init.json"}]
    (error,) = told(check_param(folder, {"init_data": source, "valid_data": source}))
    assert error.startswith(f"{folder / 'POSCR'}: init_data[0].init_bulk: structures[0]: does not exist; did you mean")
    (folder / "init.json").write_text(json.dumps(INIT | {"label": False}))
    (error,) = told(check_param(folder, {"init_data": source}))
    assert error.startswith("init_data[0].init_bulk: label: makes structures only (`label` is false)")


def test_keys_and_files_of_both_files_are_told_at_once(folder: Path) -> None:
    changes = {"trian": 1, "query": {"max_selct": 3}, "init_data": ["dta"], "explore": {"guard": {"max_force": -1}}}
    resource = {"explore": {"command": "nolmp", "worker": 2}, "label": {"source": ["env.sh"]}}
    with pytest.raises(ConfigError) as refused:
        check_param(folder, changes, resource)
    text = str(refused.value)
    for expected in (
        "param.json: trian: there is no such key",
        "param.json: query.max_selct: there is no such key; did you mean 'max_select'?",
        "param.json: explore.guard.max_force",
        "resource.json: explore.worker: there is no such key; did you mean 'workers'?",
        "dta: init_data[0]: does not exist",
        "explore.command (resource file): program 'nolmp' is neither",
        "env.sh: label.source[0] (resource file): does not exist",
    ):
        assert expected in text
    assert len(refused.value.problems) == 7


@pytest.mark.parametrize("changes", [{"seed": "x"}, {"label": "thruth"}, {"query": None}])
def test_missing_files_are_told_where_keys_leave_nothing_to_check(folder: Path, changes: dict[str, Any]) -> None:
    named = {
        "init_data": ["dta", {"init_bulk": "int.json"}],
        "valid_data": [{"path": "OUTCAR"}],
        "explore": RUN["explore"] | {"structures": ["POSCR"], "template": "in.md"},
        "engines": {"pbe": {"engine": "qe", "input": "scf.in", "pseudopotentials": {"Si": "Si.upf"}}},
    }
    (folder / "param.json").write_text(json.dumps(RUN | DATA | named | changes))
    with pytest.raises(ConfigError) as refused:
        check(folder / "param.json", folder / "resource.json")
    text = str(refused.value)
    (key,) = changes
    assert f"param.json: {key}: " in text
    for expected in (
        "dta: init_data[0]: does not exist; did you mean 'data'?",
        "int.json: init_data[1].init_bulk: does not exist; did you mean 'init.json'?",
        "OUTCAR: valid_data[0].path: does not exist",
        "POSCR: explore.structures[0]: does not exist; did you mean 'POSCAR'?",
        "in.md: explore.template: does not exist",
        "scf.in: engines.pbe.input: does not exist",
        "Si.upf: engines.pbe.pseudopotentials.Si: does not exist",
    ):
        assert expected in text
    assert sum("does not exist" in problem.message for problem in refused.value.problems) == 7


def test_a_file_that_is_no_json_hides_nothing_of_the_other(folder: Path) -> None:
    (folder / "param.json").write_text(json.dumps(RUN | {"init_data": ["dta"], "valid_data": []}))
    (folder / "resource.json").write_text("{")
    with pytest.raises(ConfigError) as refused:
        check(folder / "param.json", folder / "resource.json")
    assert [problem.file.name for problem in refused.value.problems if problem.file] == ["resource.json:1:2", "dta"]
    (folder / "resource.json").write_text('{"label": {"source": ["env.sh"]}}')
    (folder / "param.json").write_text("{")
    with pytest.raises(ConfigError, match=r"(?s)param\.json:1:2: .*env\.sh: label\.source\[0\]"):
        check(folder / "param.json", folder / "resource.json")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"structures": ["junk"]}, "junk: structures[0]: cannot be read by ASE"),
        ({"structures": ["POSCAR", {"path": "POSCAR", "supercell": [900, 900, 900]}]}, "structures[1].supercell: (900"),
        ({"type_map": ["Ge"]}, "label.pair_coeff"),
    ],
)
def test_init_bulk_reads_every_structure(folder: Path, changes: dict[str, Any], text: str) -> None:
    (folder / "init.json").write_text(json.dumps(INIT | changes))
    assert any(text in message for message in told(check(folder / "init.json", folder / "resource.json")))


def test_without_files_only_keys_and_values_are_checked(folder: Path) -> None:
    (folder / "param.json").write_text(json.dumps(RUN | {"init_data": ["dta"]}))
    assert check(folder / "param.json", folder / "resource.json", no_files=True).problems == []


def test_the_script_of_each_slurm_role_is_shown_and_keys_without_effect_are_told(folder: Path) -> None:
    label = {"executor": "slurm", "partition": "cpu", "timeout_min": [30, 60], "workers": 4, "command": "no-such-code"}
    report = check_param(folder, {}, {"label": label, "explore": {"partition": "gpu"}})
    assert [name for name in report.inputs if name.endswith("submit.sh")] == ["label/submit.sh"]
    assert "#SBATCH --partition=cpu\n" in report.inputs["label/submit.sh"]
    assert "#SBATCH --time=30\n" in report.inputs["label/submit.sh"]
    assert told(report) == []
    warnings = [text for text in told(report, "warning") if "sbatch" not in text]
    assert warnings == [
        'explore.partition (resource file): has no effect with "executor": "local"; set "slurm", or take it out',
        "label.workers (resource file): has no effect with SLURM; tasks side by side within a job are `parallel_tasks`",
        "label.command (resource file): program 'no-such-code' is neither on the PATH nor beside this Python; "
        "the nodes of the cluster must have it",
    ]


def test_without_slurm_a_check_warns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("al_driver.workflow.check_programs.find_program", lambda name: None)
    report = check_param(folder, {}, {"label": {"executor": "slurm"}})
    found = "label.executor (resource file): sbatch is not found: SLURM is not here; run al where jobs are submitted"
    assert told(report, "warning") == [found]
