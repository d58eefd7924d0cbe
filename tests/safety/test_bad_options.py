"""Policies, options and special files that are none: each is refused in one message, none is waited for."""

import json
import os
import sys

import numpy as np
import pytest

from sepsis_cql.commands import app
from sepsis_cql.commands.output import console, with_output
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.evaluation.policies.base import checked_probabilities
from sepsis_cql.evaluation.policies.load import load_policy

from .refusals import TRIED

MODULES = {
    "no Python": "def act(:\n",
    "raises": "1 / 0\n",
    "leaves": "raise SystemExit(0)\n",
    "lacks it": "def other(states):\n    return states\n",
    "no function": "act = 7\n",
    "a missing import": "import no_such_module_at_all\n",
    "no text": "\0",
}


def test_modules_that_hold_no_policy_are_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for number, (name, source) in enumerate(MODULES.items()):
        TRIED["policies"] += 1
        (tmp_path / f"bad_policy_{number}.py").write_text(source)
        with pytest.raises(SepsisCQLError, match=f"bad_policy_{number}"):
            pytest.fail(f"{name} was taken: {load_policy(f'bad_policy_{number}:act')}")


@pytest.mark.parametrize(
    "spec", ["", "x", "a/b", "a/b@", ":act", "math:", "math:no_such", "x.pt", "x.d3", "../x", "a:b:c", "\n"]
)
def test_specifications_of_no_policy_are_refused(command, inputs, tmp_path, spec):
    replay = inputs["evaluate"][0][1]
    code, printed = command("evaluate", "--policy", spec, "--replay", replay, "--out", tmp_path / "out")
    assert code == 2 and "Traceback" not in printed and "xpected" in printed


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("synthesize", ["--patients", "-1"]),
        ("synthesize", ["--seed", "x"]),
        ("synthesize", ["--seed", "-1"]),
        ("synthesize", ["--set", "synthetic.rendering.cohort=2"]),
        ("synthesize", ["--set", "synthetic.patients.steps_before_onset=[0.5]"]),
        ("synthesize", ["--set", "synthetic.panels.gas.tests=[pao2]"]),
        ("synthesize", ["--set", "synthetic.vital_signs.mood={base: 1, weights: {}, noise: 1}"]),
        ("compare", ["--set", "comparison.grids=5"]),
        ("evaluate", ["--set", "evaluation.seed=-1"]),
        ("train", ["--config", "nothing"]),
        ("train", ["--set", "training.alpha=.nan"]),
        ("train", ["--set", "training.alpha"]),
        ("train", ["--set", "training.no_such=1"]),
        ("train", ["--set", "wrong.alpha=1"]),
        ("train", ["--set", "training.epochs=[1, 2]"]),
        ("train", ["--set", "training.epochs=" + "[" * 5000]),
        ("train", ["--set", "training.epochs=" + "9" * 5000]),
        ("train", ["--set", "training.hidden_sizes=[0]"]),
        ("train", ["--runtime", "cql"]),
        ("train", ["--set", "training.hidden_sizes=[10000000000000]"]),
        ("train", ["--set", "training.batch_size=99999999999999999999"]),
        ("train", ["--set", "runtime.threads=999999999"]),
        ("synthesize", ["--patients", "99999999999999"]),
        ("evaluate", ["--split", "train"]),
        ("evaluate", ["--protocol", "none"]),
        ("evaluate", ["--split", "test", "--selection", "nowhere.json"]),
        ("train", ["--resume", "--force"]),
        ("sweep", ["--resume", "--force"]),
        ("compare", ["--resume", "--force"]),
        ("evaluate", ["--set", "evaluation.resamples=-1"]),
        ("calibrate", ["--jobs", "99999999"]),
        ("evaluate", ["--set", "evaluation.resamples=1e400"]),
        ("build", ["--memory-limit", "much"]),
        ("build", ["--features", "nowhere.yaml"]),
        ("build", ["--set", "replay.step_hours=0"]),
        ("export", ["--format", "zip"]),
    ],
)
def test_wrong_options_are_refused(command, inputs, tmp_path, stage, more):
    code, printed = command(stage, *inputs.get(stage, [[]])[0], "--out", tmp_path / "out", *more)
    assert code == 2 and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/null", "a pipe", "a directory", "a loop"])
