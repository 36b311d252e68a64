"""A training that goes on from the last checkpoint that loads, which an earlier attempt left before its time was up.

The driver puts checkpoints into the folder as ``restart-STEP.pt``. Weights and the optimizer's state go on; batches are
drawn anew, so that the model is another than that of a training without a break.
"""

import sys
from pathlib import Path


def find_checkpoint() -> tuple[Path, int] | None:
    """Return the last checkpoint that loads, and its step; cut the learning curve to what came before it."""
    import torch

    steps = {int(path.stem.partition("-")[2]): path for path in Path().glob("restart-*.pt")}
    for step in sorted(steps, reverse=True):
        try:
            torch.load(steps[step], map_location="cpu", weights_only=True)["model"]["_extra_state"]["train_infos"]
        except Exception as error:  # whatever torch makes of a damaged file
            sys.stderr.write(
                f"{steps[step]} cannot be read ({type(error).__name__}); an earlier one, or none, is used\n"
            )
            continue
        _cut_curve(step)
        return steps[step], step
    Path("lcurve.out").unlink(missing_ok=True)
    return None


def remove_checkpoints() -> None:
    """Remove what the driver put into the folder."""
    for path in Path().glob("restart-*.pt"):
        path.unlink()


def _cut_curve(step: int) -> None:
    curve = Path("lcurve.out")
    if curve.exists():
        lines = curve.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.startswith("#") or (line.split() and int(line.split()[0]) < step)]
        curve.write_text("".join(kept), encoding="utf-8")
