"""What a job writes while it runs, and who may run it.

``journal.jsonl`` takes one line an event from the one runner of a job; ``claim`` says who that is, and appears whole
or not at all: a job whose claim is taken, by a runner or by a driver that gave the job up, is run by nobody else.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

from al_driver.layout import CLAIM_FILE, JOURNAL_FILE


def claim_job(folder: Path, holder: dict[str, Any]) -> bool:
    """Take a job, unless it is taken. A hard link is atomic on shared file systems too."""
    draft = folder / f".{CLAIM_FILE}.{os.getpid()}.{threading.get_ident()}"
    try:
        draft.write_text(json.dumps(holder))
        (folder / CLAIM_FILE).hardlink_to(draft)
    except FileExistsError:
        return draft.stat().st_nlink == 2  # NFS may report the repetition of a link that it made
    finally:
        draft.unlink(missing_ok=True)
    return True


def read_claim(folder: Path) -> dict[str, Any] | None:
    """Return who took a job; None while it is free. One that a dying machine left damaged is nobody's we know."""
    try:
        claim: dict[str, Any] = json.loads((folder / CLAIM_FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {"by": "runner", "host": "", "pid": -1, "started": None}
    return claim


class Journal:
    """The writing end. Threads may share it. A full disk loses lines, never the run: the driver then looks itself."""

    def __init__(self, folder: Path) -> None:
        self._stream = (folder / JOURNAL_FILE).open("ab", buffering=0)
        self._lock = threading.Lock()
        self._torn = False

    def write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}).encode() + b"\n"
        with self._lock:
            try:
                written = self._stream.write(b"\n" + line if self._torn else line)
                self._torn = written < len(line)
            except OSError:
                self._torn = True

    def close(self) -> None:
        self._stream.close()


class JournalReader:
    """The reading end: each call returns what is new since the last."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_FILE
        self._offset = 0

    def read(self, *, surely: bool = False) -> list[dict[str, Any]]:
        """Return the whole lines that were added; a damaged one is left out.

        Parameters
        ----------
        surely
            Do not trust a size that a network file system may remember from before: to open a file asks the server.
        """
        try:
            if not surely and self._path.stat().st_size == self._offset:
                return []
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                text = stream.read()
        except FileNotFoundError:
            return []
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        return [event for line in text.splitlines() if (event := _parse(line)) is not None]


def read_last_runs(jobs_dir: Path) -> dict[str, dict[str, Any]]:
    """Return, by task, the host and the seconds of what ended last of it in any job of a batch."""
    runs: dict[str, dict[str, Any]] = {}
    for folder in sorted(jobs_dir.glob("*/")):
        host = None
        for event in JournalReader(folder).read():
            host = event.get("host", host)  # the first line tells it
            if event.get("event") == "end" and "seconds" in event:
                runs[event["task"]] = {"host": host, "seconds": event["seconds"]}
    return runs


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
