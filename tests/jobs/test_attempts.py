"""Whose fault it was, and what is told of it."""

import signal
from dataclasses import replace

import pytest
from batch_program import make_task

from al_driver.errors import EngineError
from al_driver.jobs.attempts import (
    Attempt,
    Ending,
    Failure,
    conclude,
    describe_failures,
    find_attempts,
    forgive,
    is_judged,
    judge,
    read_failures,
    write_failure,
)


@pytest.mark.parametrize(
    ("ending", "detail"),
    [
        (Ending(code=0), None),
        (Ending(code=1), None),
        (Ending(code=127), None),
        (Ending(code=-11), None),  # a segmentation fault is the program's own
        (Ending(code=-6), None),
        (Ending(code=-9), "killed by signal 9"),
        (Ending(code=137), "killed by signal 9"),
        (Ending(code=143), "killed by signal 15"),
        (Ending(code=-15, timed_out=90), "ran longer than 1.5 min"),
        (Ending(error="its job was killed"), "its job was killed"),
        (Ending(), "its end was not seen"),
    ],
)
def test_the_machine_is_told_from_the_physics(ending, detail):
    assert ending.machine_detail() == detail


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL])
def test_a_crash_is_known_from_every_launcher(number):
    codes = (-number, 128 + number, 256 - number)  # as a child, under a shell, under the wheel's Python
    assert all(Ending(code=code).is_crash and Ending(code=code).machine_detail() is None for code in codes)
    assert not Ending(code=-number, timed_out=60).is_crash


@pytest.mark.parametrize("code", [None, 0, 1, 11, -9, 137, 247, -15, 143, 241])
def test_other_endings_are_no_crash(code):
    assert not Ending(code=code).is_crash


@pytest.mark.parametrize(("code", "published"), [(-11, True), (139, True), (245, True), (-9, False), (1, False)])
def test_what_a_crash_left_is_published_if_the_task_can_use_it(tmp_path, code, published):
    asked = []
    attempt = Attempt(replace(make_task(tmp_path / "t", "true"), salvage=asked.append), 1)
    attempt.folder.mkdir()
    assert (judge(attempt, Ending(code=code)) is None) == published == attempt.task.folder.exists()
    assert asked == ([attempt.folder] if published else [])


def test_a_crash_that_left_nothing_of_use_is_a_failure_in_the_words_of_the_task(tmp_path):
    def refuse(folder):
        raise EngineError("engine_error", folder, "no frame")

    attempt = Attempt(replace(make_task(tmp_path / "t", "true"), salvage=refuse), 1)
    attempt.folder.mkdir()
    failure = judge(attempt, Ending(code=-11))
    assert (failure.detail, failure.final) == ("no frame (exit status -11)", True)
    assert not attempt.task.folder.exists()


@pytest.mark.parametrize(("code", "final", "reason"), [(-9, False, "engine_error"), (1, True, "no_output")])
def test_an_attempt_without_a_result_is_not_published(tmp_path, code, final, reason):
    attempt = Attempt(make_task(tmp_path / "t", "true"), 1)
    attempt.folder.mkdir()
    failure = judge(attempt, Ending(code=code))
    assert (failure.final, failure.reason) == (final, reason) and not attempt.task.folder.exists()


def test_a_last_failure_tells_all_before_it(tmp_path):
    failure = Failure("timeout", "ran longer than 2 min", tmp_path, final=False)
    assert not conclude(failure, ["killed by signal 9"], 2).final
    last = conclude(failure, ["killed by signal 9", "ran longer than 2 min"], 2)
    assert last.final and last.detail == "killed by signal 9; ran longer than 2 min, 2 times"


def test_failures_on_disk_count_until_they_are_forgiven(tmp_path):
    task = make_task(tmp_path / "t", "true")
    first, third = (Attempt(task, number) for number in (1, 3))
    for attempt in (first, third):
        write_failure(Failure("timeout", "slow", attempt.folder, final=attempt is third))
    Attempt(task, 2).folder.mkdir()
    (tmp_path / "t.try-x").mkdir()
    (tmp_path / "other.try-9").mkdir()
    assert find_attempts([task]) == {"t": 3}
    failures = read_failures(task, 3)
    assert [failure.final for failure in failures] == [False, True] and is_judged(third)
    for failure in failures:
        forgive(failure)
    assert read_failures(task, 3) == [] and is_judged(third) and not is_judged(Attempt(task, 2))


def test_the_commonest_reason_is_told(tmp_path):
    tasks = {name: make_task(tmp_path / name, "true") for name in "abcd"}
    failed = {"a": Failure("timeout", "slow", tmp_path / "a.try-1")}
    failed |= {name: Failure("scf_unconverged", f"{name} is hard", tmp_path / f"{name}.try-1") for name in "bc"}
    assert describe_failures(failed, tasks).splitlines() == [
        "3 of 4 tasks failed, too many to go on; 2 times scf_unconverged, first: b is hard",
        f"  Look at {tmp_path}/b.try-1",
        "  Mend the cause, then run the same command again: what is finished is kept, what failed is run anew.",
    ]
