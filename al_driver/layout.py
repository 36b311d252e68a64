"""The folder and file names that modules of a run share; a name that one module alone writes and reads stands there."""

from dataclasses import dataclass
from pathlib import Path

PLOTS_DIR = "plots"  # in an iteration's folder, in final/, and at the top of an init_bulk
PLOTS_FILE = "plots.json"  # what each picture was drawn from
STEP_FILE = "step.json"  # written last: the step is finished
BEGUN_FILE = "begun.json"  # written first: what the step's folder is being made from
JOBS_DIR = "jobs"  # what was submitted, and what became of it; ``jobs.<batch>`` where a step runs several batches
DATASET_DIR = "dataset"
VALID_DIR = "valid"
STRUCTURES_DIR = "structures"
LABELLED_FILE = "labelled.extxyz"
REJECTED_FILE = "rejected.jsonl"
QUERY_JOB_FILE = "query.json"  # what the query program is asked
SHORTLIST_FILE = "shortlist.npz"  # candidates that are compared with each other
FEATURES_FILE = "features.npz"  # what they are compared by
SURROGATE_JOB_FILE = "surrogate.json"  # what the program of property surrogates is asked
PREDICTIONS_FILE = "predictions.csv"  # its answer
MODEL_DIR = "model"  # or the surrogate that was fitted
RANKED_FILE = "ranked.csv"  # candidates, the best first
CANDIDATES_FILE = "candidates.extxyz"
RELAXED_FILE = "relaxed.extxyz"
VALUES_FILE = "values.csv"  # of a label step whose reference is a table
KNOWN_FILE = "known.extxyz"  # what a surrogate of a screening learns from
NOTES_FILE = "notes.json"  # beside it: what there is to say of the crystals
SUMMARY_FILE = "summary.json"
FRAMES_FILE = "frames.csv"
SELECTED_FILE = "selected.extxyz"
AUDIT_FRAMES_FILE = "audit.extxyz"  # beside it: the audit frames with the forces of the model that explored
AUDIT_FILE = "audit.json"  # in a label step: the errors of its audit frames
STATEMENT_FILE = "statement.json"  # in the folder of a look: what its closing audit shows
CALIBRATION_FILE = "calibration.json"  # in a train step: what bounds the errors of its models
EVALUATION_FILE = "evaluation.json"
EVALUATION_ARRAYS_FILE = "evaluation.npz"  # beside it: what a parity plot is drawn from
MD_TASKS_FILE = "tasks.json"
CALCULATION_KEYS_FILE = "keys.json"
GROUP_FILE = "group.json"  # in a job's folder: the tasks it carries
CLAIM_FILE = "claim"  # who runs the job, or gave it up
JOURNAL_FILE = "journal.jsonl"  # what became of each of its tasks
DRAIN_FILE = "drain"  # there: the job starts nothing more
SUBMITTED_FILE = "submitted.json"  # executor and job id
ARRAY_FILE = "array.json"  # in an array's folder: its name, and the job folders of its elements
ARRAY_LOG = "%a_log.out"  # beside it: what each element printed itself; SLURM fills in the index
SPOILED_SUFFIX = ".disk"  # of an attempt that is set aside, because its disk took nothing more
CONTINUED_FILE = "continued.json"  # in a task's folder: it went on from an earlier attempt
STOPPED_FILE = "stopped.json"  # beside the jobs: the batch was stopped, too much failed
FAILED_FILE = "failed.json"  # in an attempt's folder: why it failed
RETRIED_FILE = "failed.retried.json"  # the same, once the task is run again in spite of it
ARCHIVE_FILE = "tasks.zip"  # of a finished step: its task folders, where `pack` asks for it
LEDGER_FILE = "frames.jsonl"  # of a labelled set: where each frame is from
SETTINGS_FILE = "settings.json"  # beside it: of each reference, by its hash
STEPS = ("train", "explore", "query", "label")
INIT_STAGES = ("relax", "supercell", "scale", "perturb", "aimd", "label")
SCREEN_STAGES = ("candidates", "predict", "rank")
SCREEN_STEPS = ("train", "query", "relax", "label")  # of an iteration of a screening that labels


TASK_PREFIXES = ("task.", "again.", "model.")  # how the folders of tasks are called


def task_name(index: int) -> str:
    """Return ``task.000012``."""
    return f"task.{index:06d}"


def again_name(index: int) -> str:
    """Return ``again.000012``: the calculation of task.000012 from another start."""
    return f"again.{index:06d}"


def retry_name(index: int) -> str:
    """Return ``retry.003``: in a label step's folder, what `al retry` calculated once more."""
    return f"retry.{index:03d}"


def model_name(index: int) -> str:
    """Return ``model.003``."""
    return f"model.{index:03d}"


def attempt_name(name: str, attempt: int) -> str:
    """Return ``task.000012.try-2``: where an attempt works until it is published as ``task.000012``."""
    return f"{name}.try-{attempt}"


def split_attempt(name: str) -> tuple[str, int] | None:
    """Return the task's name and the attempt's number, set aside or not; None for the name of anything else."""
    task, mark, number = name.removesuffix(SPOILED_SUFFIX).rpartition(".try-")
    return (task, int(number)) if mark and number.isdecimal() else None


def job_name(index: int) -> str:
    """Return ``0004``: the folder of a submitted job."""
    return f"{index:04d}"


def array_name(index: int | str) -> str:
    """Return ``array.0004``: the folder of jobs submitted together; a pattern for a pattern."""
    return f"array.{index:04d}" if isinstance(index, int) else f"array.{index}"


def iteration_name(index: int) -> str:
    """Return ``iter.0003``."""
    return f"iter.{index:04d}"


@dataclass(frozen=True)
class WorkFolder:
    """The folder of a run or of an ``init_bulk``."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "al.log"

    @property
    def lock(self) -> Path:
        return self.root / "al.lock"

    @property
    def stop(self) -> Path:
        """Where `al stop` asks a driver on any host to end."""
        return self.root / "al.stop"

    @property
    def driver(self) -> Path:
        """The driver as `al submit` submitted it; beside it its script and what it printed."""
        return self.root / "driver.json"

    @property
    def history(self) -> Path:
        return self.root / "history.json"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def final(self) -> Path:
        return self.root / "final"

    def closing(self, look: int) -> Path:
        """Return where the closing audit of a look, 1, 2 …, lies: ``explore/``, ``query/``, ``label/``."""
        return self.root / "closing" / f"look.{look:03d}"

    def closing_folders(self) -> list[Path]:
        """Return the folders of the closing audits there are, in order; none that was set aside."""
        return sorted(path for path in self.root.glob("closing/look.*") if ".bak." not in path.name)

    @property
    def dataset(self) -> Path:
        return self.root / DATASET_DIR

    @property
    def valid(self) -> Path:
        return self.root / VALID_DIR

    @property
    def structures(self) -> Path:
        return self.root / STRUCTURES_DIR

    def step(self, iteration: int, step: str) -> Path:
        return self.root / iteration_name(iteration) / step

    def iterations(self) -> list[int]:
        """Return the indices of the iterations that have a folder, in order."""
        found = (folder.name.removeprefix("iter.") for folder in self.root.glob("iter.[0-9]*"))
        return sorted(int(index) for index in found if index.isdecimal())
