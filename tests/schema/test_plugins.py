"""Plugins are found, named twice at most once, and a broken one from outside harms nobody."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from al_driver.engines.base import Engine
from al_driver.errors import ConfigError
from al_driver.schema import plugins
from al_driver.schema.base import Params
from al_driver.schema.plugins import find_plugins, plugin_name, union_of

PACKAGE = "al_driver.engines"


class Outside(Params):
    """An engine of another package."""

    engine: Literal["outside"]


class AnotherLammps(Params):
    """An engine that takes a name of ours."""

    engine: Literal["lammps"]


class _Point:
    group, value = PACKAGE, "elsewhere:Broken"

    def __init__(self, kind: object) -> None:
        self.kind = kind

    def __lt__(self, other: object) -> bool:
        return False

    def load(self) -> object:
        if isinstance(self.kind, Exception):
            raise self.kind
        return self.kind


def _with_points(monkeypatch: pytest.MonkeyPatch, *kinds: object) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [_Point(kind) for kind in kinds])


def test_our_own_are_found_by_import():
    names = [plugin_name(kind, "engine") for kind in find_plugins(Engine, PACKAGE, "engine")]
    assert {"lammps", "qe"} <= set(names)
    assert names == sorted(names)


def test_one_from_outside_joins_them(monkeypatch):
    _with_points(monkeypatch, Outside)
    assert Outside in find_plugins(Engine, PACKAGE, "engine")


def test_two_of_one_name_are_an_error_that_names_both(monkeypatch):
    _with_points(monkeypatch, AnotherLammps)
    with pytest.raises(ConfigError, match=r"called 'lammps': al_driver\.engines\.lammps\.\w+ and .*AnotherLammps"):
        find_plugins(Engine, PACKAGE, "engine")


def test_a_broken_one_from_outside_is_one_warning_and_the_rest_load(monkeypatch):
    _with_points(monkeypatch, ImportError("no module named 'orca'"), Outside)
    with pytest.warns(UserWarning, match=r"elsewhere:Broken.* does not load: ImportError.*orca") as caught:
        found = find_plugins(Engine, PACKAGE, "engine")
    assert len(caught) == 1
    assert Outside in found


def test_one_that_is_no_plugin_is_a_warning_too(monkeypatch):
    _with_points(monkeypatch, int)
    with pytest.warns(UserWarning, match="has no field `engine`"):
        assert int not in find_plugins(Engine, PACKAGE, "engine")


def test_a_single_plugin_needs_no_union():
    assert union_of((Outside,), "engine") is Outside


def test_an_outside_package_may_import_its_base_class_first(tmp_path):
    (tmp_path / "orca_al.py").write_text(
        "from typing import Literal\nfrom al_driver.engines.base import Engine\n"
        "class Orca(Engine):\n    '''ORCA.'''\n    engine: Literal['orca']\n    default_command = 'orca'\n"
    )
    (tmp_path / "orca_al-1.dist-info").mkdir()
    (tmp_path / "orca_al-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: orca-al\nVersion: 1\n")
    (tmp_path / "orca_al-1.dist-info/entry_points.txt").write_text("[al_driver.engines]\norca = orca_al:Orca\n")
    root = Path(__file__).parents[2]
    program = (
        f"import sys; sys.path[:0] = {[str(tmp_path), str(root)]}\n"
        "import orca_al\nfrom al_driver.schema.jsonschema import schema_text\nassert '\"orca\"' in schema_text('run')"
    )
    argv = [sys.executable, "-W", "error::UserWarning", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
