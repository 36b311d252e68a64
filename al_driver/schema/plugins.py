"""Engines, trainers and explorers are found, not listed: siblings by import, outsiders by entry point."""

import functools
import importlib
import operator
import pkgutil
import warnings
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, TypeVar, get_args

from pydantic import Field

from al_driver.errors import ConfigError
from al_driver.schema.base import Params

Kind = TypeVar("Kind", bound=Params)


def find_plugins(base: type[Kind], package: str, tag: str) -> tuple[type[Kind], ...]:
    """Return the classes of one kind, sorted by name.

    Parameters
    ----------
    base
        The class they derive from.
    package
        Where ours live, e.g. ``al_driver.engines``; also the entry-point group of outside packages.
    tag
        The field that holds the name, e.g. ``engine``.

    Raises
    ------
    ConfigError
        If two plugins have the same name; both are named.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    outside = (_load(point, tag) for point in sorted(entry_points(group=package)))
    own = (kind for kind in _subclasses(base) if kind.__module__.startswith(f"{package}."))
    found: dict[str, type[Kind]] = {}
    for kind in (*own, *outside):
        if kind is None:
            continue
        name = plugin_name(kind, tag)
        if found.setdefault(name, kind) is not kind:
            raise ConfigError(
                f"two plugins are called {name!r}: {_where(found[name])} and {_where(kind)}.\n"
                "  Uninstall one of the packages."
            )
    return tuple(found[name] for name in sorted(found))


def union_of(kinds: tuple[type[Params], ...], tag: str) -> Any:
    """Return the discriminated union of plugins, for use as a field's type; a single one stands for itself."""
    if len(kinds) == 1:
        return kinds[0]
    return Annotated[functools.reduce(operator.or_, kinds), Field(discriminator=tag)]


def plugin_name(kind: type[Params], tag: str) -> str:
    """Return the word a user writes to ask for a plugin."""
    (name,) = get_args(kind.model_fields[tag].annotation)
    return str(name)


def _subclasses(base: type[Kind]) -> list[type[Kind]]:
    return [kind for child in base.__subclasses__() for kind in (child, *_subclasses(child))]


def _load(point: EntryPoint, tag: str) -> type[Any] | None:
    """Load an outside plugin; a broken one is a warning, since the rest must still work."""
    try:
        kind: type[Any] = point.load()
        if tag not in getattr(kind, "model_fields", ()):
            raise TypeError(f"it has no field `{tag}`")
    except Exception as error:
        warnings.warn(f"plugin {point.value!r} ({point.group}) does not load: {error!r}", stacklevel=2)
        return None
    return kind


def _where(kind: type[Params]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
