"""The commands on data: `al convert`, `al gather`, `al explain`, `al filter`; as in `cli.py`, imports stand inside."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from al_driver.cli_console import make_console


def convert(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT…", help="Files, patterns, or folders to search.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="A folder that is not there yet, or FILE.extxyz.")
    ],
    format: Annotated[
        str | None, typer.Option("--from", metavar="FMT", help="Format of the inputs, where it is not recognised.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="FORMAT", help="deepmd/npy, or extxyz.")] = None,
    every: Annotated[int, typer.Option(metavar="N", help="Take each N-th step of each file.")] = 1,
    valid: Annotated[
        float, typer.Option(metavar="FRACTION", help="Hold this share back, of a trajectory as a block.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the draw of single frames for --valid.")] = 0,
    type_map: Annotated[
        list[str] | None,
        typer.Option("--type-map", metavar="Si,O", help="Order of the elements; alphabetical when left out."),
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", min=1, help="Files read side by side.")] = None,
) -> None:
    """Convert OUTCAR, vasprun.xml, pw.x, CP2K, MOVEMENT, extxyz, LAMMPS dumps and deepmd sets to training data."""
    from al_driver.errors import ConfigError
    from al_driver.live import file_bar, log_to, print_conversion
    from al_driver.workflow.convert import convert as convert_files

    console = make_console()
    log_to(console)
    elements = [name for part in type_map or [] for name in part.replace(",", " ").split()]
    with file_bar(console) as progress:
        result = convert_files(
            inputs, out, format=format, to=to, every=every, valid=valid, seed=seed, type_map=elements,
            workers=workers, progress=progress,
        )  # fmt: skip
    print_conversion(result, console)
    if result.refused:
        raise ConfigError(result.refused)


def gather(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Work folders, or folders that hold some at any depth.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="A folder that is not there yet, or FILE.extxyz.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="deepmd/npy, deepmd/npy/mixed where compositions are many, or extxyz; by the ending when left out.",
        ),
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Take labels of different references together.")
    ] = False,
) -> None:
    """Write every frame that runs labelled as one dataset, each frame once; what is for validation stays out."""
    from al_driver.live import log_to
    from al_driver.workflow.gather import gather as gather_sets

    log_to(make_console())
    gather_sets(directories, out, to=to, allow_mixed=allow_mixed)


def explain(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET[:INDEX]", help="A labelled set, a system of it, or an extxyz file.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell where labelled frames are from, what chose them and what calculated them; of one frame with :INDEX."""
    from al_driver.live_explain import lineage_table
    from al_driver.workflow.explain import explain as read_lineage

    told = read_lineage(dataset)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    else:
        make_console().print(lineage_table(told))


def filter_frames(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The run's folder.")] = Path(),
    lower: Annotated[float | None, typer.Option(help="Below it a frame is accurate.")] = None,
    upper: Annotated[float | None, typer.Option(help="From it on a frame has failed.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="FLOAT|EL=FLOAT,…",
            help="In their place: the wanted force error, eV/Å, or one per element: Si=0.1,C=0.2.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what another window or target would have selected, from the stored scores; nothing is run or written."""
    from al_driver.live import filter_table
    from al_driver.workflow.filter import Rule, filter_run, read_target

    found = filter_run(directory, Rule(lower, upper, read_target(target)))
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    else:
        make_console().print(filter_table(found))
