"""The evaluate command on the open demo, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.evaluation.policies.base import FunctionPolicy, checked_probabilities
from sepsis_cql.evaluation.policies.load import load_policy
from sepsis_cql.evaluation.record import load_evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    values = yaml.safe_load((SHIPPED / "evaluation.yaml").read_text())
    values["fqe"] |= {"refits": 3, "features": 8, "components": 2}
    values["clinician_shares"] = [0.5]
    config = folder / "evaluation.yaml"
    config.write_text(yaml.safe_dump(values))

    def run(policy, replay, *options):
        out = folder / f"out{len(list(folder.iterdir()))}"
        arguments = ["--policy", policy, "--replay", replay, "--out", out, "--config", config]
        arguments += ["--set", "evaluation.resamples=50", *options]
        result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return out

    return run


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    (folder / "little_fluid.py").write_text(
        "import numpy as np\n\n\ndef act(states):\n    return np.eye(25)[[0]].repeat(len(states), 0) * 0.5 "
        "+ 0.5 / 25\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "little_fluid:act"


def test_demo_is_evaluated_end_to_end_and_identifies_nothing(run, policy, demo_replay):
    out = run(policy, demo_replay, "--split", "validation", "--protocol", "sound", "--sensitivity")
    found = load_evaluation(out)
    assert len(found.sensitivity) == 9 and found.sensitivity[0].name == "as evaluated"
    assert [one.role for one in found.policies] == [
        "learned",
        "softened",
        *["baseline"] * 4,
        "clinicians",
    ]
    assert found.verdict.label == "cannot be identified"
    assert found.n_episodes == "<10"  # seven patients: too few to count
    page = (out / "report.html").read_text()
    assert found.verdict.label in page
    assert 'src="data:image/png' in page and "http" not in page


def test_clone_keeps_all_weight_and_the_observed_return(run, policy, demo_replay):
    found = load_evaluation(run(policy, demo_replay, "--protocol", "sound"))
    clone, clinicians = (
        next(one for one in found.policies if one.name == name)
        for name in ("clone of the clinicians", "clinicians")
    )
    assert clone.weights.ess_share == pytest.approx(1)
    assert clone.estimates["wis"].value == pytest.approx(clinicians.estimates["observed"].value)
    assert clone.weights.mean_weight == pytest.approx(1)


def test_test_split_is_counted_and_a_second_policy_needs_a_reason(run, policy, demo_replay, tmp_path):
    import shutil

    replay = tmp_path / "replay"
    shutil.copytree(demo_replay, replay)
    options = ["--split", "test", "--protocol", "sound"]
    assert load_evaluation(run(policy, replay, *options)).test_split_uses == 1
    (Path(tmp_path) / "second_policy.py").write_text("from little_fluid import act\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        with pytest.raises(SepsisCQLError, match="already used for 1 policy"):
            run("second_policy:act", replay, *options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "not found"),
        ("name/repository", "revision"),
        ("no_such_module:act", "cannot be imported"),
        ("math:pi", "expected a function"),
        ("model.d3", "not found"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(spec, message):
    with pytest.raises(SepsisCQLError, match=message):
        load_policy(spec)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.full((3, 25), 0.05), "not probabilities"),
        (np.full((3, 24), 1 / 24), "returned shape"),
        (np.full((3, 25), np.nan), "not probabilities"),
        (np.tile(np.r_[1.5, -0.5, np.zeros(23)], (3, 1)), "not probabilities"),
    ],
)
def test_answers_that_are_no_probabilities_are_refused(answer, message):
    with pytest.raises(SepsisCQLError, match=message):
        checked_probabilities(FunctionPolicy("wrong", lambda states: answer), np.zeros((3, 62)))


def test_a_single_file_has_no_training_split_for_the_sound_protocol(run, policy, shared):
    file = shared / "published" / "evaluation_case" / "replay_test.parquet"
    with pytest.raises(SepsisCQLError, match="training split"):
        run(policy, file, "--protocol", "sound")


def test_published_metrics_need_values_before_the_test_split_is_entered(run, policy, demo_replay, tmp_path):
    options = ["--protocol", "published", "--split", "test", "--ledger", tmp_path / "ledger"]
    with pytest.raises(SepsisCQLError, match="has no values"):
        run(policy, demo_replay, *options)
    assert not (tmp_path / "ledger").exists()
