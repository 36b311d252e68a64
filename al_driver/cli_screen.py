"""The commands of `al screen`; as in `cli.py`, imports stand inside."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from al_driver.cli_console import make_display

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


@screen.command(STAGE)
def run_stage(
    param: Annotated[Path, typer.Argument(metavar="PARAM", help="What to do: param.json.")],
    resource: Annotated[Path, typer.Argument(metavar="RESOURCE", help="Where to run it: resource.json.")],
    redo: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Set this stage and all later ones aside; make them anew.")
    ] = None,
) -> None:
    """Make candidates, predict, filter, rank: the word may be left out (al screen PARAM RESOURCE)."""
    from al_driver.workflow.verbs import screen as run_screen

    run_screen(param, resource, redo=redo, display=make_display())


@screen.command()
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A published model (formation-energy-per-atom, band-gap, efermi, bulk-moduli …), a checkpoint, or a "
            "folder that a fit left; several with commas between.",
        ),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT…", help="CIF, POSCAR, extxyz; folders of them, or with id_prop.csv; a .csv with CIFs."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="TABLE", help="The CSV file to write; printed otherwise.")
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out what cannot be read, and say so.")] = False,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep graphs here: CIFs that were read once are not again.")
    ] = None,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")] = Device.auto,
) -> None:
    """Write id, path and the property of each crystal, with its uncertainty where the model has one."""
    from rich.console import Console

    from al_driver.live import count_bar
    from al_driver.workflow.surrogates import predict as predict_properties

    console = Console(stderr=True)
    models = [name for name in model.split(",") if name]
    with count_bar(console, "crystals") as progress:
        table, notes = predict_properties(
            models, inputs, out, skip=skip, cache=cache, device=device.value, progress=progress
        )
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    n_crystals = table.count("\n") - 1
    sys.stdout.write(f"{out}  {n_crystals} {'crystal' if n_crystals == 1 else 'crystals'}\n" if out else table)
