"""A comparison gives every learner the same budget, chooses on validation and says what may be said."""

import json

import pytest
import yaml
from matplotlib.axes import Axes
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import SepsisCQLError, SettingsError
from sepsis_cql.common.provenance import ROOT, git_commit
from sepsis_cql.common.strict import SHIPPED, load_settings, read_record
from sepsis_cql.evaluation.comparison.figure import draw_comparison
from sepsis_cql.evaluation.comparison.record import Comparison, ComparisonSettings
from sepsis_cql.evaluation.comparison.show import list_rows, render_table, say_findings
from sepsis_cql.evaluation.original_protocol import original_metrics
from sepsis_cql.evaluation.policies.load import load_policy
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.training.learners.registry import LEARNERS
from sepsis_cql.training.sweep.ledger import read_ledger

SMALL = """
seeds: [1, 2]
schedule: {epochs: 2, batch_size: 64, hidden_sizes: [8]}
epsilon: 0.5
support_threshold: 0.01
grids:
  cql: {target_update_epochs: [1], alpha: [0.1, 3.0]}
  behavior_cloning: {learning_rate: [0.001, 0.01]}
"""
CHANGES = (
    "fqe={refits: 3, features: 4, components: 2}",
    "validation={refits: 3, resamples: 5}",
    "resamples=20",
    "truth_episodes=100",
    "tilt_temperatures=[5.0]",
    "clinician_shares=[0.5]",
)


