"""Settings come from the package, from a file the user names or from --set: never from the working directory."""

from pathlib import Path

import pytest
import yaml

from sepsis_cql.common.errors import SettingsError
from sepsis_cql.common.strict import (
    SHIPPED,
    Settings,
    find_settings,
    load_settings,
    load_shipped,
    parse_changes,
)
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.replay.settings import Features, load_build_settings


def test_a_file_in_the_working_directory_never_stands_in_for_a_shipped_one(tmp_path, monkeypatch):
    expected = load_shipped(Features, "features.yaml")
    (tmp_path / "features.yaml").write_text("features: {}\n")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "features.yaml").write_text("features: {}\n")
    monkeypatch.chdir(tmp_path)
    assert load_shipped(Features, "features.yaml") == expected
    assert load_build_settings().features == expected
    assert find_settings("features") == SHIPPED / "features.yaml"


@pytest.mark.parametrize("name", ["features.yaml", "./features.yaml", "somewhere/features.yml"])
def test_what_ends_like_a_file_is_the_users_file(name):
    assert find_settings(name) == Path(name)


@pytest.mark.parametrize("name", ["nothing", "../configs/cql", "cql.yml/..", "", "*"])
def test_a_name_that_is_not_shipped_is_refused_with_those_that_are(name):
    with pytest.raises(SettingsError, match=r"not the name of shipped settings .*behavior_cloning, .*cql.*"):
        find_settings(name)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["training.alpha=0.5"], {"training": {"alpha": 0.5}, "evaluation": {}}),
        (["training.hidden_sizes=[64, 32]"], {"training": {"hidden_sizes": [64, 32]}, "evaluation": {}}),
        (
            ["evaluation.gates.minimum_ess=100", "evaluation.gates.recommended=wdr", "evaluation.seed=1"],
            {"training": {}, "evaluation": {"gates": {"minimum_ess": 100, "recommended": "wdr"}, "seed": 1}},
        ),
        (["training.seed=1", "training.seed=2"], {"training": {"seed": 2}, "evaluation": {}}),
        (["training.threads=null"], {"training": {"threads": None}, "evaluation": {}}),
        (["training.note=a=b"], {"training": {"note": "a=b"}, "evaluation": {}}),
    ],
)
def test_set_reaches_every_field_of_a_section(lines, expected):
    assert parse_changes(lines, ["training", "evaluation"]) == expected


@pytest.mark.parametrize(
    "line",
    [
        "alpha=1",
        "training=1",
        "replay.seed=1",
        "training.alpha",
        ".alpha=1",
        "training..x=1",
        "training.a=[1",
        "=1",
    ],
)
def test_a_change_that_names_no_setting_of_the_command_is_refused(line):
    with pytest.raises(SettingsError, match=r"--set .*(section of training|not valid YAML)"):
        parse_changes([line], ["training"])


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tilt_temperatures": [0]}, "tilt_temperatures.0"),
        ({"clinician_shares": [1.5]}, "clinician_shares.0"),
        ({"tails": {"shares": [0.1, 0]}}, "tails.shares.1"),
        ({"behavior": {"temperatures": [0]}}, "temperatures.0"),
        ({"behavior": {"marginal_shares": [2]}}, "marginal_shares.0"),
        ({"behavior": {"perceptron": {"hidden_layer_sizes": [0]}}}, "hidden_layer_sizes.0"),
        ({"diagnostics": {"age_strata": [50, 18]}}, "age_strata.*ascending order"),
        ({"diagnostics": {"sofa_strata": []}}, "sofa_strata"),
        ({"gates": {"recommended": "nonsense"}}, r"gates.*found \['nonsense'\], expected estimators"),
        ({"gates": {"independent": "observed"}}, "found .'observed'"),
        ({"gates": {"recommended": "fqe_bounded", "families": []}}, "with an interval"),
    ],
)
def test_settings_that_no_evaluation_could_end_with_are_refused_at_once(changes, found):
    with pytest.raises(SettingsError, match=found):
        load_shipped(EvaluationSettings, "evaluation.yaml", changes)


def test_a_change_of_one_field_of_a_mapping_leaves_the_others():
    changed = load_shipped(EvaluationSettings, "evaluation.yaml", {"gates": {"minimum_ess": 7.0}})
    shipped = load_shipped(EvaluationSettings, "evaluation.yaml")
    assert changed.gates.minimum_ess == 7
    assert changed.gates.families == shipped.gates.families
    assert changed.model_copy(update={"gates": shipped.gates}) == shipped


def test_a_privacy_threshold_can_be_raised_but_not_lowered():
    shipped = "evaluation.yaml"
    raised = load_shipped(EvaluationSettings, shipped, {"diagnostics": {"smallest_cell": 25}})
    assert raised.diagnostics.smallest_cell == 25
    with pytest.raises(SettingsError, match=r"smallest_cell.*greater than or equal to 10"):
        load_shipped(EvaluationSettings, shipped, {"diagnostics": {"smallest_cell": 9}})


class Example(Settings):
    """One number."""

    number: int


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("number: one", "number"),
        ("nmber: 1", "nmber"),
        ("- 1", "expected a mapping"),
        ("number: [", "not valid YAML"),
        ("", "expected a mapping"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_field(tmp_path, text, found):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=rf"mine\.yaml: .*{found}"):
        load_settings(Example, file)


def test_every_shipped_file_is_valid_yaml_with_a_comment_on_top():
    for file in SHIPPED.glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# "), file.name
        assert isinstance(yaml.safe_load(text), dict), file.name
