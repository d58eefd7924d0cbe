"""What the two-stage protocol chooses on ICU-Sepsis, where every policy's value is exact.

    python benchmarks/selection.py --out DIR

trains the grid of `configs/sweep.yaml` (less the reward variant that ICU-Sepsis has no counterpart of) on simulated
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

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
from sepsis_cql.evaluation.calibration import CalibrationSettings, CaseSettings, collect
from sepsis_cql.evaluation.icu_sepsis import load_icu_sepsis
from sepsis_cql.evaluation.loading import policy_of_model
from sepsis_cql.evaluation.policies import QPolicy
from sepsis_cql.evaluation.scoring import score_policy, scoring_settings
from sepsis_cql.evaluation.truths import IcuSepsisTruth
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.packages import load_package
from sepsis_cql.provenance import package_versions
from sepsis_cql.replay.exports import write_published
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.storage import read_json, write_json
from sepsis_cql.training.devices import load_runtime
from sepsis_cql.training.ranking import Score
from sepsis_cql.training.settings import TrainingSettings
from sepsis_cql.training.sweep import Sweep, SweepSettings

STATE_NAMES = SepsisCQLConfig().state_names
CASE = CaseSettings(
    environment="icu-sepsis", training=12_062, scored=2_585, behavior="estimated"
)  # as published


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--precision", default=None)
    parser.add_argument("--compiled", action="store_true", default=None)
    arguments = parser.parse_args()
    protocol = load_settings(SweepSettings, Path("sweep.yaml"), {})
    protocol = protocol.model_copy(
        update={"grid": protocol.grid.model_copy(update={"reward_variant": ["sparse"]})}
    )
    training = load_settings(TrainingSettings, Path("cql.yaml"), {"epochs": arguments.epochs})
    runtime = load_runtime(None, {"precision": arguments.precision, "compiled": arguments.compiled})
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
            report=lambda stack, progress: (
                print(stack.runs[0].out.name) if progress.epoch == progress.epochs else None
            ),
        )
        (arguments.out / "sweep" / "selection.json").unlink(missing_ok=True)  # of the metric before
        sweep.open(resume=metric == "published", force=metric == "fqe")
        selection = sweep.select(sweep.run_stage2(sweep.run_stage1()))
        chosen = load_package(arguments.out / "sweep" / "selected" / "package")
        choices[metric] = {"run": selection["validation"]["run"], "true value": judge.true_value(chosen)}
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


class WideIcuSepsis(IcuSepsisTruth):
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
        self.icu, self.replay = load_icu_sepsis(), replay
        self.truths: dict[float, float] = {}
        self._settings = scoring_settings()
        calibration = load_settings(CalibrationSettings, Path("calibration.yaml"), {})
        self._scene = collect(WideIcuSepsis([]), CASE, calibration, self._settings)
        write_published(self._scene.train, replay)

    def __call__(self, model: SepsisCQLModel) -> dict[str, Any]:
        """What a sweep asks of a scorer."""
        policy = policy_of_model(model).bind(self._scene.scored, self.replay)
        assert isinstance(policy, QPolicy)
        score = score_policy(policy, self._scene, self._settings)
        self.truths[score["published_fqe"]] = self.true_value(model)
        return score

    def true_value(self, model: SepsisCQLModel) -> float:
        """Exact value of a network's greedy policy."""
        policy = policy_of_model(model).bind(self._scene.scored, self.replay)
        return self.icu.true_value(policy.probabilities(widen(self.icu.features)))


def compare(runs: Path, truths: dict[float, float]) -> dict[str, Any]:
    """How each metric orders all scored checkpoints, and what each alpha is truly worth."""
    rows: list[tuple[float, Score, float]] = []
    for directory in sorted(runs.iterdir()):
        alpha = read_json(directory / "training.json", expected="the record of a run")["settings"]["alpha"]
        for fields in read_json(directory / "scores.json", expected="the scores of a run"):
            score = Score(**fields)
            rows.append((alpha, score, truths[score.published_fqe]))
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
                statistics.fmean(score.published_fqe for found, score, _ in rows if found == alpha), 3
            )
            for alpha in sorted({alpha for alpha, *_ in rows})
        },
    }


if __name__ == "__main__":
    main()
