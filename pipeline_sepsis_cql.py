"""Clinical rows in, the policy's treatments out, as a transformers pipeline.

Research artefact on retrospective data; never use it for patient care.
"""

from dataclasses import asdict
from typing import Any

from torch import Tensor
from transformers import AutoModel, BatchFeature, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

TASK = "sepsis-treatment"


class SepsisTreatmentPipeline(Pipeline):
    """The treatment with the largest estimated value, or probability, for each clinical row.

    RESEARCH ONLY. The output is what a policy learned from retrospective records would have chosen. It is not
    a treatment recommendation, the model has never been validated prospectively, and it must not be used for
    the care of any patient.
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def __call__(self, rows: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """Return one answer a row.

        Args:
            rows: whatever the feature extractor takes; rows of one stay must come together, so that values
                are carried forward.
            kwargs: the library's own pipeline arguments.

        Returns:
            For each row: action (0 to 24), vasopressor and fluid (each bin, low, high and unit of the dose
            range; low exclusive, high inclusive, None where open or not published), and q_values, logits or both (25
            numbers each) as `config.outputs` says. With q_values comes beyond_attainable: whether any of them lies
            beyond the largest return that can be attained and so cannot be true; None where that return is not known.
        """
        return super().__call__({"rows": rows}, **kwargs)

    def _sanitize_parameters(self) -> tuple[dict, dict, dict]:
        return {}, {}, {}

    def preprocess(self, inputs: dict[str, Any]) -> BatchFeature:
        """Return the states of the rows; a model without statistics to normalize them with is refused."""
        if self.model.config.normalization == "identity":
            raise ValueError(
                "config.normalization: found 'identity'. This model takes already normalized inputs, and the "
                "statistics to make them from clinical rows were never released; use a model with its own."
            )
        return self.feature_extractor(inputs["rows"], return_tensors="pt")

    def _forward(self, inputs: BatchFeature) -> dict[str, Tensor]:
        return self.model(**inputs)

    def postprocess(self, outputs: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Return treatments and values as plain Python values."""
        actions = self.model.preferences(outputs).argmax(dim=1).tolist()
        answers = [asdict(self.model.decode_action(action)) for action in actions]
        for name, values in outputs.items():
            for answer, row in zip(answers, values.tolist(), strict=True):
                answer[name] = row
        if "q_values" in outputs:
            bound = self.model.config.attainable_return
            for answer, row in zip(answers, outputs["q_values"], strict=True):
                answer["beyond_attainable"] = None if bound is None else bool((row.abs() > bound).any())
        return answers


PIPELINE_REGISTRY.register_pipeline(TASK, SepsisTreatmentPipeline, pt_model=AutoModel)
