"""Which Python runs our training program."""

import sys
from pathlib import Path

import pytest

from al_driver.errors import ConfigError
from al_driver.trainers.deepmd_program import python_command

PROGRAM = Path("/opt/program.py")


def script(folder: Path, text: str) -> str:
    path = folder / "dp"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#!/opt/dp/bin/python3.11\n", ["/opt/dp/bin/python3.11"]),
        ("#!/opt/dp/bin/python -s\nimport re\n", ["/opt/dp/bin/python", "-s"]),
        ("#!/usr/bin/env python3\n", ["python3"]),
        ("#!/bin/sh\n'''exec' \"/a long/path/bin/python3\" \"$0\" \"$@\"\n' '''\n", ["/a long/path/bin/python3"]),
    ],
)
def test_the_first_line_of_dp_names_the_python(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert python_command((script(tmp_path, text),), PROGRAM) == (*expected, str(PROGRAM))


def test_the_launcher_stays_in_front(tmp_path: Path) -> None:
    dp = script(tmp_path, "#!/opt/bin/python\n")
    assert python_command(("srun", "-n", "1", dp), PROGRAM) == ("srun", "-n", "1", "/opt/bin/python", str(PROGRAM))


def test_a_python_may_stand_in_place_of_dp() -> None:
    assert python_command(("apptainer", "exec", "dp.sif", "python3"), PROGRAM)[-2:] == ("python3", str(PROGRAM))


def test_dp_is_found_on_the_path_before_the_drivers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "#!/opt/other/python\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert python_command(("dp",), PROGRAM)[0] == "/opt/other/python"


@pytest.mark.needs("dp")
def test_dp_is_found_beside_the_drivers_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert Path(python_command(("dp",), PROGRAM)[0]).parent == Path(sys.executable).parent


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ConfigError, match="its last word, 'dp-of-nobody', is neither on the PATH nor beside") as error:
        python_command(("dp-of-nobody",), PROGRAM)
    assert 'write its Python in place of `dp`: "command": "python3"' in str(error.value)


def test_an_option_after_dp_is_named() -> None:
    with pytest.raises(ConfigError, match=r"its last word, '--pt', is an option; `dp` was expected there"):
        python_command(("dp", "--pt"), PROGRAM)


def test_dp_is_found_on_the_path_of_the_tasks(tmp_path: Path) -> None:
    script(tmp_path, "#!/opt/other/python\n")
    assert python_command(("dp",), PROGRAM, {"PATH": str(tmp_path)})[0] == "/opt/other/python"


def test_a_program_that_is_no_python_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a Python script; expected `dp` as DeePMD-kit installs it\.\n"):
        python_command((script(tmp_path, "#!/bin/sh\nexec dp\n"),), PROGRAM)
