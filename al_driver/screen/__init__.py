"""Property surrogates: candidate crystals, and models that tell which of them are worth a calculation.

The verbs of ``al screen``, as functions; they are imported when they are used. ``run(param, resource)`` is the
screening itself.
"""

import importlib
from typing import Any

_WHERE = {
    "run": ("workflow.verbs", "screen"),
    "predict": ("workflow.surrogates", "predict"),
    "fit": ("workflow.surrogates", "fit"),
    "evaluate": ("workflow.surrogates", "evaluate"),
}
__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, verb = _WHERE[name]
    return getattr(importlib.import_module(f"al_driver.{module}"), verb)
