"""The figures of the campaign in the documents are those of its record, and nothing in it failed."""

import json
import re
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from sepsis_cql.benchmarks.attacks.processes import CALIBRATION, COMPARISON
from sepsis_cql.benchmarks.campaign import CLASSES, tried_in_modules
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.strict import load_settings
from sepsis_cql.evaluation.comparison.record import ComparisonSettings
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings


def test_the_page_shows_the_record_of_every_class_and_nothing_failed():
    record = json.loads((ROOT / "benchmarks" / "campaign.json").read_text())
    page = (ROOT / "docs" / "campaign.md").read_text()
    rows = re.findall(r"^\| (\w+) \|.*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    shown = {name: [int(number.replace(",", "")) for number in numbers] for name, *numbers in rows}
    keys = ("tried", "held", "failed")
    found = {name: [row[key] for key in keys] for name, row in record["classes"].items()}
    whole = [record["all"][key] for key in keys]
    assert shown == found | {"all": whole}
    assert list(found) == list(CLASSES)
    assert [sum(column) for column in zip(*found.values(), strict=True)] == whole
    assert all(tried == held > 0 and not failed for tried, held, failed in found.values())


@pytest.mark.parametrize(
    ("model", "text"), [(CalibrationSettings, CALIBRATION), (ComparisonSettings, COMPARISON)]
)
def test_the_settings_that_the_campaign_runs_commands_with_are_whole(tmp_path, model, text):
    (tmp_path / "mine.yaml").write_text(text)
    assert load_settings(model, tmp_path / "mine.yaml").model_dump()


def test_cases_that_several_modules_count_together_are_counted_once(monkeypatch):
    before, shared = sum(tried_in_modules().values()), Counter({"tables": 3, "records": 4})
    for name in ("one", "two"):
        monkeypatch.setitem(sys.modules, f"made_up.tests.{name}", SimpleNamespace(TRIED=shared))
    assert sum(tried_in_modules().values()) == before + 7
