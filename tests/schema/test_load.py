"""Reading JSON as people write it, and telling every problem at once."""

import json
import os
from pathlib import Path

import pytest
from test_malformed import INIT, RESOURCE, RUN

from al_driver.errors import ConfigError
from al_driver.schema.init_bulk import InitBulkParams
from al_driver.schema.jsonc import read_jsonc
from al_driver.schema.load import kind_of, load_params, load_sound
from al_driver.schema.resource import Resources
from al_driver.schema.run import RunParams

ODD = [None, True, 0, -1, 0.5, 10**400, "", "x", "~nobody-of-this-name", [], ["x"], [[]], {}, {"x": 1}, "\ud800", "é\n"]


def _write(folder: Path, content: object, name: str = "param.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_comments_are_allowed_but_not_inside_texts(tmp_path):
    text = """// first
    { "url": "http://a/*b*/", /* one
      two */ "quote": "\\" // no comment", // last
      "n": 1 } // end"""
    assert read_jsonc(_write(tmp_path, text)) == {"url": "http://a/*b*/", "quote": '" // no comment', "n": 1}


def test_positions_stay_right_behind_comments(tmp_path):
    with pytest.raises(ConfigError, match=r"param.json:3:15: a colon"):
        read_jsonc(_write(tmp_path, '/* a\n b */ // c\n{ /* d */ "a" 1}').with_name("param.json"))


def test_a_byte_order_mark_does_no_harm(tmp_path):
    file = tmp_path / "param.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(RESOURCE).encode())
    assert load_params(file, Resources).default.workers == 2


def test_paths_start_at_the_folder_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    file = _write(tmp_path / "deep", RUN | {"init_data": ["../init", "/abs/data"], "work_dir": "~/w"})
    monkeypatch.chdir(tmp_path)
    params = load_params(Path("deep/param.json"), RunParams)
    assert [source.path for source in params.init_data] == [tmp_path / "deep/../init", Path("/abs/data")]
    assert params.work_dir == Path.home() / "w"
    assert params.explore.structures[0].path == tmp_path / "deep/POSCAR"
    assert load_params(file, RunParams) == params


def test_the_work_dir_lies_beside_the_file_unless_set(tmp_path):
    assert load_params(_write(tmp_path, RUN), RunParams).work_dir == tmp_path / "work"
    assert load_params(_write(tmp_path, INIT), InitBulkParams).work_dir == tmp_path / "init"


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path):
    _write(tmp_path, RUN)
    with pytest.raises(ConfigError, match=r"parm.json: does not exist; did you mean 'param.json'\?"):
        load_params(tmp_path / "parm.json", RunParams)
    with pytest.raises(ConfigError, match=r"does not exist; there is no folder .*nowhere"):
        load_params(tmp_path / "nowhere" / "param.json", RunParams)


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder; a JSON file was expected"):
        load_params(tmp_path, RunParams)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    file = _write(tmp_path, RUN)
    file.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_params(file, RunParams)


def test_every_problem_is_told_at_once_and_in_the_users_own_terms(tmp_path):
    content = json.loads(json.dumps(RUN))
    content["sed"] = content.pop("seed")
    content["explore"]["iterations"][1][0] |= {"ensemble": "NPT", "tau_p": -1}
    content["query"]["uppper"] = content["query"].pop("upper")
    content["train"]["models"] = 2.5
    with pytest.raises(ConfigError) as caught:
        load_params(_write(tmp_path, content), RunParams)
    found = {problem.key: problem.message for problem in caught.value.problems}
    assert set(found) == {
        "sed", "explore.iterations[1][0].ensemble", "explore.iterations[1][0].tau_p", "query.uppper", "train.models",
    }  # fmt: skip
    assert found["query.uppper"] == "there is no such key; did you mean 'upper'?"


