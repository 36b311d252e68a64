"""A user's own LAMMPS input: what it must use, what it may not hold, and that all of it is said before a run."""

from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk

from al_driver.errors import ConfigError
from al_driver.explorers.lammps import LammpsExplorer
from al_driver.explorers.lammps_template import VARIABLES
from al_driver.explorers.sweep import make_trajectories, read_entries

SOUND = """# run this; shell and python are words like others
units metal
boundary {{ boundary }}
read_data {{ data_file }}
pair_style deepmd {{ models | join(" ") }} out_freq {{ dump_every }} out_file {{ deviation_file }}
pair_coeff * * {{ type_map | join(" ") }}
velocity all create {{ temperature }} {{ seed }}
timestep {{ timestep }}
{{ dynamics }}
{{ guards }}
dump 1 all custom {{ dump_every }} {{ trajectory_file }} id type x y z fx fy fz
run {{ n_steps }}
"""
JOB = {"structures": "all", "ensemble": "nvt", "temperatures": 300, "n_steps": 100}


def make(folder: Path, template: str | None = SOUND, *jobs: dict[str, Any], **keys: Any) -> LammpsExplorer:
    ase.io.write(folder / "POSCAR", bulk("SiC", "zincblende", 4.36))
    content = {"explorer": "lammps", "structures": ["POSCAR"], "iterations": [[JOB | job for job in jobs or ({},)]]}
    if template is not None:
        (folder / "own.in").write_text(template)
        content["template"] = "own.in"
    return LammpsExplorer.model_validate(content | keys, context={"base": folder})


def problems(explorer: LammpsExplorer, relative: bool = False) -> list[str]:
    return [f"{problem.severity}: {problem}" for problem in explorer.check(["Si", "C"], relative)]


def rendered(explorer: LammpsExplorer, folder: Path, models: int = 2, epsilon: float | None = None) -> str:
    structures = read_entries(explorer, ["Si", "C"])
    trajectory = make_trajectories(explorer, explorer.iterations[0], structures, seed=1, iteration=0)[0]
    names = [f"model.{index}" for index in range(models)]
    explorer.write_inputs(trajectory, ["Si", "C"], names, folder, relative_epsilon=epsilon)
    return (folder / "in.lammps").read_text()


def test_a_sound_template_has_no_problem(tmp_path: Path) -> None:
    assert problems(make(tmp_path)) == []
    npt = {"ensemble": "npt", "pressures": [0, 1e4], "tau_p": 0.5, "tau_t": 0.2, "timestep": 0.002}
    assert problems(make(tmp_path, SOUND, npt, {"temperatures": {"ramp": [300, 900]}})) == []


def test_every_documented_variable_can_be_used(tmp_path: Path) -> None:
    """The documentation and the values are one list."""
    text = SOUND + "".join(f"# {{{{ {name} }}}}\n" for name in VARIABLES)
    assert problems(make(tmp_path, text)) == []


@pytest.mark.parametrize("name", ["models", "data_file", "trajectory_file", "dump_every", "n_steps", "deviation_file"])
def test_what_it_must_use(tmp_path: Path, name: str) -> None:
    text = SOUND.replace(f"{{{{ {name} }}}}", "x").replace(f'{{{{ {name} | join(" ") }}}}', "x")
    (found,) = problems(make(tmp_path, text))
    assert found.startswith("error") and f"own.in: template: does not use {{{{ {name} }}}}" in found


def test_a_comment_is_no_use(tmp_path: Path) -> None:
    """Lesson 13, for jinja2's comments."""
    (found,) = problems(make(tmp_path, SOUND.replace("run {{ n_steps }}", "run 10 {# {{ n_steps }} #}")))
    assert "does not use {{ n_steps }}" in found


def test_relative_deviations_need_their_epsilon(tmp_path: Path) -> None:
    (found,) = problems(make(tmp_path), relative=True)
    assert "does not use {{ relative_epsilon }}" in found


def test_guards_left_out_are_a_warning(tmp_path: Path) -> None:
    (found,) = problems(make(tmp_path, SOUND.replace("{{ guards }}\n", "")))
    assert found.startswith("warning") and "does not use {{ guards }}" in found


