"""How often the membership audit errs: networks that never saw a patient, ordinary ones, and ones that memorize.

    python benchmarks/membership.py --replay outputs/run/replay --out publishing/membership/measured.json

In each repetition the patients of a simulated replay are divided anew into three groups of the same size. A network
learns from the first. The audit is then told that it learned from the second, which is not true: whatever it finds is a
false alarm. It is told the truth, too, and the same with a network that was trained until it memorizes.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.privacy import round_count
from sepsis_cql.common.strict import SHIPPED
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.publishing.membership.audit import attack, describe_audit
from sepsis_cql.publishing.membership.record import MembershipAudit, audit_settings
from sepsis_cql.replay.directory import open_replay
from sepsis_cql.replay.transitions import Transitions
from sepsis_cql.training.data import TrainingData, load_training_data
from sepsis_cql.training.learners.registry import load_training_settings
from sepsis_cql.training.run import Run, train_runs
from sepsis_cql.training.settings import RuntimeSettings, TrainingSettings

ORDINARY = {"alpha": 3.0, "learning_rate": 0.0003, "epochs": 40, "hidden_sizes": [64, 64], "batch_size": 1024}
MEMORIZING = ORDINARY | {"epochs": 100, "learning_rate": 0.003, "batch_size": 256}
COLUMNS = ("states", "actions", "rewards", "next_states", "terminals", "subject_id", "step_index")


def main() -> None:
    """Repeat the audit and write the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replay", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=900, help="of each repetition, in three groups")
    parser.add_argument("--repetitions", type=int, default=30)
    given = parser.parse_args()
    found: dict[str, list[MembershipAudit]] = {"never seen": [], "ordinary": [], "memorizing": []}
    replay = open_replay(given.replay)
    data = load_training_data(replay, ["sparse"])
    pool = [replay.transitions(split, "sparse") for split in ("train", "validation", "test")]
    for seed in range(given.repetitions):
        groups = draw_groups(pool, given.patients, seed)
        for kind, changes in (("ordinary", ORDINARY), ("memorizing", MEMORIZING)):
            for name, audit in repeat(data, groups, kind, changes, seed).items():
                found[name].append(audit)
        print(seed, {name: strongest(audits[-1]) for name, audits in found.items()}, flush=True)
    given.out.write_text(json.dumps(summarize(found, given.patients), indent=2) + "\n", encoding="utf-8")


def draw_groups(pool: list[Transitions], patients: int, seed: int) -> list[Transitions]:
    """Return the steps of three groups of patients."""
    columns = {name: np.concatenate([getattr(part, name) for part in pool]) for name in COLUMNS}
    chosen = np.random.default_rng(seed).permutation(np.unique(columns["subject_id"]))[:patients]
    groups = []
    for members in np.split(chosen, 3):
        is_in = np.isin(columns["subject_id"], members)
        own: dict[str, Any] = {name: column[is_in] for name, column in columns.items()}
        stays = np.concatenate([part.stay_id for part in pool])[is_in]
        groups.append(dataclasses.replace(pool[0], **own, stay_id=stays))
    return groups


def repeat(
    data: TrainingData, groups: list[Transitions], kind: str, changes: dict, seed: int
) -> dict[str, MembershipAudit]:
    """Train on the first group; audit with it and, for an ordinary network, with the second group as members."""
    rule = audit_settings().model_copy(update={"seed": seed})
    settings = load_training_settings(
        SHIPPED / "cql.yaml", changes | {"seed": seed, "checkpoint_epochs": changes["epochs"]}
    )
    audits = {}
    with tempfile.TemporaryDirectory() as folder:
        model = train(data, groups[0], settings, Path(folder, "target"))
        claims = {kind: groups[0]} | ({"never seen": groups[1]} if kind == "ordinary" else {})
        for name, members in claims.items():
            claimed = dataclasses.replace(data, transitions=members)
            scores = attack(model, settings, claimed, groups[2], rule, Path(folder, name))
            audits[name] = describe_audit(scores, "0" * 64, data.fingerprint, members, groups[2], rule)
    return audits


def train(data: TrainingData, members: Transitions, settings: TrainingSettings, out: Path) -> SepsisCQLModel:
    """Train a network on one group."""
    learned = dataclasses.replace(data, transitions=members, rewards={"sparse": members.rewards})
    train_runs(
        [Run(settings, out)],
        learned,
        RuntimeSettings(device="cpu", threads=1),
        checkpoints=out / "checkpoints",
        report=lambda progress: None,
    )
    return load_package(out / "package")


def summarize(found: dict[str, list[MembershipAudit]], patients: int) -> dict:
    """Return what the card states."""
    return {
        "repetitions": len(found["ordinary"]),
        "patients": round_count(patients // 3),
        "kinds": {
            name: {
                "median_auroc": round(float(np.median([strongest(audit) for audit in audits])), 3),
                "above_chance": sum(surely_at_least(audit) > 0.5 for audit in audits),
                "refused": sum(audit.memorizes for audit in audits),
                "cleared": sum(audit.is_cleared for audit in audits),
            }
            for name, audits in found.items()
        },
    }


def strongest(audit: MembershipAudit) -> float:
    """AUROC of the strongest attack."""
    return max(attack.auroc for attack in audit.attacks.values())


def surely_at_least(audit: MembershipAudit) -> float:
    """The largest lower bound of all attacks: above 0.5, the audit says that something is given away."""
    return max(attack.lower for attack in audit.attacks.values())


if __name__ == "__main__":
    main()
