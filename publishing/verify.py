"""What of a published package can be recomputed, and whether it comes out the same."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sepsis_cql.common.errors import PublishingError, SepsisCQLError
from sepsis_cql.common.strict import load_shipped, read_record
from sepsis_cql.evaluation.evaluate import evaluate_policy
from sepsis_cql.evaluation.policies.load import load_policy
from sepsis_cql.evaluation.record import Evaluation, load_evaluation
from sepsis_cql.evaluation.report.figures import FIGURES
from sepsis_cql.evaluation.settings import EvaluationSettings
from sepsis_cql.evaluation.test_split import note_test_split
from sepsis_cql.publishing.card import README
from sepsis_cql.publishing.evidence import FOLDER, RECORDS
from sepsis_cql.publishing.guard.build import PublishedBuild
from sepsis_cql.publishing.guard.disclosure import reduce_evaluation
from sepsis_cql.publishing.guard.files import Problem, inspect, read_files
from sepsis_cql.publishing.guard.png import Report, say_nothing
from sepsis_cql.publishing.manifest import MANIFEST, SIGNATURE, manifest_differences
from sepsis_cql.publishing.probes import PROBES
from sepsis_cql.publishing.signature import check_signature, fingerprint
from sepsis_cql.replay.directory import Replay
from sepsis_cql.training.sweep.ledger import default_ledger, holds

TOLERANCE = 1e-3  # of an estimate, in units of reward
METRICS = "metrics, recomputed from the replay"
FILES = "files, by their hashes"
CONTENTS = "code, settings and contents that may be published"
Result = Literal["matches", "differs", "not checked"]


@dataclass(frozen=True)
class Comparison:
    """One thing that was looked at."""

    what: str
    result: Result
    detail: str
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TestUse:
    """How a test split may be read once more; see `training.sweep.ledger`."""

    ledger: Path | None = None
    again: bool = False
    why: str | None = None


def verify(
    directory: Path,
    replay: Replay | None = None,
    use: TestUse | None = None,
    *,
    signed_by: str | None = None,
    report: Report = say_nothing,
) -> list[Comparison]:
    """Check a downloaded or local export; no code of it is executed, nor any metric of one that differs computed.

    Args:
        directory: what `sepsis-cql export` wrote, or a download of it.
        replay: written by `build`; metrics are recomputed if it is the one the evidence names.
        use: of the test split, where the evidence is about it.
        signed_by: public key, in hexadecimal, of whoever must have signed it.
        report: called with each thing that is looked at, and how many are left.

    Raises:
        PublishingError: the directory is no export.
    """
    report("files", len(FIGURES) + 2)
    files, foreign = read_files(directory, is_download=True)
    if MANIFEST not in files:
        raise PublishingError(
            f"{directory}: no {MANIFEST}, so this is not an export. Expected what `sepsis-cql export` writes."
        )
    try:
        hashes = [Problem("", text) for text in manifest_differences(files)]
    except PublishingError as error:
        hashes = [Problem("", str(error))]
    report("contents, made anew", len(FIGURES) + 1)
    problems = [*foreign, *inspect(files, report)[1]]
    parts = {README: "card, rendered from its evidence", PROBES: "q-values on made-up states"}
    others = [problem for problem in problems if problem.file not in (*parts, SIGNATURE)]
    unreadable = any(not problem.file for problem in others)
    comparisons = [
        _compare(FILES, [*foreign, *hashes], f"{len(files)} files"),
        _signature(files, signed_by),
        _compare(CONTENTS, others),
    ]
    for file, what in parts.items():
        found = [problem for problem in problems if problem.file == file]
        if unreadable and not found:
            comparisons.append(Comparison(what, "not checked", "needs contents that match"))
        else:
            comparisons.append(_compare(what, found))
    report("metrics", 0)
    if problems or hashes:
        return [*comparisons, Comparison(METRICS, "not checked", "needs contents that match")]
    return [*comparisons, _metrics(directory, replay, use or TestUse())]


def _compare(what: str, problems: list[Problem], detail: str = "") -> Comparison:
    if problems:
        lines = list(map(str, problems))
        return Comparison(what, "differs", f"{len(lines)} difference{'s' * (len(lines) > 1)}", lines)
    return Comparison(what, "matches", detail)


def _signature(files: Mapping[str, bytes], signed_by: str | None) -> Comparison:
    what = "signature of the manifest"
    if SIGNATURE not in files:
        if signed_by is None:
            return Comparison(what, "not checked", "nobody signed it")
        return Comparison(what, "differs", "nobody signed it, expected one by --key")
    try:
        found = check_signature(files)
    except PublishingError as error:
        return Comparison(what, "differs", str(error))
    key = f"key {fingerprint(found)}"
    if signed_by is None:
        return Comparison(what, "not checked", f"it is by {key}; whose that is, only --key can tell")
    if found != signed_by:
        return Comparison(what, "differs", f"by {key}, expected {fingerprint(signed_by)}")
    return Comparison(what, "matches", f"by {key}")


def _metrics(directory: Path, replay: Replay | None, use: TestUse) -> Comparison:
    if replay is None:
        return Comparison(METRICS, "not checked", "needs the replay: --replay DIR")
    try:
        recorded = load_evaluation(directory / FOLDER)
        fingerprints = recorded.replay.fingerprint, replay.fingerprint
        if fingerprints[0] != fingerprints[1]:
            detail = f"evidence names replay {fingerprints[0][:12]}, this one is {fingerprints[1][:12]}"
            return Comparison(METRICS, "not checked", detail)
        if refusal := _enter_test_split(directory, replay, recorded, use):
            return Comparison(METRICS, "not checked", refusal)
        found = _evaluate(directory, replay, recorded)
        problems = [Problem("", text) for text in metric_differences(recorded, found)]
        return _compare(METRICS, problems, _say_ledger(recorded, use.ledger))
    except SepsisCQLError as error:
        return Comparison(METRICS, "differs", str(error))


def _enter_test_split(directory: Path, replay: Replay, recorded: Evaluation, use: TestUse) -> str:
    """Enter the policy into the ledger where its test metrics are about to be seen; return why that is refused."""
    if recorded.split != "test" or replay.provenance is None:
        return ""
    policy = load_policy(str(directory)).identify()
    try:
        note_test_split(policy, replay, again=use.again, why=use.why, ledger=use.ledger)
    except SepsisCQLError as error:
        return str(error)
    return ""


def _say_ledger(recorded: Evaluation, ledger: Path | None) -> str:
    """Say where the ledger here is not the one that the evaluation was entered into, as on another machine."""
    stood = recorded.ledger
    if stood is None or holds(ledger or default_ledger(), stood):
        return ""
    return (
        f"entry {stood.entries} ({stood.head[:12]}) of the ledger it was scored by is not in the ledger here"
    )


def _evaluate(directory: Path, replay: Replay, recorded: Evaluation) -> Evaluation:
    """Evaluate the package again, reduced to what is published.

    The policy has entered the ledger of the test split: whoever published it, its numbers are seen here.
    """
    published = recorded.published
    changes = {} if published is None else {"resamples": published.bootstrap_resamples}
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", changes)
    found = evaluate_policy(
        load_policy(str(directory)),
        replay,
        recorded.split,
        "both",
        settings,
        test_split_uses=recorded.test_split_uses,
        frozen=recorded.frozen,
    )
    build = read_record(PublishedBuild, directory / RECORDS["build"], expected="evidence of its build")
    return reduce_evaluation(found, build.settings)


def metric_differences(recorded: Evaluation, found: Evaluation) -> Iterator[str]:
    """Yield each published metric, estimate and verdict that comes out otherwise.

    Args:
        recorded: what the package says.
        found: what the replay gives.
    """
    for name, value in recorded.published or ():
        again = getattr(found.published, name, None)
        if not _equal(value, again):
            yield f"{name}: recorded {value}, found {again}"
    for name in ("gamma", "bound"):
        if (old_value := getattr(recorded, name)) != (new_value := getattr(found, name)):
            yield f"{name}: recorded {old_value}, found {new_value}, which every estimate rests on"
    names = [[policy.name for policy in one.policies] for one in (recorded, found)]
    if names[0] != names[1]:
        yield f"policies: recorded {names[0]}, found {names[1]}; were other settings used for the evaluation?"
        return
    for old, new in zip(recorded.policies, found.policies, strict=True):
        recommended = {old.difference_to_clinicians.estimator} if old.difference_to_clinicians else set()
        for name in (recommended | {"observed"}) & set(old.estimates) & set(new.estimates):
            values = [policy.estimates[name].value for policy in (old, new)]
            if not _equal(*values):
                yield f"{old.name}, {name}: recorded {values[0]}, found {values[1]}"
        verdicts = [policy.verdict and policy.verdict.label for policy in (old, new)]
        if verdicts[0] != verdicts[1]:
            yield f"{old.name}: recorded {verdicts[0]!r}, found {verdicts[1]!r}"


def _equal(recorded: object, found: object) -> bool:
    if isinstance(recorded, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(recorded, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return recorded == found
