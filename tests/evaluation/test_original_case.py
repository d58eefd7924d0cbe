import json

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.evaluation.record import load_evaluation


@pytest.fixture(scope="module")
def case(shared, tmp_path_factory):
    out = tmp_path_factory.mktemp("case") / "evaluation"
    checkpoint = shared / "published" / "cql_epoch0160_step0088000.pt"
    replay = shared / "published" / "evaluation_case" / "replay_test.parquet"
    arguments = ["evaluate", "--policy", checkpoint, "--replay", replay, "--out", out]
    options = ["--split", "test", "--protocol", "published", "--set", "evaluation.resamples=200"]
    result = CliRunner().invoke(app, [*map(str, arguments), *options], catch_exceptions=False)
    assert result.exit_code == 0
    expected = json.loads((replay.parent / "expected.json").read_text())
    expected.pop("wis_1000")
    return out, expected


def test_published_case_gives_every_published_number(case):
    out, expected = case
    found = load_evaluation(out).model_dump()
    found |= found["published"]
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_published_file_has_the_published_fields(case):
    out, expected = case
    found = json.loads((out / "final_test_evaluation.json").read_text())
    names = "checkpoint split fqe_mean fqe_lower fqe_upper wis_mean wis_lower wis_upper ess n_episodes"
    assert list(found) == [*names.split(), "bootstrap_resamples", "ci_level", "status"]
    assert {name: found[name] for name in expected if name in found} == pytest.approx(
        {name: expected[name] for name in expected if name in found}, abs=1e-6
    )


def test_published_numbers_alone_identify_nothing(case):
    assert load_evaluation(case[0]).verdict.label == "cannot be identified"
