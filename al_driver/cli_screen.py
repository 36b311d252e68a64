"""The commands of `al screen`; as in `cli.py`, imports stand inside."""

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from al_driver.cli_console import GOES_ON, make_display
from al_driver.errors import Interrupted

STAGE = "stage"


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class _Commands(typer.core.TyperGroup):
    """The commands, and the screening itself, which is called by its two files alone."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and args[0].endswith((".json", ".jsonc")):
            args = [STAGE, *args]
        return super().resolve_command(ctx, args)


screen = typer.Typer(
    cls=_Commands,
    help="Screen candidate crystals by property surrogates, before anything expensive runs: al screen PARAM RESOURCE; "
    "or use a surrogate by itself.",
    no_args_is_help=True,
)
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A published model (formation-energy-per-atom, band-gap, efermi, bulk-moduli …), a checkpoint, or a "
        "folder that a fit left.",
    ),
]
Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT…", help="CIF, POSCAR, extxyz; folders of them, or with id_prop.csv; a .csv with CIFs."
    ),
]
OutFolder = Annotated[
    Path, typer.Option("-o", "--out", metavar="DIR", help="The surrogate: a folder that is not there.")
]
OutTable = Annotated[Path | None, typer.Option("-o", "--out", metavar="TABLE", help="The CSV file to write.")]
Target = Annotated[str | None, typer.Option(metavar="NAME", help="Which known property, where inputs hold several.")]
Unit = Annotated[str, typer.Option(metavar="UNIT", help="Of the property, e.g. eV/atom.")]
Skip = Annotated[bool, typer.Option("--skip", help="Leave out what cannot be read, and say so.")]
Cache = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keep graphs here: CIFs that were read once are not again.")
]
Where = Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")]
Members = Annotated[int, typer.Option(metavar="K", min=1, help="Size of the ensemble.")]
Epochs = Annotated[int, typer.Option(metavar="N", min=1, help="At most.")]
Patience = Annotated[int, typer.Option(metavar="N", min=1, help="Stop after so many epochs that were no better.")]
Rate = Annotated[float, typer.Option("--learning-rate", metavar="RATE", min=1e-9, help="The largest on the way.")]
Dropout = Annotated[float, typer.Option(metavar="SHARE", min=0, max=0.95, help="Of the head, in training.")]
Valid = Annotated[float, typer.Option(metavar="SHARE", min=0.01, max=0.9, help="Of the crystals: says when to stop.")]
Calibrate = Annotated[
    float, typer.Option(metavar="SHARE", min=0.01, max=0.9, help="Of the crystals: scales uncertainties.")
]
Seed = Annotated[int, typer.Option(metavar="N", help="Every draw follows from it.")]


@screen.command(STAGE)
def run_stage(
    param: Annotated[Path, typer.Argument(metavar="PARAM", help="What to do: param.json.")],
    resource: Annotated[Path, typer.Argument(metavar="RESOURCE", help="Where to run it: resource.json.")],
    redo: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE", help="Set this stage, or K/STEP of an iteration, and all later ones aside; make them anew."
        ),
    ] = None,
) -> None:
    """Make candidates, predict, filter, rank: the word may be left out (al screen PARAM RESOURCE)."""
    from al_driver.workflow.verbs import screen as run_screen

    try:
        run_screen(param, resource, redo=redo, display=make_display())
    except KeyboardInterrupt:
        raise Interrupted(GOES_ON) from None


@screen.command()
def predict(
    model: Model,
    inputs: Inputs,
    out: OutTable = None,
    skip: Skip = False,
    cache: Cache = None,
    device: Where = Device.auto,
) -> None:
    """Write id, path and the property of each crystal, with its uncertainty; several models have commas between."""
    from al_driver.live_screen import count_bar
    from al_driver.workflow.surrogates import predict as predict_properties

    models = [name for name in model.split(",") if name]
    with count_bar() as progress:
        table, notes = predict_properties(
            models, inputs, out, skip=skip, cache=cache, device=device.value, progress=progress
        )
    _print_notes(notes)
    n_crystals = table.count("\n") - 1
    sys.stdout.write(f"{out}  {n_crystals} {'crystal' if n_crystals == 1 else 'crystals'}\n" if out else table)


@screen.command()
def fit(
    inputs: Inputs, out: OutFolder, target: Target = None, unit: Unit = "",
    classify: Annotated[bool, typer.Option("--classify", help="The property is 0 or 1.")] = False,
    members: Members = 4, epochs: Epochs = 100, patience: Patience = 30, learning_rate: Rate = 3e-3,
    dropout: Dropout = 0.1, valid: Valid = 0.1, calibrate: Calibrate = 0.15, seed: Seed = 0,
    skip: Skip = False, cache: Cache = None, device: Where = Device.auto,
) -> None:  # fmt: skip
    """Fit a surrogate to crystals with known properties."""
    _fit(
        inputs, out, {"target": target, "unit": unit, "classify": classify},
        {"members": members, "epochs": epochs, "patience": patience, "learning_rate": learning_rate,
         "dropout": dropout, "valid": valid, "calibrate": calibrate, "seed": seed}, skip, cache, device,
    )  # fmt: skip


@screen.command()
def finetune(
    model: Model, inputs: Inputs, out: OutFolder, target: Target = None, unit: Unit = "",
    freeze: Annotated[
        str, typer.Option(metavar="PARTS", help="What stays as it is: embedding, convs, convs.0 …; commas between.")
    ] = "",
    members: Members = 4, epochs: Epochs = 60, patience: Patience = 30, learning_rate: Rate = 2e-3,
    dropout: Dropout = 0.1, valid: Valid = 0.1, calibrate: Calibrate = 0.15, seed: Seed = 0,
    skip: Skip = False, cache: Cache = None, device: Where = Device.auto,
) -> None:  # fmt: skip
    """Go on with a surrogate's weights on crystals with known properties."""
    frozen = tuple(name for name in freeze.split(",") if name)
    _fit(
        inputs, out, {"start": model, "target": target, "unit": unit},
        {"members": members, "epochs": epochs, "patience": patience, "learning_rate": learning_rate, "freeze": frozen,
         "dropout": dropout, "valid": valid, "calibrate": calibrate, "seed": seed}, skip, cache, device,
    )  # fmt: skip