def run(*arguments):
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def made(trip, tmp_path_factory, rendering):
    """A comparison on the test split, and its ledger."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "small.yaml").write_text(SMALL)
    values = yaml.safe_load((SHIPPED / "evaluation.yaml").read_text())
    for change in CHANGES:
        name, _, value = change.partition("=")
        read = yaml.safe_load(value)
        values[name] = values[name] | read if isinstance(read, dict) else read
    values["behavior"]["models"] = ["multinomial logistic"]
    (folder / "rules.yaml").write_text(yaml.safe_dump(values))
    common = [
        "--replay",
        trip.replay,
        "--config",
        folder / "small.yaml",
        "--evaluation",
        folder / "rules.yaml",
    ]
    common += ["--out", folder / "out", "--split", "test", "--why", "a test", "--ledger", folder / "ledger"]
    with rendering():
        output = run(*common)
    return folder, common, output


@pytest.mark.slow
def test_every_seed_of_every_learner_and_what_is_made_of_them_is_judged_on_the_test_split(made):
    folder, _, output = made
    found = read_record(Comparison, folder / "out" / "comparison.json", expected="")
    seeds = {one.name: [result.seed for result in one.seeds] for one in found.learners}
    assert seeds == {
        "cql": [1, 2],
        "cql, ensemble of seeds": [None],
        "cql, defer to clinicians": [None],
        "behavior_cloning": [1, 2],
    }
    assert {one.n_configurations for one in found.learners if one.configuration} == {2}
    assert found.split == "test"
    assert found.git_commit == git_commit()
    assert found.clinicians_true_value is not None
    for one in found.learners:
        for result in one.seeds:
            assert result.true_value is not None
            assert result.true_value_as_it_acts is not None
            assert (result.published_fqe is None) == (one.name not in ("cql", "cql, ensemble of seeds"))
            assert result.verdict.label != "better than clinicians"  # of so few episodes
    assert render_table(found) in (folder / "out" / "comparison.md").read_text()
    assert all(line in output for line in say_findings(found))
    picture = (folder / "out" / "comparison.png").read_bytes()
    assert picture[:4] == b"\x89PNG" and len(picture) > 10_000
    policies = {entry.policy_sha256 for entry in read_ledger(folder / "ledger")}
    assert len(policies) == 5  # four networks, and what was made of two of them


def test_the_published_wis_comes_with_the_episodes_that_it_rests_on(made, trip):
    folder, _, _ = made
    found = read_record(Comparison, folder / "out" / "comparison.json", expected="")
    (package,) = (folder / "out" / "cql" / "runs").glob(
        f"*alpha{found.learners[0].configuration['alpha']:g}_seed2"
    )
    replay = open_replay(trip.replay)
    states = replay.transitions("test", "sparse")
    policy = load_policy(str(package / "package")).bind(states, replay)
    expected = original_metrics(states, policy.q_values(states.states), gamma=found.gamma, n_resamples=5)
    second = found.learners[0].seeds[1]
    assert second.published_ess == pytest.approx(expected.ess)
    assert second.published_wis == pytest.approx(expected.wis_mean)


def make_comparison(**seeds):
    """The committed comparison with learners of these names, each one seed with these changes."""
    found = read_committed("synthetic")
    first = found.learners[0]
    learners = [
        first.model_copy(update={"name": name, "seeds": [first.seeds[0].model_copy(update=changes)]})
        for name, changes in seeds.items()
    ]
    return found.model_copy(update={"learners": learners})


def test_a_published_wis_on_few_episodes_is_no_result_and_leads_nowhere(tmp_path, monkeypatch):
    found = make_comparison(
        lucky={"published_wis": 14.25, "published_ess": 1.0},
        thin={"published_wis": 12.5, "published_ess": 60.0},
        solid={"published_wis": 5.5, "published_ess": 200.0},
        worse={"published_wis": 4.5, "published_ess": 150.0},
    )
    shown = list_rows(found, ("learner", "published WIS", "its ESS"))[:-1]
    assert shown == [
        ["lucky", "failed", "1.00"],
        ["thin", "12.50", "60.00"],
        ["solid", "5.50", "200.00"],
        ["worse", "4.50", "150.00"],
    ]
    said = " ".join(say_findings(found))
    assert "By the published WIS solid leads: 5.50." in said
    assert "The published WIS of 2 of 4 policies leads nowhere" in said
    assert "the 150 effective episodes that the verdict asks for; of 1 on fewer than two" in said
    drawn = {}
    monkeypatch.setattr(
        Axes, "plot", lambda axes, x, *_, label="", **__: drawn.update({label: list(x)}), raising=True
    )
    draw_comparison(found, tmp_path / "figure.png")
    assert drawn["published: WIS"] == [5.5, 4.5]
    assert drawn["published: WIS, few episodes"] == [12.5]


def test_a_sound_value_that_rests_on_one_episode_is_no_result():
    found = make_comparison(one={"ess": 1.0}, many={"ess": 200.0})
    columns = ("sound value", "difference")
    by_weights = found.model_copy(update={"recommended": "wis"})
    assert list_rows(by_weights, columns)[0] == ["failed", "failed"]
    assert "failed" not in list_rows(by_weights, columns)[1]
    assert "failed" not in list_rows(found, columns)[0]  # its evaluator rests on no weights


def test_who_leads_unidentified_is_said_so_beside_who_leads_of_the_identified():
    first = read_committed("synthetic").learners[0].seeds[0]
    name = "fqe_cross_fitted"

    def worth(value, label):
        estimate = first.estimates[name].model_copy(update={"value": value})
        verdict = first.verdict.model_copy(update={"label": label})
        return {"estimates": first.estimates | {name: estimate}, "verdict": verdict}

    found = make_comparison(
        bold=worth(9.0, "cannot be identified"),
        calm=worth(6.0, "not better than clinicians"),
    )
    said = say_findings(found)
    assert said[0].endswith("chose bold leads: 9.00, which cannot be identified.")
    assert said[1] == "Of those that can be identified with every seed, by the same calm leads: 6.00."


def read_committed(name):
    return read_record(Comparison, ROOT / "benchmarks" / f"learners_{name}.json", expected="")


@pytest.mark.parametrize("name", ["icu_sepsis", "synthetic"])
def test_the_page_shows_the_committed_comparison(name):
    found, page = read_committed(name), (ROOT / "docs" / "learners.md").read_text()
    assert render_table(found) in page
    assert all(f"- {line}\n" in page for line in say_findings(found))


def test_equal_learners_lead_together():
    found = read_committed("synthetic")
    first = found.learners[0]
    last = [one.model_copy(update={"published_fqe": one.published_fqe - 1}) for one in first.seeds]
    others = [
        first.model_copy(update=update) for update in ({"name": "twin"}, {"name": "last", "seeds": last})
    ]
    said = say_findings(found.model_copy(update={"learners": [first, *others]}))
    assert any("cql; twin are equal and lead" in line for line in said)


def test_validation_chose_the_configuration_and_a_resumed_comparison_is_the_same(made):
    folder, common, _ = made
    before = (folder / "out" / "comparison.json").read_text()
    stage = json.loads((folder / "out" / "cql" / "stage1_evaluation.json").read_text())
    chosen = json.loads(before)["learners"][0]["configuration"]
    assert chosen["alpha"] == stage["top_configs"][0]["cql_alpha"]
    run(*common, "--resume")
    assert (folder / "out" / "comparison.json").read_text() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learners", "cql,sac"], r"--learners: found \['sac'\]"),
        (["--learners", "cql,cql"], "expected different names"),
        (["--seeds", "9"], "--seeds: found 9, expected at most the 5"),
        (["--split", "test"], "no reason was given"),
        (
            ["--set", "comparison.grids.cql.alpha=[1.0]"],
            "grids: found .*'cql': 1.* as many for every learner",
        ),
    ],
)
def test_what_would_not_be_a_comparison_is_refused(trip, tmp_path, options, message):
    with pytest.raises(SepsisCQLError, match=message):
        run("--replay", trip.replay, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_the_shipped_grids_name_every_learner_and_give_each_as_many_configurations():
    settings = load_settings(ComparisonSettings, SHIPPED / "comparison.yaml", {})
    assert set(settings.grids) == set(LEARNERS)
    with pytest.raises(SettingsError, match="as many for every learner"):
        load_settings(ComparisonSettings, SHIPPED / "comparison.yaml", {"grids": {"cql": {"alpha": [1.0]}}})
