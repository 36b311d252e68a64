"""Train, freeze, compress and evaluate one model with DeePMD-kit's PyTorch backend, in one process.

Run in the model's folder by the Python that has DeePMD-kit, which may be another environment than the driver's: this
file imports nothing of `al_driver`. It reads `input.json` (of `dp train`) and `train.json` (phase, seed, parent,
compress), leaves `evaluation.npz` for plots, and writes last, and atomically, either `evaluation.json` or, when
something physical or in the data is wrong, `diagnosis.json` with a reason. eV/atom, eV/Å.

The same seed gives the same weights bit for bit on one kind of CPU with one thread. DeePMD-kit 3.2 would break that
in two places: the Kalman filter draws atoms from an unseeded generator, and the number of data loading processes
follows the number of CPUs.
"""

import copy
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SAME_LOSS = 0.02
"""How far, relatively, the first loss of a warm start may be from the parent's on the same frames."""
_NOT_STRUCTURE = {"seed", "info"}


class Failure(Exception):
    """The training cannot give a model: one of the reasons of ``rejected.jsonl``, and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def main() -> int:
    """Do everything in the current folder; return the exit status."""
    here = str(Path(__file__).parent)
    sys.path[:] = [*(entry for entry in sys.path if entry != here), here]  # neighbours come after the libraries
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", threads)
    os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")
    os.environ["NUM_WORKERS"] = "0"
    config = json.loads(Path("input.json").read_text(encoding="utf-8"))
    spec = json.loads(Path("train.json").read_text(encoding="utf-8"))
    try:
        check_data(config["training"])
        evaluation = run_training(config, spec)
    except Failure as failure:
        sys.stderr.write(f"{failure.reason}: {failure.detail}\n")
        write_json(Path("diagnosis.json"), {"reason": failure.reason, "detail": failure.detail})
        return 1
    write_json(Path("evaluation.json"), evaluation)
    return 0


def check_data(training: Mapping[str, Any]) -> None:
    """Raise `Failure` unless there are training frames, every label is a finite number and every cell has a volume."""
    import numpy as np

    for section in ("training_data", "validation_data"):
        systems = training.get(section, {}).get("systems", [])
        for file in (file for system in systems for file in sorted(Path(system).glob("set.*/*.npy"))):
            if file.stem in {"energy", "force", "virial", "coord", "box"} and not np.isfinite(np.load(file)).all():
                raise Failure("not_finite", f"{file} holds a number that is not finite")
            is_cell = file.stem == "box" and not (file.parents[1] / "nopbc").exists()
            if is_cell and not np.linalg.det(np.load(file).reshape(-1, 3, 3)).all():
                raise Failure("engine_error", f"{file} holds a cell without volume, and no file nopbc allows it")
        if systems and count_frames(systems) == 0:
            raise Failure("engine_error", f"{section} holds no frame: {', '.join(systems)}")


def count_frames(systems: Sequence[str]) -> int:
    """Return how many frames deepmd/npy systems hold."""
    import numpy as np

    files = (file for system in systems for file in Path(system).glob("set.*/coord.npy"))
    return sum(len(np.load(file, mmap_mode="r")) for file in files)


def run_training(config: dict[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Train, freeze, compress where asked, evaluate; return what `evaluation.json` holds."""
    import deepmd
    import deepmd_kalman
    import deepmd_restart
    import deepmd_virtual
    import torch
    from deepmd.main import main as dp

    parent = spec["parent"] and Path(spec["parent"], "model.ckpt.pt")
    weights = adopt_parent(config, parent) if parent else None
    if weights is not None:
        write_json(Path("input.json"), config)
    going_on = deepmd_restart.find_checkpoint()
    begun = ["--restart", str(going_on[0])] if going_on else ["--init-model", str(parent)] if parent else []
    losses = watch_training(spec["seed"], None if going_on else weights)
    refuse = partial(Failure, "engine_error")
    seen = deepmd_kalman.watch_filter(spec["kalman"], parent, refuse) if spec.get("kalman") else None
    try:
        dp(["--pt", "train", "input.json", "-o", "out.json", *begun])
    except RuntimeError as error:  # DeePMD-kit's own finding of what `watch_training` looks for
        found = re.search(r"NaN detected at batch +(\d+)|(non-finite.*)", str(error), re.IGNORECASE)
        if found:
            raise Failure("not_finite", f"member diverged: {found[2] or f'loss is NaN at step {found[1]}'}") from error
        raise
    warm_start = check_first_loss(config, losses) if parent and not going_on else None
    Path("model.ckpt.pt").resolve().replace("model.ckpt.pt")  # was a link to the file that carries the step in its name
    for name in ("checkpoint", "input_v2_compat.json"):
        Path(name).unlink(missing_ok=True)
    deepmd_restart.remove_checkpoints()
    dp(["--pt", "freeze", "-c", "model.ckpt.pt", "-o", "frozen_model.pth"])
    if spec["compress"]:
        dp(["--pt", "compress", "-i", "frozen_model.pth", "-o", "compressed.pth"])
        Path("compressed.pth").replace("frozen_model.pth")
    covariance = None
    if seen:
        covariance = deepmd_kalman.describe_filter(seen.optimizer)
        covariance["virtual"] = deepmd_virtual.write_virtual_models(
            seen, covariance["log_inflation"], spec, config["training"], refuse
        )
    return {
        **evaluate(config["training"]),
        "n_train": count_frames(config["training"]["training_data"]["systems"]),
        "steps": losses.steps,
        "first_loss": losses.first,
        "last_loss": losses.last,
        "warm_start": warm_start,
        "kalman": covariance,
        **({"continued_from_step": going_on[1]} if going_on else {}),
        "versions": {"deepmd-kit": deepmd.__version__, "torch": torch.__version__},
    }


