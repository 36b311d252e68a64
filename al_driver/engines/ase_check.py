"""Whether the Python that would run a calculator has it, asked of that Python itself: no torch enters the driver."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from al_driver.errors import Problem
from al_driver.jobs.processes import child_environment, find_program
from al_driver.schema.suggest import nearest

_PROGRAM = Path(__file__).parents[1] / "tasks" / "ase_inspect.py"
_SECONDS = 120.0
_EXTRAS = {"chgnet": "chgnet", "sevenn": "sevennet", "tblite": "tblite"}
"""The extra of this package that installs a calculator's package."""


def check_calculator(spec: Mapping[str, Any], launcher: Sequence[str], env: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong with a calculator's import path and arguments; keys are those of the engine.

    A Python behind another program (a launcher of MPI, a container) is not started here, and nothing is said of it.
    """
    python = find_program(launcher[0], env)
    if len(launcher) > 1 or python is None:
        return
    if not Path(python).name.startswith("python"):
        yield Problem(f"{python} is not a Python; an ASE calculator is run by one that has it", "calculator")
        return
    try:
        done = subprocess.run(
            [python, str(_PROGRAM)],
            input=json.dumps(spec), env=child_environment(env), capture_output=True, text=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
        findings = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        text = f"importing {spec['calculator']} takes longer than {_SECONDS:.0f} s, which each calculation would wait"
        yield Problem(text, "calculator", severity="warning")
        return
    except (ValueError, IndexError):
        printed = done.stderr.strip().splitlines()
        yield Problem(f"{python} ended while it imported {spec['calculator']}: {(printed or [''])[-1]}", "calculator")
        return
    yield from (_describe(finding, spec, python) for finding in findings)


def _describe(finding: Mapping[str, Any], spec: Mapping[str, Any], python: str) -> Problem:
    """Put a finding of the program into words."""
    name, missing, names = spec["calculator"], str(finding.get("missing") or ""), finding.get("names", ())
    if finding["kind"] == "argument":
        text = f"{name} does not take {missing!r}{nearest(missing, names, otherwise='it takes')}"
        return Problem(text, "arguments", severity="error" if finding["sure"] else "warning")
    if finding["kind"] == "required":
        return Problem(f"{name} needs {missing!r}; give it here, or in `files` if it is a path", "arguments")
    if finding["kind"] == "callable":
        return Problem(f"{name} {finding['text']}", "calculator")
    package = finding.get("package")
    if package is not None and package == missing:
        return Problem(f"{python} has no package {package!r}{_how_to_install(package, spec)}", "calculator")
    hint = nearest(missing, names, otherwise="there are") if missing else ""
    return Problem(f"{name} cannot be imported: {finding['text']}{hint}", "calculator")


def _how_to_install(package: str, spec: Mapping[str, Any]) -> str:
    first = spec["calculator"].split(".")[0]
    extra = _EXTRAS.get(first)
    if extra is not None:
        install = f"in the folder of al: pip install -c constraints.txt -e '.[{extra}]'"
        return f"; {install}; or name another Python in label.command (resource file)"
    if package != first:
        return f", which {first} imports"
    hint = nearest(package, ["ase", *_EXTRAS], otherwise="")
    return f"{hint if 'mean' in hint else ''}; install it, or name another Python in label.command (resource file)"
