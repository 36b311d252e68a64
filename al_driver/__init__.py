"""Grow machine-learning force fields by active learning: train, explore, query, label.

The verbs of the command line, as functions; they are imported when they are used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "run": "workflow.verbs",
    "init_bulk": "workflow.verbs",
    "check": "workflow.verbs",
    "status": "workflow.status",
    "retry": "workflow.retry",
    "convert": "workflow.convert",
    "gather": "workflow.gather",
    "explain": "workflow.explain",
    "kpu": "workflow.kpu",
    "RunParams": "schema.run",
    "InitBulkParams": "schema.init_bulk",
    "ScreenParams": "schema.screen",
    "Resources": "schema.resource",
}
__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name == "screen":  # a package with verbs of its own
        return importlib.import_module(f"{__name__}.screen")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
