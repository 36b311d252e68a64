"""The commands `al stop` and `al submit`; as in `cli.py`, imports stand inside."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def stop(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="A work folder.")] = Path(),
) -> None:
    """End a run's driver, on whatever host, and its own jobs; the same command as before goes on later."""
    from al_driver.workflow.stop import stop as stop_run

    n_jobs = stop_run(directory)
    sys.stdout.write(f"stopped; jobs ended without their driver: {n_jobs}. The same command goes on.\n")


def submit(
    param: Annotated[Path, typer.Argument(metavar="PARAM", help="What to do: param.json.")],
    resource: Annotated[Path, typer.Argument(metavar="RESOURCE", help="Where to run it: resource.json.")],
    partition: Annotated[
        str | None, typer.Option(help="Where the driver runs; as `default` of the resource file when left out.")
    ] = None,
    time: Annotated[
        int | None, typer.Option(metavar="MINUTES", min=5, help="How long at once; the partition's own when left out.")
    ] = None,
) -> None:
    """Run the driver itself as a small SLURM job, which is queued again when its time is up."""
    from al_driver.workflow.submit import submit as submit_driver

    job_id, log = submit_driver(param, resource, partition=partition, minutes=time)
    sys.stdout.write(f"the driver is SLURM job {job_id}; what it prints is in {log}\n")
