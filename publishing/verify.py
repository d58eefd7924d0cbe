"""What of a published package can be recomputed, and whether it comes out the same."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.record import Evaluation, load_evaluation
from sepsis_cql.publishing.card import check_card
from sepsis_cql.publishing.evidence import FOLDER
from sepsis_cql.publishing.guard.files import check_export
from sepsis_cql.publishing.manifest import export_files, manifest_differences
from sepsis_cql.publishing.probes import probe_problem
from sepsis_cql.replay.directory import Replay

TOLERANCE = 1e-3  # of an estimate, in units of reward
Result = Literal["matches", "differs", "not checked"]


@dataclass(frozen=True)
class Comparison:
    """One thing that was looked at."""

    what: str
    result: Result
    detail: str


@dataclass(frozen=True)
class TestUse:
    """How a test split may be read once more; see `training.sweep.ledger`."""

    ledger: Path | None = None
    again: bool = False
    why: str | None = None


def verify(directory: Path, replay: Replay | None = None, use: TestUse | None = None) -> list[Comparison]:
    """Check a downloaded or local export; nothing in it is executed.

    Args:
        directory: what `sepsis-cql export` wrote, or a download of it.
        replay: written by `build`; metrics are recomputed if it is the one the evidence names.
        use: of the test split, where the evidence is about it.
    """
    checks: dict[str, Callable[[], Iterator[str]]] = {
        "files, by their hashes": lambda: manifest_differences(directory),
        "code, settings and contents that may be published": lambda: _guard(directory),
        "card, rendered from its evidence": lambda: _card(directory),
        "q-values on made-up states": lambda: _probes(directory),
    }
    comparisons = [_look(what, check, directory) for what, check in checks.items()]
    return [*comparisons, _metrics(directory, replay, use or TestUse())]


def _look(what: str, check: Callable[[], Iterator[str]], directory: Path) -> Comparison:
    try:
        problems = list(check())
    except (SepsisCQLError, ValueError, OSError, KeyError, TypeError) as error:
        problems = [str(error)]
    if problems:
        return Comparison(what, "differs", "; ".join(problems[:5]).replace(f"{directory}/", ""))
    return Comparison(what, "matches", f"{len(export_files(directory))} files" if "files" in what else "")


def _guard(directory: Path) -> Iterator[str]:
    check_export(directory)
    yield from ()


def _card(directory: Path) -> Iterator[str]:
    check_card(directory)
    yield from ()


def _probes(directory: Path) -> Iterator[str]:
    problem = probe_problem(directory, load_package(directory))
    if problem is not None:
        yield problem


def _metrics(directory: Path, replay: Replay | None, use: TestUse) -> Comparison:
    what = "metrics, recomputed from the replay"
    if replay is None:
        return Comparison(what, "not checked", "needs the replay: --replay DIR")
    try:
        recorded = load_evaluation(directory / FOLDER)
        fingerprints = recorded.replay.fingerprint, replay.fingerprint
        if fingerprints[0] != fingerprints[1]:
            detail = f"evidence names replay {fingerprints[0][:12]}, this one is {fingerprints[1][:12]}"
            return Comparison(what, "not checked", detail)
        if refusal := _enter_test_split(directory, replay, recorded, use):
            return Comparison(what, "not checked", refusal)
        return _look(what, lambda: _evaluation_differences(directory, replay, recorded), directory)
    except SepsisCQLError as error:
        return Comparison(what, "differs", str(error))


def _enter_test_split(directory: Path, replay: Replay, recorded: Evaluation, use: TestUse) -> str:
    """Enter the policy into the ledger where its test metrics are about to be seen; return why that is refused."""
    from sepsis_cql.evaluation.policies.load import load_policy
    from sepsis_cql.evaluation.test_split import note_test_split

    if recorded.split != "test" or replay.provenance is None:
        return ""
    policy = load_policy(str(directory)).identify()
    try:
        note_test_split(policy, replay, again=use.again, why=use.why, ledger=use.ledger)
    except SepsisCQLError as error:
        return str(error)
    return ""


def _evaluation_differences(directory: Path, replay: Replay, recorded: Evaluation) -> Iterator[str]:
    """Yield each published metric, recommended estimate and verdict that comes out otherwise.

    The policy has entered the ledger of the test split: whoever published it, its numbers are seen here.
    """
    from sepsis_cql.evaluation.evaluate import evaluate_policy
    from sepsis_cql.evaluation.policies.load import load_policy
    from sepsis_cql.evaluation.settings import EvaluationSettings

    published = recorded.published
    changes = {} if published is None else {"resamples": published.bootstrap_resamples}
    settings = load_shipped(EvaluationSettings, "evaluation.yaml", changes)
    loaded = load_policy(str(directory))
    found = evaluate_policy(loaded, replay, recorded.split, "both", settings)
    for name, value in published or ():
        again = getattr(found.published, name, None)
        if not _equal(value, again):
            yield f"{name}: recorded {value}, found {again}"
    for old, new in zip(recorded.policies, found.policies, strict=True):
        for name in {settings.gates.recommended, "observed"} & set(old.estimates):
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
