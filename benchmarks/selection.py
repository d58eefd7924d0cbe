"""What the two-stage protocol chooses on ICU-Sepsis, where every policy's value is exact.

    python benchmarks/selection.py --out DIR

trains the grid of `configs/sweep.yaml` (less the reward that ICU-Sepsis has no counterpart of) on simulated
episodes, chooses once by the sound metric and once as published, and compares both choices with the truth. The
sweeps stay in DIR/sweep, the result goes to DIR/selection.json.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.provenance import package_versions
from sepsis_cql.common.storage import write_json
from sepsis_cql.common.strict import SHIPPED, load_shipped, parse_changes, read_record
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.evaluation.known_truth.calibrate import collect
from sepsis_cql.evaluation.known_truth.environments import FiniteEnvironment
from sepsis_cql.evaluation.known_truth.icu_sepsis import load_icu_sepsis
from sepsis_cql.evaluation.known_truth.settings import CalibrationSettings, CaseSettings
from sepsis_cql.evaluation.policies.base import QPolicy
from sepsis_cql.evaluation.policies.load import policy_of_model
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.validation_score import score_policy
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.replay.directory import ReplayFile
from sepsis_cql.replay.interop.exports import write_original
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.devices import load_runtime
from sepsis_cql.training.learners.cql import CQLSettings
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.outputs import read_run_record
from sepsis_cql.training.records import Score, Scores
from sepsis_cql.training.sweep.jobs import SCORES
from sepsis_cql.training.sweep.protocol import Sweep, SweepSettings

STATE_NAMES = SepsisCQLConfig().state_names
CASE = CaseSettings(
    environment="icu-sepsis", training=12_062, scored=2_585, behavior="estimated"
)  # as published


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--set", action="append", default=[], help="as training.epochs=20 or runtime.precision=bf16"
    )
    arguments = parser.parse_args()
    changes = parse_changes(arguments.set, ["training", "runtime"])
    protocol = load_shipped(SweepSettings, "sweep.yaml", {"grid": {"reward_variant": ["sparse"]}})
    training = load_training_settings(SHIPPED / "cql.yaml", changes["training"])
    runtime = load_runtime(None, changes["runtime"])
    judge = TrueJudge(arguments.out / "train.parquet")
    choices = {}
    for metric in ("fqe", "published"):
        sweep = Sweep(
            judge.replay,
            arguments.out / "sweep",
            protocol.model_copy(update={"metric": metric}),
            training,
            runtime,
            judge,
            report=lambda job, progress: (
                print(job.runs[0].out.name) if progress.epoch == progress.epochs else None
            ),
        )
        (arguments.out / "sweep" / "selection.json").unlink(missing_ok=True)  # of the metric before
        sweep.open(resume=metric == "published", force=metric == "fqe")
        selection = sweep.select(sweep.run_stage2(sweep.run_stage1()))
        chosen = load_package(arguments.out / "sweep" / "selected" / "package")
        choices[metric] = {"run": selection.validation.run, "true value": judge.true_value(chosen)}
    result = {
        "choice": choices,
        **compare(arguments.out / "sweep" / "runs", judge.truths),
        "true value, clinicians": judge.icu.true_value(judge.icu.clinicians),
        "true value, optimal": judge.icu.true_value(np.eye(25)[judge.icu.optimal_q.argmax(axis=1)]),
        "epochs": training.epochs,
        "runtime": runtime.model_dump(),
        "versions": package_versions("torch", "numpy", "icu-sepsis"),
    }
    write_json(arguments.out / "selection.json", result)
    print(result)


class WideIcuSepsis(FiniteEnvironment):
    """ICU-Sepsis with its 47 features in the first of this package's 62 inputs and zeros in the others."""

    def sample(self, n_episodes: int, seed: int) -> Transitions:
        """Episodes treated by the clinicians."""
        data = super().sample(n_episodes, seed)
        return replace(
            data,
            states=widen(data.states),
            next_states=widen(data.next_states),
            state_names=tuple(STATE_NAMES),
        )


def widen(states: np.ndarray) -> np.ndarray:
    """(n, 62) of (n, 47)."""
    return np.pad(states, ((0, 0), (0, len(STATE_NAMES) - states.shape[1])))


class TrueJudge:
    """Scores networks as a sweep does, and notes their true values.

    Attributes:
        replay: file of the training episodes.
        truths: true value of the greedy policy of each network scored, by its mean largest Q-value.
    """

    def __init__(self, replay: Path) -> None:
        self._settings = load_shipped(EvaluationSettings, "evaluation.yaml")
        self.icu = load_icu_sepsis(self._settings.gamma, self._settings.bound)
        self.replay = ReplayFile(replay)
        self.truths: dict[float, float] = {}
        calibration = load_shipped(CalibrationSettings, "calibration.yaml")
        environment = WideIcuSepsis(CASE, self._settings.gamma, self._settings.bound)
        self._data = collect(environment, CASE, calibration, self._settings)
        write_original(self._data.train, replay)

    def __call__(self, model: SepsisCQLModel) -> Score:
        """What a sweep asks of a scorer."""
        policy = policy_of_model(model).bind(self._data.scored, self.replay)
        assert isinstance(policy, QPolicy)
        score = score_policy(policy, self._data, self._settings)
        assert score.published_fqe is not None
        self.truths[score.published_fqe] = self.true_value(model)
        return score

    def true_value(self, model: SepsisCQLModel) -> float:
        """Exact value of a network's greedy policy."""
        policy = policy_of_model(model).bind(self._data.scored, self.replay)
        return self.icu.true_value(policy.probabilities(widen(self.icu.features)))


def compare(runs: Path, truths: dict[float, float]) -> dict[str, Any]:
    """How each metric orders all scored checkpoints, and what each alpha is truly worth."""
    rows: list[tuple[float, Score, float]] = []
    for directory in sorted(runs.iterdir()):
        settings = read_run_record(directory).settings
        assert isinstance(settings, CQLSettings)
        for score in read_record(Scores, directory / SCORES, expected="the scores of a run").scores:
            assert score.published_fqe is not None
            rows.append((settings.alpha, score, truths[score.published_fqe]))
    true = [value for *_, value in rows]
    return {
        "n_runs": len(list(runs.iterdir())),
        "n_policies": len(rows),
        "spearman with truth": {
            name: round(float(spearmanr([getattr(score, name) for _, score, _ in rows], true).statistic), 3)
            for name in ("fqe", "fqe_lower", "published_fqe", "published_wis")
        },
        "n_policies that pass the gates": sum(score.passes_gates for _, score, _ in rows),
        "true value": {"best": max(true), "median": statistics.median(true), "worst": min(true)},
        "mean true value by alpha": {
            f"{alpha:g}": round(statistics.fmean(value for found, _, value in rows if found == alpha), 3)
            for alpha in sorted({alpha for alpha, *_ in rows})
        },
        "mean largest Q by alpha": {
            f"{alpha:g}": round(
                statistics.fmean(score.published_fqe or 0.0 for found, score, _ in rows if found == alpha), 3
            )
            for alpha in sorted({alpha for alpha, *_ in rows})
        },
    }


if __name__ == "__main__":
    main()
