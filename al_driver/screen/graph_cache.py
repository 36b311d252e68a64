"""Graphs by the content they were made from: within a process, and from one to the next.

A graph is kept under the hash of a CIF's text, so that it need not be parsed again, or of a structure's arrays. On disk
each process that found something new leaves one file; a damaged one is passed over, since it can be made again.
"""

import hashlib
import logging
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al_driver.screen.crystals import Crystal
from al_driver.screen.graph import Graph, make_graph

log = logging.getLogger(__name__)
_PATTERN = "graphs.v1.*.npz"  # another version wherever `graph` or the reading of a CIF changes what a graph is
_PER_ATOM = ("neighbours", "distances")
_PER_ENTRY = ("site", "number", "share")


class GraphCache:
    """Graphs by a hash of what they are of.

    Parameters
    ----------
    folder
        Where they are kept for other processes; only in memory when None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._graphs: dict[str, list[Graph]] = {}
        self._new: list[str] = []
        for file in sorted(folder.glob(_PATTERN)) if folder else ():
            try:
                self._graphs |= _read(file)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                log.warning("%s is damaged (%s), and passed over", file, error)

    def get(self, key: str) -> list[Graph] | None:
        """Return the graphs of a content, None where it was not seen yet."""
        return self._graphs.get(key)

    def put(self, key: str, graphs: Sequence[Graph]) -> None:
        """Keep the graphs of a content."""
        if key not in self._graphs:
            self._graphs[key] = list(graphs)
            self._new.append(key)

    def save(self) -> None:
        """Write what is new to the folder, where there is one."""
        if not (self._folder and self._new):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256("".join(self._new).encode()).hexdigest()[:16]
        file = self._folder / _PATTERN.replace("*", digest)
        temporary = file.with_name(f".{file.name}")
        with temporary.open("wb") as stream:
            np.savez(stream, **_pack({key: self._graphs[key] for key in self._new}))  # type: ignore[arg-type]
        temporary.replace(file)
        self._new = []


def make_graphs(crystals: Iterable[Crystal], cache: GraphCache | None = None) -> list[Graph]:
    """Make the graph of each crystal, or take it from the cache.

    Raises
    ------
    ConfigError
        As `make_graph`.
    """
    graphs = []
    for crystal in crystals:
        found = None if cache is None else cache.get(crystal.key)
        graphs.append(found[0] if found else make_graph(crystal))
        if cache is not None and not found:
            cache.put(crystal.key, graphs[-1:])
    return graphs


def _pack(contents: dict[str, list[Graph]]) -> dict[str, NDArray[np.generic]]:
    graphs = [graph for found in contents.values() for graph in found]
    joined = {name: np.concatenate([getattr(graph, name) for graph in graphs]) for name in _PER_ATOM + _PER_ENTRY}
    return joined | {
        "keys": np.array(list(contents)),
        "n_graphs": np.array([len(found) for found in contents.values()]),
        "n_atoms": np.array([len(graph) for graph in graphs]),
        "n_entries": np.array([len(graph.site) for graph in graphs]),
    }


def _read(file: Path) -> dict[str, list[Graph]]:
    with np.load(file, allow_pickle=False) as arrays:
        content = dict(arrays)
    ends = {name: np.cumsum(content["n_atoms"])[:-1] for name in _PER_ATOM}
    ends |= {name: np.cumsum(content["n_entries"])[:-1] for name in _PER_ENTRY}
    parts = {name: np.split(content[name], ends[name]) for name in _PER_ATOM + _PER_ENTRY}
    graphs = [Graph(*own) for own in zip(*(parts[name] for name in _PER_ATOM + _PER_ENTRY), strict=True)]
    starts = np.cumsum(content["n_graphs"]) - content["n_graphs"]
    return {
        str(key): graphs[start : start + count]
        for key, start, count in zip(content["keys"], starts, content["n_graphs"], strict=True)
    }
