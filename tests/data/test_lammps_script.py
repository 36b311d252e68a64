"""Commands that a user's LAMMPS input may not hold, and what LAMMPS says of a run."""

import subprocess
from pathlib import Path

import pytest

from al_driver.data.lammps_script import find_refused, has_ended, last_lines, read_error, read_halt, read_version
from al_driver.jobs.processes import find_program

HARMLESS = [
    "# run this, shell rm, python here",
    "run 100 # shell rm",
    "group shell type 1\ngroup python type 2",
    'print "shell python plugin"',
    "compute c shells temp/cs cores shells",
    "variable a equal 2 # \"quoted ' comment\nrun 5",
    "jump SELF loop",
    'if "$a > 1" then "jump SELF end" else "print \'shell\'"',
    'print """\nshell rm\n"""',
    "fix 1 all halt 10 v_x > 5 error soft",
    "variable shell equal 5",
    "partition yes 1 run 5",
    "variable n equal 5\nrun ${n}",
    'variable t index 300 4.5e2\nlabel loop\nrun $(100*v_t) every 10 "print ${t}"\nnext t\njump SELF loop',
    "variable f string Si.sw\npair_coeff * * ${f} Si",
    'variable a loop 3\nif "${a} > 1" then "run $a" else "print \'${f} x.gz\'"',
    "variable t equal 300\nfix 1 all nvt temp ${t} ${t} 0.1\npair_style lj/cut ${t}",
    "compute kim all temp",
]
REFUSED = [
    "shell rm -rf x",
    "  shell\trm x",
    "run 5\nshell rm x # innocent",
    "sh&\nell rm x",
    "python f here 'def f(): pass'",
    "variable x python f",
    "fix 1 all python/invoke 10 end_of_step f",
    "pair_style python 5.0",
    "pair_style mliap unified x.pkl",
    "plugin load evil.so",
    "include other.in",
    "jump other.in",
    "${c} rm x",
    "$c rm x",
    'if "1 > 0" then "shell rm x"',
    "if '1 > 0' then 'print \"#\"' 'shell rm x'",
    'run 100 every 10 "shell rm x"',
    "if \"1 > 0\" then \"if '1 > 0' then 'shell rm x'\"",
    "partition yes 1 shell rm x",
    'print "a # b" \nshell rm x',
    'print """\na # b\n"""\nshell rm x',
    '"shell" rm x',
    "geturl http://x.org/y",
    'variable x string \'"shell touch pwned"\'\nif "1 == 1" then ${x}',
    'variable x string \'"1 == 1" then "shell touch pwned"\'\nif ${x}',
    "variable x string '\"shell touch pwned\"'\nrun 0 every 1 ${x}",
    "variable c string '0 every 1 \"shell touch pwned\"'\nrun $c",
    "variable c equal 1\nvariable c delete\nvariable 'c' string x\nrun $c",
    "variable n equal 1\nif '1==1' then 'variable n string x'\nrun ${n}",
    "if '1==1' then 'variable n equal 1' 'variable n string x'\nrun ${n}",
    "variable c index 5 '0 every 1 \"shell touch pwned\"'\nrun $c",
    "variable a string n\nvariable n equal 5\nvariable ${a} string x\nrun ${n}",
    "run $(1:%g every 1 'shell touch pwned')",
    "variable x string 'yes 1 shell rm'\npartition ${x}",
    "variable s string python\npair_style ${s} 5.0",
    "variable s string 'all python/move m.C'\nfix 1 ${s}",
    "pair_style mliap model mliappy x.pkl",
    "pair_style kim X",
    'dump d all atom 10 "x`touch pwned`.gz"',
    "write_data x.zst",
]


@pytest.mark.parametrize("script", HARMLESS)
def test_harmless(script: str) -> None:
    assert find_refused(script) == []


@pytest.mark.parametrize("script", REFUSED)
def test_refused(script: str) -> None:
    assert len(find_refused(script)) == 1


@pytest.mark.needs("lmp")
def test_what_is_refused_would_run_and_what_is_not_gives_numbers(tmp_path: Path) -> None:
    """LAMMPS itself is the witness that the refusals are no fancy."""
    program = find_program("lmp")
    assert program is not None
    lines = [
        "region r block 0 1 0 1 0 1", "create_box 1 r", "create_atoms 1 single 0.5 0.5 0.5", "mass 1 1",
        "variable n equal 2", "print \"n is ${n}\"", "run ${n}",
        "variable x string '\"shell touch pwned_if\"'", "if \"1 == 1\" then ${x}",
        "variable c string '0 every 1 \"shell touch pwned_run\"'", "run $c",
    ]  # fmt: skip
    (tmp_path / "in").write_text("\n".join(lines) + "\n")
    assert find_refused("\n".join(lines)) == [lines[8], lines[10]]
    done = subprocess.run([program, "-in", "in", "-log", "none"], cwd=tmp_path, capture_output=True, text=True)
    assert "n is 2" in done.stdout
    assert {path.name for path in tmp_path.glob("pwned*")} == {"pwned_if", "pwned_run"}


def write_output(folder: Path, text: str) -> Path:
    (folder / "output").write_text(text)
    return folder / "output"


def test_error_names_the_input_line_and_not_the_source_file(tmp_path: Path) -> None:
    output = write_output(
        tmp_path,
        "LAMMPS (22 Jul 2025 - Update 2)\n  using 1\nERROR: Unrecognized pair style 'swx' (src/src/force.cpp:279)\n"
        "Last input line: pair_style swx\nAbort(1) on node 0\n",
    )
    assert read_error(output) == "ERROR: Unrecognized pair style 'swx' (Last input line: pair_style swx)"
    assert read_version(output) == "22 Jul 2025 - Update 2"
    assert not has_ended(output)


def test_end_and_halt(tmp_path: Path) -> None:
    output = write_output(
        tmp_path,
        "LAMMPS (1 Jan 2020)\nFix halt condition for fix-id guard_force met on step 40 with value 5.2e7\n"
        "Loop time of 1\nTotal wall time: 0:00:01\n",
    )
    assert read_halt(output) == (40, "guard_force")
    assert has_ended(output) and read_error(output) is None


def test_no_output_at_all(tmp_path: Path) -> None:
    nothing = tmp_path / "output"
    assert (read_error(nothing), read_halt(nothing), has_ended(nothing)) == (None, None, False)
    assert (read_version(nothing), last_lines(nothing)) == ("unknown", "nothing was printed")