def adopt_parent(config: dict[str, Any], parent: Path) -> dict[str, Any]:
    """Return the parent's weights by name, and give the input the parent's `sel` where it says auto.

    Raises
    ------
    Failure
        If the parent is another kind of model.
    """
    import torch
    from deepmd.utils.argcheck import normalize

    if not parent.is_file():
        raise Failure("engine_error", f"the parent of the warm start is missing: {parent.resolve()}")
    try:
        state = torch.load(parent, map_location="cpu", weights_only=True)["model"]
    except Exception as error:  # whatever torch makes of a damaged file
        what = f"the parent of the warm start cannot be read: {parent.resolve()} ({type(error).__name__})"
        raise Failure("engine_error", f"{what}; move its folder away, and its training is done again") from error
    theirs = state.pop("_extra_state")["model_params"]
    _adopt_sel(config["model"], theirs)
    ours = normalize(copy.deepcopy(config))["model"]
    for name in ("type_map", "descriptor", "fitting_net", "models"):
        for where, mine, other in _differences(ours.get(name), theirs.get(name), f"model.{name}"):
            detail = f"{where} is {mine!r} in the input, {other!r} in the parent {parent.resolve()}"
            raise Failure("engine_error", f"warm start refused: {detail}")
    return {name: value for name, value in state.items() if not name.endswith("min_nbor_dist")}


def _adopt_sel(ours: Any, theirs: Any) -> None:
    if isinstance(ours, list) and isinstance(theirs, list):
        for mine, other in zip(ours, theirs):  # noqa: B905  (may run in a Python without `strict`)
            _adopt_sel(mine, other)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key.endswith("sel") and str(value).startswith("auto") and key in theirs:
                ours[key] = theirs[key]
            else:
                _adopt_sel(value, theirs.get(key))


