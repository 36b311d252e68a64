"""The house keeps its order: imports go downwards, in no circle, and what is heavy stays where it belongs."""

import ast
import statistics
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "al_driver"
LAYERS = {
    6: ["cli", "cli_console", "cli_data", "cli_kpu", "cli_screen", "cli_slurm", "__main__",
        "live", "live_explain", "live_screen"],
    5: ["workflow", "tasks"],
    4: ["jobs", "schema"],  # they compose the nouns' own parameters
    3: ["engines", "trainers", "explorers", "query", "structures", "screen", "plots"],
    2: ["data", *(f"jobs.{name}" for name in ("__init__", "task", "processes", "journal", "runner")),
        *(f"schema.{name}" for name in ("__init__", "base", "resource", "elements", "likely", "plugins")),
        *(f"schema.{name}" for name in ("jsonc", "places", "explain", "load", "wording"))],
    1: ["__init__", "schema.suggest", "errors", "units", "files", "layout", "seeds", "templates", "words"],
}  # fmt: skip
# trainers.deepmd_check asks DeePMD-kit's own list of keys, which needs no torch
ONLY_IN = {
    "submitit": ("jobs.executor",), "torch": ("tasks.", "screen.surrogate."),
    "safetensors": ("screen.surrogate.",),
    "deepmd": ("tasks.", "trainers.deepmd_check", "trainers.deepmd_kalman"),
}  # fmt: skip


def _name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def _imports(file: Path) -> set[str]:
    """Return what a module imports anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own(imported: str) -> str | None:
    """Return the module of ours that an import speaks of."""
    parts = imported.split(".")[1:] if imported.split(".")[0] == "al_driver" else None
    if parts is None:
        return None
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    plain = (name if name in MODULES else f"{name}.__init__" for name in names)
    return next((name for name in plain if name in MODULES), "__init__")


def _layer(module: str) -> int:
    parts = module.split(".")
    for name in (module, parts[0]):
        for layer, names in LAYERS.items():
            if name in names:
                return layer
    pytest.fail(f"{module} has no layer; give it one in architecture and here")


GRAPH = {name: {own for imported in _imports(file) if (own := _own(imported))} for name, file in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    upward = [other for other in GRAPH[module] if _layer(other) > _layer(module)]
    assert not upward, f"{module} (layer {_layer(module)}) imports {upward} from above"


def test_no_import_goes_in_a_circle():
    TopologicalSorter({name: others - {name} for name, others in GRAPH.items()}).prepare()


def test_nobody_imports_a_task():
    assert [name for name, others in GRAPH.items() if any(o.startswith("tasks") for o in others)
            and not name.startswith("tasks.")] == []  # fmt: skip


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_stay_where_they_belong(library):
    users = [name for name, file in MODULES.items() if library in {i.split(".")[0] for i in _imports(file)}]
    assert [name for name in users if not name.startswith(ONLY_IN[library])] == []


def test_only_tasks_reach_the_networks():
    """`screen.surrogate` imports torch, which the driver never does."""
    users = [name for name, others in GRAPH.items() if any(other.startswith("screen.surrogate") for other in others)]
    assert users
    assert [name for name in users if not name.startswith(("tasks.", "screen.surrogate"))] == []


def test_modules_are_short():
    lengths = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in MODULES.items()}
    assert statistics.median(length for length in lengths.values() if length > 1) <= 130
    for name, length in lengths.items():
        head = ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8"))) or ""
        assert length <= 300 or "300 lines" in head, f"{name} has {length} lines, and its head does not say why"
