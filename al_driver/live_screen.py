"""What `al screen` shows: how far it is, and how good a surrogate is."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table


@contextlib.contextmanager
def count_bar() -> Iterator[Callable[[str], None]]:
    """Show, in a terminal, the last line of what the program prints."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _line: None
        return
    with console.status("starting …") as status:
        yield lambda line: status.update(line.strip())


def evaluation_table(found: dict[str, Any]) -> Table:
    """Return errors, and how good each uncertainty is: `screen.surrogate.fitting.evaluate`."""
    unit = f" {found['unit']}" if found.get("unit") else ""
    caption = [f"{found['n']} crystals: MAE {found['mae']:.4g}{unit}, RMSE {found['rmse']:.4g}{unit}"]
    if len(found["mae_by_member"]) > 1:
        members = ", ".join(f"{error:.4g}" for error in found["mae_by_member"])
        caption.append(f"MAE of the members: {members}{unit}")
    if "accuracy" in found:
        caption.append(f"on the right side of 0.5: {found['accuracy']:.1%}")
    table = Table(caption="\n".join(caption), caption_justify="left")
    table.add_column("uncertainty")
    for name in ("90 % intervals hold", f"half-width{unit}", "ρ with |error|", "MAE of the surest half", "NLL"):
        table.add_column(name, justify="right")
    for kind, row in found.get("uncertainties", {}).items():
        table.add_row(
            f"{kind} (told)" if kind == found["uncertainty"] else kind, f"{row['coverage']:.1%}",
            f"{row['sharpness']:.4g}", f"{row['spearman']:.2f}", f"{row['sure_half_mae']:.4g}", f"{row['nll']:.3f}",
        )  # fmt: skip
    return table


def add_screen(table: Table, state: dict[str, Any]) -> None:
    """Add a row for each stage of a screening, and for each iteration that labels."""
    labels = [row["label"] for row in state["iterations"] if row["label"]]
    unit = next((stage.get("unit") for stage in state["stages"] if stage["name"] == "rank"), "")
    columns = ("candidates", "known", f"MAE{' ' * bool(unit)}{unit}", "ranked", "selected", "labelled", "rejected")
    for heading in ("stage", *(columns if state["iterations"] else ("candidates", "ranked", "selected"))):
        table.add_column(heading, justify="right")
    stages = {stage["name"]: stage for stage in state["stages"]}
    for name in ("candidates", "predict"):
        if name in stages:
            table.add_row(name, str(stages[name].get("candidates", "")))
    for row in state["iterations"]:
        train, query, label, relax = (row[step] or {} for step in ("train", "query", "label", "relax"))
        mae = f"{train['mae']:.3g}" if train else ""
        rejected = relax.get("dropped", 0) + label["rejected"] if label else ""
        told = (train.get("known", ""), mae, query.get("candidates", ""), query.get("selected", ""))
        table.add_row(str(row["iteration"]), "", *map(str, (*told, label.get("labelled", ""), rejected)))
    if rank := stages.get("rank"):
        counts = [str(rank["ranked"]), str(rank["selected"])]
        n_labelled = str(sum(label["labelled"] for label in labels))
        table.add_row("rank", *(["", "", "", *counts, n_labelled] if state["iterations"] else ["", *counts]))