@pytest.mark.parametrize("name", ["mine.yaml", "selection.json", "replay.parquet", "policy.pt"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(command, inputs, tmp_path, special, name):
    file = tmp_path / name
    if special == "a pipe":
        os.mkfifo(file)
    elif special == "a directory":
        file.mkdir()
    else:
        file.symlink_to(file if special == "a loop" else special)
    arguments = {
        "mine.yaml": ["synthesize", "--config", file],
        "selection.json": ["evaluate", *inputs["evaluate"][0], "--split", "test", "--selection", file],
        "replay.parquet": ["train", "--replay", file],
        "policy.pt": ["import-checkpoint", file],
    }[name]
    code, printed = command(*arguments, "--out", tmp_path / "out")
    assert code == 2 and "Traceback" not in printed and name in printed
    assert not (tmp_path / "out").exists()


FAILING = {
    "raises": "raise ValueError(f'the first state is {states[0]}')",
    "raises without a text": "assert False",
    "leaves": "raise SystemExit(0)",
    "calls itself": "return act(states)",
    "gives NaN": "return even(states) * np.nan",
    "gives fewer rows": "return even(states)[1:]",
    "gives ragged rows": "return [[1.0], [0.5, 0.5]] * (len(states) // 2)",
    "gives texts": "return np.full((len(states), 25), '37.1')",
    "gives complex numbers": "return even(states) + 0j",
    "gives nothing": "return None",
    "gives values": "return even(states) + 1.0",
    "gives a dose too many": "return np.full(len(states), 25)",
}


@pytest.mark.parametrize("source", FAILING.values(), ids=FAILING)
def test_a_policy_that_fails_on_patients_only_is_refused_without_their_values(tmp_path, monkeypatch, source):
    TRIED["policies"] += 1
    name = f"failing_policy_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(
        "import numpy as np\n"
        "def even(states):\n    return np.full((len(states), 25), 0.04)\n"
        f"def act(states):\n    if len(states) == 4:\n        return even(states)\n    {source}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_policy(f"{name}:act")
    policy = loaded.bind_to(("a", "b"), None, normalized=False)
    assert checked_probabilities(policy, np.zeros((4, 2))).shape == (4, 25)
    with pytest.raises(SepsisCQLError, match=name) as refused:
        checked_probabilities(policy, np.full((60, 2), 37.123))
    assert "37.1" not in str(refused.value)


@pytest.mark.parametrize("closing", ["sys.stdout.close()", "sys.stderr.close()", "os.close(file)"])
def test_a_policy_that_closes_files_of_the_program_ends_in_one_sentence(monkeypatch, tmp_path, closing):
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)

    def call():
        exec(closing, {"sys": sys, "os": os, "file": file})
        print("found")
        os.write(file, b"found")

    for number, name in enumerate(("stdout", "stderr"), start=1):
        monkeypatch.setattr(sys, name, (tmp_path / name).open("w"))
        monkeypatch.setitem(app.STREAMS, name, os.open(tmp_path / f"{number}", os.O_CREAT | os.O_WRONLY))
    monkeypatch.setattr(app, "app", call)
    if "stderr" in closing:
        monkeypatch.setattr(sys, "stdout", sys.stderr)
    with pytest.raises(SystemExit) as ended:
        app.main()
    sys.stderr.flush()
    text = (tmp_path / "stderr").read_text() + (tmp_path / "2").read_text()
    assert ended.value.code == 2 and "closed by what it called" in text


def test_a_policy_may_write_into_the_states_it_is_given():
    def act(states):
        states[np.isnan(states)] = 0.0
        return np.full((len(states), 25), 0.04)

    states = np.full((3, 2), np.nan)
    policy = load_policy(act).bind_to(("a", "b"), None, normalized=False)
    policy.probabilities(states)
    assert np.isnan(states).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_choose_no_dose(bad):
    policy = load_policy(lambda states: np.full((len(states), 25), bad), gives_values=True)
    with pytest.raises(SepsisCQLError, match="a value is no number"):
        policy.bind_to(("a",), None, normalized=False).probabilities(np.zeros((3, 1)))


def test_json_stays_one_object_whatever_a_policy_prints(capsys):
    def function():
        print("printed by a policy")
        console.answer({"a": 1})

    with_output(function)(quiet=False, as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"a": 1} and "printed by" in printed.err