def test_what_does_not_fit_together_is_told_at_once_too(tmp_path):
    content = json.loads(json.dumps(RUN)) | {"label": "trut"}
    content["train"]["models"] = 1
    content["explore"]["iterations"][1][0]["structures"] = ["bulg", 9]
    with pytest.raises(ConfigError) as caught:
        load_params(_write(tmp_path, content), RunParams)
    assert [problem.key for problem in caught.value.problems] == [
        "label", "explore.iterations[1][0].structures[0]", "explore.iterations[1][0].structures[1]", "train.models",
    ]  # fmt: skip


def test_a_part_that_does_not_fit_hides_nothing_around_it(tmp_path):
    content = json.loads(json.dumps(RUN)) | {"label": "trut"}
    content["train"]["models"] = 1
    content["query"] |= {"lower": 0.3, "upper": 0.1, "score_power": 2.0}
    content["explore"]["iterations"][1][0] |= {"structures": ["bulg"], "dump_every": 10**6}
    with pytest.raises(ConfigError) as caught:
        load_params(_write(tmp_path, content), RunParams)
    assert [problem.key for problem in caught.value.problems] == [
        "explore.iterations[1][0]", "query", "query", "label", "explore.iterations[1][0].structures[0]", "train.models",
    ]  # fmt: skip
    params, problems = load_sound(tmp_path / "param.json", RunParams)
    assert (params, problems) == (None, [*caught.value.problems])


@pytest.mark.parametrize("label", ["emt", {"engine": "emt"}])
def test_a_calculator_is_named_under_the_engine_ase(tmp_path, label):
    with pytest.raises(ConfigError, match=r'"emt\b|\'emt\'') as caught:
        load_params(_write(tmp_path, RUN | {"label": label}), RunParams)
    assert str(caught.value).endswith('{"engine": "ase", "calculator": "ase.calculators.emt.EMT"}')


def test_two_checks_of_one_object_are_both_told(tmp_path):
    content = json.loads(json.dumps(RESOURCE))
    content["query"] = {"command": "python", "pack": True}
    with pytest.raises(ConfigError) as caught:
        load_params(_write(tmp_path, content), Resources)
    assert [problem.key for problem in caught.value.problems] == ["query.command", "query.pack"]


def test_a_covariance_needs_one_model_and_says_so_by_itself(tmp_path):
    content = json.loads(json.dumps(RUN))
    assert load_params(_write(tmp_path, content), RunParams).train.models == 4
    content["query"]["uncertainty"] = "kpu"
    del content["train"]["models"]
    params = load_params(_write(tmp_path, content), RunParams)
    assert params.train.models == 1
    assert "kalman_memory" in params.train.phase_identity("first")


def _paths(content: object, path: tuple = ()) -> list[tuple]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(deeper for key, value in items for deeper in _paths(value, (*path, key)))]


@pytest.mark.parametrize(("kind", "base"), [(RunParams, RUN), (InitBulkParams, INIT), (Resources, RESOURCE)])
def test_an_odd_value_anywhere_is_accepted_or_told_and_never_a_traceback(kind, base, tmp_path):
    told = 0
    for path in _paths(base)[1:]:
        for odd in ODD:
            content = json.loads(json.dumps(base))
            place = content
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = odd
            try:
                load_params(_write(tmp_path, content), kind)
            except ConfigError as error:
                told += 1
                assert all(len(str(problem)) < 600 for problem in error.problems)
                str(error).encode()
    assert told > len(_paths(base))


@pytest.mark.parametrize(
    ("content", "kind"), [(RUN, "run"), (INIT, "init_bulk"), ({"explore": 1, "structures": 2}, "run")]
)
def test_which_command_a_file_is_for(content, kind, tmp_path):
    assert kind_of(_write(tmp_path, content)) == kind


def test_a_file_for_no_command_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"needs `explore` \(al run\) or `structures` .*; did you mean 'explore'\?"):
        kind_of(_write(tmp_path, {"seed": 1, "explor": {}}))
    with pytest.raises(ConfigError, match=r"found none of them$"):
        kind_of(_write(tmp_path, {"seed": 1}))
