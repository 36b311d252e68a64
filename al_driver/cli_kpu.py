"""The command `al kpu`; as in `cli.py`, imports stand inside."""

from pathlib import Path
from typing import Annotated

import typer


def kpu(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="model.ckpt.pt trained by LKF, or the folder of its training.")
    ],
    frames: Annotated[Path, typer.Argument(metavar="FRAMES", help="A file, a folder, or a pattern.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="The extxyz file to write.")],
    format: Annotated[
        str | None, typer.Option("--from", metavar="FMT", help="Format of the frames, where it is not recognised.")
    ] = None,
    atoms: Annotated[
        str | None, typer.Option(metavar="0,5,7-9", help="Only these atoms of each frame, counted from 0.")
    ] = None,
    scaled: Annotated[bool, typer.Option("--scaled", help="Divide by sqrt(Π 1/λ): comparable as it stands.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="Four to six digits, less memory.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave a GPU alone.")] = False,
    memory: Annotated[float, typer.Option(metavar="GB", help="Beside the model and its covariance.")] = 1.0,
    command: Annotated[str, typer.Option(metavar="DP", help="As `train.command`: where DeePMD-kit is.")] = "dp",
) -> None:
    """Write each atom's Kalman prediction uncertainty, exactly: kpu_force, kpu_energy."""
    import shlex

    from rich.console import Console

    from al_driver.live import file_bar
    from al_driver.workflow.kpu import kpu as compute
    from al_driver.workflow.kpu import parse_atoms

    with file_bar(Console(), "frames") as progress:
        found = compute(
            checkpoint, frames, out, format=format, atoms=parse_atoms(atoms), scaled=scaled, single=float32,
            device="cpu" if cpu else "auto", memory=memory, command=shlex.split(command), progress=progress,
        )  # fmt: skip
    typer.echo(f"{out}  {len(found)} {'frame' if len(found) == 1 else 'frames'}")
