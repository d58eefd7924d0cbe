"""The frozen choice of a policy: made on validation data and written down before the test split is read."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from sepsis_cql.checkpoints.hub_package import WEIGHTS, load_package
from sepsis_cql.checkpoints.original_pt import OF_OUTPUTS
from sepsis_cql.common.errors import CheckpointError, TrainingError
from sepsis_cql.common.provenance import git_commit
from sepsis_cql.common.storage import sha256_file, sha256_json, write_json
from sepsis_cql.common.strict import Record, read_record
from sepsis_cql.modeling_sepsis_cql import SepsisCQLModel
from sepsis_cql.training.learners.registry import AnySettings
from sepsis_cql.training.outputs import RECORD, read_run_record
from sepsis_cql.training.records import DataFacts, Metric, Score


class Evidence(Record):
    """The validation results that a choice rests on; nothing of the test split.

    Attributes:
        rule: how the choice was made.
        metric: that ranked the runs; None where nothing was compared, as for the other fields.
        run: name of the chosen run in its sweep.
        score: of the chosen run.
        n_runs_compared: in the last stage.
        failed: reason of each run that failed, by name.
    """

    rule: str
    metric: Metric | None = None
    run: str | None = None
    score: Score | None = None
    n_runs_compared: int = 1
    failed: dict[str, str] = Field(default_factory=dict)


class CheckpointFile(Record):
    """The checkpoint of the original layout."""

    file: str
    sha256: str


class Selection(Record):
    """Contents of `selection.json`.

    Attributes:
        policy_sha256: of the tensors and what they are read as, wherever the package lies; see `sha256_policy`.
        weights_sha256: of the package's file of weights.
        checkpoint: in the original layout.
        settings: of the chosen run.
        data: it learned from.
        validation: what the choice rests on.
        git_commit, frozen_at: when the choice was made.
    """

    policy_sha256: str
    weights_sha256: str
    checkpoint: CheckpointFile
    settings: AnySettings
    data: DataFacts
    validation: Evidence
    git_commit: str | None
    frozen_at: str


def freeze_selection(training: Path, evidence: Evidence, out: Path) -> Selection:
    """Write down in `out` which policy of a complete run was chosen, and on what evidence of validation.

    Raises:
        TrainingError: `out` already holds the choice of another policy.
        CheckpointError: the weights are not those the run's record names.
    """
    record = read_run_record(training)
    found = sha256_file(training / "package" / WEIGHTS)
    if found != record.weights_sha256:
        raise CheckpointError(
            f"{training / 'package' / WEIGHTS}: SHA-256 {found[:12]}, but {RECORD} says "
            f"{record.weights_sha256[:12]}. Train again with --force."
        )
    if out.exists() and (before := load_selection(out).weights_sha256) != found:
        raise TrainingError(
            f"{out}: already froze policy {before[:12]}, asked to freeze {found[:12]}. Remove the file to "
            "choose anew; the ledger of the test split remembers which policies have seen it."
        )
    (checkpoint,) = (training / "model").glob("*.pt")
    selection = Selection(
        policy_sha256=sha256_policy(load_package(training / "package")),
        weights_sha256=found,
        checkpoint=CheckpointFile(file=checkpoint.name, sha256=sha256_file(checkpoint)),
        settings=record.settings,
        data=record.data,
        validation=evidence,
        git_commit=git_commit(),
        frozen_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_json(out, selection.model_dump(mode="json"))
    return selection


def load_selection(path: Path) -> Selection:
    """Read a selection file.

    Raises:
        SepsisCQLError: it is not one.
    """
    return read_record(Selection, path, expected="the selection frozen after validation")


def sha256_policy(model: SepsisCQLModel) -> str:
    """Return the SHA-256 of what decides a network's actions: its tensors, their inputs and what its outputs mean."""
    config = model.config
    unusual = {name: value for name, usual in OF_OUTPUTS.items() if (value := getattr(config, name)) != usual}
    read_as = [config.outputs, list(config.state_names), *([unusual] if unusual else [])]
    digest = hashlib.sha256(sha256_json(read_as).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_selected(path: Path, policy_sha256: str, replay_fingerprint: str) -> Selection:
    """Read the selection at `path`, provided that it chose this policy on this replay.

    Raises:
        TrainingError: it chose another policy, or on another replay.
    """
    selection = load_selection(path)
    for name, chose, asked in (
        ("policy_sha256", selection.policy_sha256, policy_sha256),
        ("replay_fingerprint", selection.data.replay_fingerprint, replay_fingerprint),
    ):
        if chose != asked:
            raise TrainingError(
                f"{path}: chose {name} {chose[:12]}, but the test split was asked for {asked[:12]}. Evaluate the "
                "chosen policy, on the replay it was chosen on."
            )
    return selection
