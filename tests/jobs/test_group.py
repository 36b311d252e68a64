"""What a task's shell reads, and what it never reads: names, arguments and values of the user are words, not code."""

import signal
from pathlib import Path

import pytest
from batch_program import make_task, run_scripts, verify_result, write_nothing

from al_driver.errors import TasksFailed
from al_driver.files import read_json
from al_driver.jobs.batch import run_batch
from al_driver.jobs.group import shell_prefix
from al_driver.jobs.task import Task
from al_driver.schema.resource import Profile

NASTY = "a b'c\"d\n$(touch {0}/ran)`touch {0}/ran`;touch {0}/ran&&*~\\"


@pytest.mark.parametrize("executor", ["inline", "local"])
@pytest.mark.parametrize("setup", [(), ("true",)])
def test_nothing_of_a_users_words_is_run(tmp_path, executor, setup):
    nasty = NASTY.format(tmp_path)
    folder = tmp_path / 'it\'s $(touch ran) "x"\n`touch ran`; y'
    task = make_task(folder / "t $(touch ran)", 'printf %s "$1" > result; printf %s "$VALUE" > value', nasty)
    profile = Profile(executor=executor, setup=setup, env={"VALUE": nasty})
    assert run_batch([task], profile, jobs_dir=folder / "jobs").done == (task,)
    assert (task.folder / "result").read_text() == nasty == (task.folder / "value").read_text()
    assert not list(tmp_path.rglob("ran"))


def test_a_program_with_an_odd_name_is_run_as_it_is(tmp_path):
    program = tmp_path / "my $(touch ran) prog\nram"
    program.write_text("#!/bin/sh\ntouch result\n")
    program.chmod(0o755)
    for setup in [(), ("true",)]:
        task = Task(tmp_path / f"t{len(setup)}", (str(program),), write_nothing, verify_result)
        assert run_batch([task], Profile(executor="inline", setup=setup), jobs_dir=tmp_path / "jobs").done == (task,)
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_setup_lines_reach_the_child_alone(tmp_path, executor):
    """A module that sets PYTHONPATH must not reach our interpreter: a broken `json` there would end the job."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/json.py").write_text("raise ImportError('the site’s own')")
    (tmp_path / "rc file.sh").write_text("export FROM_FILE=yes\n")
    profile = Profile(
        executor=executor,
        source=(tmp_path / "rc file.sh",),
        setup=(f"export PYTHONPATH={tmp_path}/site", "export BOTH=$FROM_FILE.$GIVEN"),
        env={"GIVEN": "env"},
    )
    result = run_scripts(tmp_path, {"t": 'echo "$PYTHONPATH $BOTH" > result'}, profile)
    assert len(result.done) == 1
    assert (tmp_path / "t/result").read_text() == f"{tmp_path}/site yes.env\n"


def test_modules_are_loaded_by_the_childs_shell(tmp_path):
    (tmp_path / "modules.sh").write_text(
        'module() { echo "module $*" > loaded; export MODULE="$2"; }\nexport -f module\n'
    )
    profile = Profile(
        executor="inline", modules=("vasp/6.4", "$(touch ran)"), env={"BASH_ENV": str(tmp_path / "modules.sh")}
    )
    assert len(run_scripts(tmp_path, {"t": 'echo "$MODULE" > result'}, profile).done) == 1
    assert (tmp_path / "t/loaded").read_text() == "module load vasp/6.4 $(touch ran)\n"
    assert (tmp_path / "t/result").read_text() == "vasp/6.4\n"


def test_a_setup_line_that_fails_ends_the_task_and_is_seen(tmp_path):
    """It says nothing of the task: the same command goes on when it is mended, and nothing was rejected."""
    broken, sound = Profile(executor="inline", setup=("cd /no/such/place",)), Profile(executor="inline")
    with pytest.raises(
        TasksFailed, match=r"1 of 1 tasks failed, .*: cannot be started: modules, source or setup lines"
    ):
        run_scripts(tmp_path, {"t": "touch result"}, broken)
    assert "/no/such/place" in (tmp_path / "t.try-3/output").read_text()  # a node may be to blame: it had three
    assert len(run_scripts(tmp_path, {"t": "touch result"}, sound).done) == 1


def test_one_task_of_many_that_cannot_begin_is_a_failure_like_any_other(tmp_path):
    profile = Profile(executor="inline", retries=0, setup=("case $PWD in *t0.try-*) no-such-program;; esac",))
    result = run_scripts(tmp_path, {"t0": "touch result", "t1": "touch result"}, profile)
    assert len(result.done) == 1 and result.failed["t0"].detail.startswith("cannot be started: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGXCPU])
def test_a_signal_while_the_shell_prepares_is_no_fault_of_the_site(tmp_path, number):
    """A scheduler that ends a job may reach the shell before the program has begun."""
    profile = Profile(
        executor="inline",
        retries=1,
        setup=(f"[ -e {tmp_path}/again ] || {{ touch {tmp_path}/again; kill -{int(number)} $$; }}",),
    )
    assert len(run_scripts(tmp_path, {"t": "touch result"}, profile).done) == 1
    assert read_json(tmp_path / "t.try-1/failed.json")["detail"] == f"killed by signal {int(number)}"


def test_no_shell_without_need():
    assert shell_prefix(Profile(env={"X": "1"})) == []
    script = shell_prefix(Profile(modules=("a b",), source=("/x y",), setup=("ulimit -s unlimited",)))[2]
    assert script.splitlines() == [
        "set -e",
        "trap '[ $? -gt 128 ] || exit 113' EXIT",
        '[ -n "$(type -t module)" ] || . /etc/profile',
        "module load 'a b'",
        ". '/x y'",
        "ulimit -s unlimited",
        'exec "$@"',
    ]


def test_programs_beside_the_interpreter_need_no_activation(tmp_path):
    task = Task(tmp_path / "t", ("python", "-c", "open('result', 'w').write('x')"), write_nothing, verify_result)
    profile = Profile(executor="inline", env={"PATH": str(tmp_path)})
    assert run_batch([task], profile, jobs_dir=tmp_path / "jobs").done == (task,)
    assert Path(tmp_path / "t/result").read_text() == "x"
