"""Say what keeps an ASE calculator from being made: its import path, its arguments.

Run by the Python that would run the calculation, as `ase_calculation.py` beside it, so that the driver imports no
calculator. It reads the calculator's part of `calculation.json` from its standard input, imports the calculator without
making one (that may need a GPU, or load weights), and prints a list as JSON on its last line.
"""

import difflib
import importlib
import inspect
import json
import pkgutil
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_OF_EVERY_CALCULATOR = ("restart", "ignore_bad_restart_file", "label", "atoms", "directory")


def main() -> int:
    """Print what is wrong; return the exit status."""
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]  # neighbours are no libraries
    problems = list(find_problems(json.load(sys.stdin)))
    sys.stdout.write("\n" + json.dumps(problems))  # what was imported may have printed something
    return 0


def find_problems(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what keeps the calculator from being made: what was found, and the names that there are."""
    try:
        importlib.import_module("ase")  # a calculator is nothing without it
        calculation = runpy.run_path(str(Path(__file__).with_name("ase_calculation.py")))
        found = calculation["find_callable"](spec)
    except (ImportError, AttributeError) as error:
        yield {"kind": "import", "text": f"{type(error).__name__}: {error}", **_name_siblings(error)}
        return
    except Exception as error:
        yield {"kind": "import", "text": f"{type(error).__name__}: {error}", "missing": None, "names": []}
        return
    if not callable(found):
        yield {"kind": "callable", "text": f"is a {type(found).__name__}, not a class or function"}
        return
    yield from _find_wrong_arguments(found, {**spec["arguments"], **spec["files"]})


def _name_siblings(error: Exception) -> dict[str, Any]:
    """Return the name that is missing, and those that stand where it was looked for."""
    if isinstance(error, AttributeError):
        owner = getattr(error, "obj", None)
        return {"missing": getattr(error, "name", None), "names": [name for name in dir(owner) if name[0] != "_"]}
    missing = str(getattr(error, "name", None) or "")
    parent = sys.modules.get(missing.rpartition(".")[0])
    names = [*(name for name in dir(parent) if name[0] != "_")] if parent else []
    names += [module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))] if parent else []
    return {"missing": missing.rpartition(".")[2], "package": missing.split(".")[0], "names": names}


def _find_wrong_arguments(found: Callable[..., Any], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield arguments that it does not take, as far as its signature and its defaults tell."""
    try:
        parameters = inspect.signature(found).parameters
    except ValueError:  # a builtin may hide it
        return
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    by_name = {
        name: each for name, each in parameters.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }
    defaults = dict(getattr(found, "default_parameters", None) or {})
    legal = [*by_name, *defaults]
    for name in sorted(set(given) - {*legal, *_OF_EVERY_CALCULATOR}):
        if not takes_any or defaults or difflib.get_close_matches(name, legal, cutoff=0.75):
            yield {"kind": "argument", "missing": name, "names": legal, "sure": not takes_any}
    for name, each in by_name.items():
        if each.default is each.empty and name not in given:
            yield {"kind": "required", "missing": name}


if __name__ == "__main__":
    sys.exit(main())
