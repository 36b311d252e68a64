"""Templates: a missing variable is an error, and a template reaches neither Python nor files."""

from pathlib import Path

import pytest

from al_driver.errors import ConfigError
from al_driver.templates import read_variables, render, templates_dir


def write(folder: Path, text: str) -> Path:
    (folder / "x.j2").write_text(text)
    return folder / "x.j2"


def test_render_keeps_the_text(tmp_path: Path) -> None:
    path = write(tmp_path, "run {{ n }}\n{% if n > 1 %}\nfix ${x} $(pe:%.17g)\n{% endif %}\n")
    assert render(path, {"n": 5}) == "run 5\nfix ${x} $(pe:%.17g)\n"
    assert read_variables(path) == {"n"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run {{ n_step }}", r"x\.j2: unknown variable 'n_step'; known are n_steps"),
        ("a\n{% if n_steps %}\nb\n", r"x\.j2: line 3: "),
        ("{{ n_steps.nothing }}", "has no attribute 'nothing'"),
        ("{{ n_steps / 0 }}", "an expression fails: division by zero"),
        ("{% include 'other' %}", "cannot include or import another"),
        ("{% from 'other' import x %}", "cannot include or import another"),
        ("{{ n_steps.__class__.__mro__ }}", "is unsafe"),
        ("{{ ''.__class__ }}", "is unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "is unsafe"),
    ],
)
def test_errors_say_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render(write(tmp_path, text), {"n_steps": 5})


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.j2: cannot read the template: No such file"):
        read_variables(tmp_path / "nothing.j2")
    (tmp_path / "x.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file"):
        read_variables(tmp_path / "x.j2")


def test_our_own_templates_are_found_and_sound() -> None:
    found = sorted(templates_dir().rglob("*.j2"))
    assert templates_dir() / "lammps" / "explore.in.j2" in found
    for path in found:
        assert read_variables(path)
