"""What a package does once it is loaded: its pipeline, its files, and classes that transformers knows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoModel

from sepsis_cql.checkpoints.hub_package import save_package
from sepsis_cql.checkpoints.registration import register_lazily
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.pipeline_sepsis_cql import SepsisTreatmentPipeline


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


def test_classes_register_at_once_where_transformers_is_imported_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AutoModel._model_mapping, "_extra_content", {})
    assert SepsisCQLConfig not in AutoModel._model_mapping
    register_lazily()
    assert SepsisCQLConfig in AutoModel._model_mapping