@pytest.mark.parametrize(
    ("job", "key"),
    [
        ({"timestep": 0.002}, "timestep"),
        ({"tau_t": 0.2}, "tau_t"),
        ({"ensemble": "npt", "pressures": [0, 1e4]}, "pressures"),
        ({"ensemble": "npt", "pressures": 0, "tau_p": 0.5}, "tau_p"),
        ({"temperatures": {"ramp": [300, 900]}}, "temperatures.ramp"),
    ],
)
def test_a_key_that_the_template_does_not_use_would_repeat_equal_runs(
    tmp_path: Path, job: dict[str, Any], key: str
) -> None:
    own = SOUND.replace("{{ dynamics }}", "fix 1 all nvt temp {{ temperature }} 300 0.1").replace(
        "{{ timestep }}", "1e-3"
    )
    found = [line for line in problems(make(tmp_path, own, job)) if f"iterations[0].jobs[0].{key}: sets" in line]
    assert len(found) == 1 and "the template own.in does not use" in found[0]


def test_jobs_of_several_ensembles_need_it(tmp_path: Path) -> None:
    own = SOUND.replace("{{ dynamics }}", "fix 1 all nve")
    found = problems(make(tmp_path, own, {"ensemble": "nve"}, {}))
    assert any("jobs ask for nve, nvt, but it uses neither" in line for line in found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("shell rm -rf x", "the command 'shell rm -rf x' may run other programs"),
        ('{{ "sh" ~ "ell" }} rm x', "the command 'shell rm x' may run other programs"),
        ("python f input 1", "the command 'python f input 1'"),
        ("include other.in", "the command 'include other.in'"),
        ("run {{ n_step }}", "unknown variable 'n_step'; known are boundary, data_file"),
        ("{% if %}", "line 13: "),
        ("{{ ''.__class__ }}", "is unsafe"),
    ],
)
def test_what_it_may_not_hold(tmp_path: Path, line: str, message: str) -> None:
    explorer = make(tmp_path, SOUND + line + "\n")
    (found,) = problems(explorer)
    assert found.startswith("error") and "own.in: template: " in found and message in found
    with pytest.raises(ConfigError):
        rendered(explorer, tmp_path)
    assert not (tmp_path / "structure.data").exists()


def test_commands_can_be_allowed(tmp_path: Path) -> None:
    explorer = make(tmp_path, SOUND + "shell ls\n", allow_commands=True)
    assert problems(explorer) == [] and "shell ls" in rendered(explorer, tmp_path)


def test_a_template_that_is_not_there(tmp_path: Path) -> None:
    explorer = make(tmp_path)
    (tmp_path / "own.in").unlink()
    assert problems(explorer) == [
        f"error: {tmp_path}/own.in: template: cannot read the template: No such file or directory"
    ]


def test_guards_cover_every_pair_of_elements_that_is_there(tmp_path: Path) -> None:
    text = rendered(make(tmp_path, None, {"temperatures": {"ramp": [900, 300]}}), tmp_path)
    cutoffs = [line.split()[-2:] for line in text.splitlines() if "coord/atom" in line]
    assert [(round(float(cutoff), 3), kind) for cutoff, kind in cutoffs] == [(1.332, "1"), (1.122, "2"), (0.912, "2")]
    assert "v_guard_temperature > 2700.0" in text and "v_guard_force > 50.0" in text
    volume = bulk("SiC", "zincblende", 4.36).get_volume()
    (first,) = (float(line.split("/")[1]) for line in text.splitlines() if "guard_volume equal" in line)
    assert abs(first - volume) < 1e-5 * volume
    off = make(tmp_path, None, guard={"min_distance": 0})
    assert "coord/atom" not in rendered(off, tmp_path)


def test_a_slab_is_watched_by_its_area_and_a_molecule_by_no_size(tmp_path: Path) -> None:
    slab = {"path": "POSCAR", "pbc": [True, True, False]}
    xy = make(tmp_path, None, {"ensemble": "npt-xy", "pressures": 0}, structures=[slab])
    assert "guard_volume equal lx*ly/" in rendered(xy, tmp_path)
    molecule = make(tmp_path, None, structures=[slab | {"pbc": [False, False, False]}])
    assert "guard_volume" not in rendered(molecule, tmp_path)


def test_deviations_are_asked_for_with_a_committee_only(tmp_path: Path) -> None:
    explorer = make(tmp_path, None)
    assert "model.0 model.1 out_freq 10 out_file model_devi.out\n" in rendered(explorer, tmp_path)
    assert "out_file model_devi.out relative 0.5\n" in rendered(explorer, tmp_path, epsilon=0.5)
    assert "pair_style      deepmd model.0\n" in rendered(explorer, tmp_path, models=1)


def test_a_name_cannot_smuggle_a_line_in(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "x\nshell rm.vasp", bulk("SiC", "zincblende", 4.36), format="vasp")
    text = rendered(make(tmp_path, None, structures=["x\nshell rm.vasp"]), tmp_path)
    assert "x shell rm" in text and "\nshell" not in text