def _fit(
    inputs: list[Path], out: Path, asked: dict[str, Any], settings: dict[str, Any], skip: bool, cache: Path | None,
    device: Device,
) -> None:  # fmt: skip
    from al_driver.live_screen import count_bar, evaluation_table
    from al_driver.screen.job import FitSettings
    from al_driver.workflow.surrogates import fit as fit_surrogate

    with count_bar() as progress:
        found, notes = fit_surrogate(
            inputs, out, settings=FitSettings(**settings), skip=skip, cache=cache, device=device.value,
            progress=progress, **asked,
        )  # fmt: skip
    _print_notes(notes)
    _print_table(evaluation_table(found))
    sys.stdout.write(f"{out}\n")


@screen.command()
def evaluate(
    model: Model, inputs: Inputs, out: OutTable = None, target: Target = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures and a page, DIR/index.html; DIR is not there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    skip: Skip = False, cache: Cache = None, device: Where = Device.auto,
) -> None:  # fmt: skip
    """Compare predictions with known values: errors, and how good each uncertainty is."""
    from al_driver.live_screen import count_bar, evaluation_table
    from al_driver.workflow.surrogates import evaluate as evaluate_surrogate

    with count_bar() as progress:
        found, notes = evaluate_surrogate(
            model, inputs, out, target=target, plots=plots, skip=skip, cache=cache, device=device.value,
            progress=progress,
        )  # fmt: skip
    _print_notes(notes)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    else:
        _print_table(evaluation_table(found))


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        sys.stderr.write(f"{note}\n")


def _print_table(table: object) -> None:
    from al_driver.cli_console import make_console

    make_console().print(table)
