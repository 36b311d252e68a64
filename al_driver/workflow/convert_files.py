"""Files read side by side, each in a process, and given back in the order in which they were named."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from al_driver.data.formats.load import Loaded, Source, load_source
from al_driver.errors import TasksFailed


def load_sources(
    sources: Sequence[Source],
    type_map: Sequence[str],
    every: int,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[Loaded]:
    """Read every source; one that cannot be read says so itself.

    Processes are forked, all of them before ``progress`` is first called: a bar that a thread draws must start there,
    since a fork copies the locks that a thread holds. (Processes that start empty took 4 s, not 0.1, to import what
    they need, and ask of a user's program that it can be imported.)

    Raises
    ------
    TasksFailed
        If a process was killed, which is what happens where memory runs out.
    """
    load = partial(load_source, type_map=tuple(type_map), every=every)
    n_workers = min(workers or len(os.sched_getaffinity(0)), len(sources))
    if n_workers <= 1:
        return _collect(map(load, sources), len(sources), progress)
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_end_quietly)
    try:
        chunk = max(1, len(sources) // (16 * n_workers))
        return _collect(pool.map(load, sources, chunksize=chunk), len(sources), progress)
    except BrokenProcessPool as error:
        raise TasksFailed("a process that read files was killed, perhaps for memory.\n  Try --workers 1.") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _collect(loaded: Iterable[Loaded], total: int, progress: Callable[[int, int], None] | None) -> list[Loaded]:
    collected: list[Loaded] = []
    if progress:
        progress(0, total)
    for item in loaded:
        collected.append(item)
        if progress:
            progress(len(collected), total)
    return collected


def _end_quietly() -> None:
    """Let a Ctrl-C end a reading process without a word; this process's own handlers were inherited."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
