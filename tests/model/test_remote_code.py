"""What a stranger does with a package: load it by the library alone, without this repository installed."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sepsis_cql.checkpoints.hub_package import save_package
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.pipeline_sepsis_cql import SepsisTreatmentPipeline

STRANGER = """
import importlib.util, json, sys
import pandas as pd
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline

package, rows_file, copy = sys.argv[1:]
assert importlib.util.find_spec("sepsis_cql") is None
rows = pd.read_json(rows_file)
config = AutoConfig.from_pretrained(package, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(package, trust_remote_code=True)
model = AutoModel.from_pretrained(package, trust_remote_code=True)
answers = pipeline(model=package, trust_remote_code=True, device="cpu")(rows)
model.save_pretrained(copy)
again = AutoModel.from_pretrained(copy, trust_remote_code=True)
inputs = extractor(rows, return_tensors="pt")
print(json.dumps({
    "classes": [type(thing).__name__ for thing in (config, extractor, model)],
    "q_values": model(**inputs).q_values.tolist(),
    "copied_q_values": again(**inputs).q_values.tolist(),
    "actions": model.greedy_action(inputs["states"]).tolist(),
    "fluid_edges": config.fluid_edges,
    "answers": answers,
}))
"""


@pytest.fixture
def clinical_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.astype({"heart_rate": float})


@pytest.mark.slow
def test_a_package_serves_a_stranger_like_its_author(
    package: Path,
    model: SepsisCQLModel,
    feature_extractor: SepsisCQLFeatureExtractor,
    clinical_rows: pd.DataFrame,
    tmp_path: Path,
) -> None:
    rows_file = tmp_path / "rows.json"
    clinical_rows.to_json(rows_file)
    # -S leaves out the .pth file by which the editable install finds sepsis_cql
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "HF_HOME": str(tmp_path / "cache"),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-S", "-c", STRANGER, str(package), str(rows_file), str(tmp_path / "copy")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])

    states = feature_extractor(clinical_rows, return_tensors="pt")["states"]
    expected = model(states).q_values.tolist()
    assert answer["classes"] == ["SepsisCQLConfig", "SepsisCQLFeatureExtractor", "SepsisCQLModel"]
    assert answer["q_values"] == expected
    assert answer["copied_q_values"] == expected
    assert answer["fluid_edges"] == model.config.fluid_edges
    assert [row["q_values"] for row in answer["answers"]] == expected
    assert [row["action"] for row in answer["answers"]] == answer["actions"]


def test_the_pipeline_answers_every_row_with_doses(
    model: SepsisCQLModel, feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    pipeline = SepsisTreatmentPipeline(model=model, feature_extractor=feature_extractor, device="cpu")
    answers = pipeline(rows)
    assert len(answers) == len(rows)
    for answer in answers:
        treatment = model.decode_action(int(np.argmax(answer["q_values"])))
        assert answer["action"] == treatment.action
        assert answer["fluid"]["bin"] == treatment.fluid.bin
        assert answer["vasopressor"]["high"] == treatment.vasopressor.high
    assert pipeline(rows.to_dict("records")) == answers
    alone = pipeline(rows.iloc[0].to_dict())
    assert alone[0]["q_values"] == pytest.approx(answers[0]["q_values"], abs=1e-6)


def test_the_pipeline_marks_values_that_no_return_can_have(
    model: SepsisCQLModel, feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    pipeline = SepsisTreatmentPipeline(model=model, feature_extractor=feature_extractor, device="cpu")
    largest = [max(map(abs, answer["q_values"])) for answer in pipeline(rows)]
    assert [answer["beyond_attainable"] for answer in pipeline(rows)] == [None] * len(rows)
    model.config.attainable_return = float(np.median(largest))
    marks = [answer["beyond_attainable"] for answer in pipeline(rows)]
    assert marks == [value > np.median(largest) for value in largest] and len(set(marks)) == 2
    model.config.outputs = "logits"
    assert "beyond_attainable" not in pipeline(rows)[0]


def test_the_pipeline_refuses_a_model_without_statistics(
    feature_extractor: SepsisCQLFeatureExtractor, rows: pd.DataFrame
) -> None:
    model = SepsisCQLModel(SepsisCQLConfig(hidden_sizes=[4]))
    pipeline = SepsisTreatmentPipeline(model=model, feature_extractor=feature_extractor, device="cpu")
    with pytest.raises(ValueError, match="identity"):
        pipeline(rows)


def test_the_pipeline_warns_that_it_is_not_for_care() -> None:
    assert "must not be used" in str(SepsisTreatmentPipeline.__doc__)


def test_packages_hold_the_code_and_data_the_loader_needs(package: Path) -> None:
    assert sorted(file.name for file in package.iterdir()) == [
        "config.json",
        "configuration_sepsis_cql.py",
        "feature_extraction_sepsis_cql.py",
        "model.safetensors",
        "modeling_sepsis_cql.py",
        "pipeline_sepsis_cql.py",
        "preprocessor_config.json",
    ]


def test_a_package_is_written_the_same_twice(
    model: SepsisCQLModel, feature_extractor: SepsisCQLFeatureExtractor, package: Path, tmp_path: Path
) -> None:
    save_package(model, feature_extractor, tmp_path / "again")
    for file in package.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