def _differences(ours: Any, theirs: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted((set(ours) | set(theirs)) - _NOT_STRUCTURE):
            yield from _differences(ours.get(key), theirs.get(key), f"{where}.{key}")
    elif ours != theirs:
        yield where, ours, theirs


def watch_training(seed: int, parent: dict[str, Any] | None) -> SimpleNamespace:
    """Make DeePMD-kit draw from a seeded stream, stop at a loss that is not finite, and prove a warm start.

    Returns
    -------
    SimpleNamespace
        ``first`` and ``last`` loss, ``steps``; and in a warm start ``expected``, the parent's loss on the first
        batch. Filled while training goes on.
    """
    import numpy as np
    from deepmd.pt.optimizer import KFWrapper
    from deepmd.pt.train.training import Trainer

    stream = np.random.default_rng(seed)
    seeded = SimpleNamespace(default_rng=lambda: stream)
    KFWrapper.np = SimpleNamespace(random=seeded, ndarray=np.ndarray)
    losses = SimpleNamespace(first=None, last=None, expected=None, steps=0)
    run, write_line = Trainer.run, Trainer.print_on_training

    def watched_run(trainer: Any) -> None:
        losses.steps = trainer.num_steps
        if parent is not None:
            check_weights(trainer.wrapper.state_dict(), parent)
            _measure_first_batch(trainer, parent, losses)
        run(trainer)

    def watched_line(trainer: Any, file: Any, step: int, rate: float, results: dict[str, Any], valid: Any) -> None:
        write_line(trainer, file, step, rate, results, valid)
        loss = float(results["rmse"])
        losses.first, losses.last = loss if losses.first is None else losses.first, loss
        if not math.isfinite(loss):
            raise Failure("not_finite", f"member diverged: loss is {loss} at step {step}")

    Trainer.run, Trainer.print_on_training = watched_run, watched_line
    return losses


def check_weights(weights: Mapping[str, Any], parent: Mapping[str, Any]) -> None:
    """Raise `Failure` unless a model holds its parent's weights, all of them, to the bit."""
    import torch

    changed = [name for name, value in parent.items() if name not in weights or not torch.equal(weights[name], value)]
    if changed:
        detail = f"{len(changed)} of {len(parent)} weights are not the parent's"
        raise Failure("engine_error", f"warm start did not take: {detail}")


def _measure_first_batch(trainer: Any, parent: dict[str, Any], losses: SimpleNamespace) -> None:
    """Note the loss that the parent itself gives on the first batch, before the first step changes a weight."""
    next_batch = trainer._next_training_batch

    def first_batch(task: str) -> Any:
        trainer._next_training_batch = next_batch
        inputs, labels, info = next_batch(task)
        model = copy.deepcopy(trainer.wrapper)
        model.load_state_dict({**model.state_dict(), **parent})
        rate = trainer.lr_schedule.value(0)
        results = model(**inputs, cur_lr=rate, label=labels, task_key=task)[2]
        losses.expected = float(results["rmse"])
        return inputs, labels, info

    trainer._next_training_batch = first_batch


def check_first_loss(config: Mapping[str, Any], losses: SimpleNamespace) -> dict[str, Any]:
    """Return the first loss beside the parent's on the same frames.

    The Kalman filter reports a loss only after its first updates, so that there the weights alone are the proof.

    Raises
    ------
    Failure
        If they differ: the training did not start where the parent ended.
    """
    kalman = config.get("optimizer", {}).get("type") == "LKF"
    if not kalman and not math.isclose(losses.first, losses.expected, rel_tol=SAME_LOSS, abs_tol=1e-8):
        detail = f"the first loss is {losses.first:.4g}, the parent gives {losses.expected:.4g}"
        raise Failure("engine_error", f"warm start did not take: {detail}")
    return {"first_loss": losses.first, "parent_loss": losses.expected}


def evaluate(training: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the frozen model with the labels; leave ``evaluation.npz``, and return what `evaluation.json` says.

    Raises
    ------
    Failure
        If the model gives an energy or a force that is not finite.
    """
    import deepmd_evaluate
    import numpy as np

    try:
        summary, arrays = deepmd_evaluate.evaluate(training)
    except FloatingPointError as error:
        raise Failure("not_finite", str(error)) from error
    np.savez("evaluation.npz", **arrays)
    return dict(summary)


def write_json(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
