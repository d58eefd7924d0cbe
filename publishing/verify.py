"""What of a published package can be recomputed, and whether it comes out the same."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sepsis_cql.configs.loading import load_settings
from sepsis_cql.errors import SepsisCQLError
from sepsis_cql.packages import load_package
from sepsis_cql.publishing.card import check_card
from sepsis_cql.publishing.evidence import FOLDER
from sepsis_cql.publishing.guard import check_export
from sepsis_cql.publishing.manifest import export_files, manifest_differences
from sepsis_cql.publishing.probes import probe_problem
from sepsis_cql.storage import read_json

TOLERANCE = 1e-3  # of an estimate, in units of reward
Result = Literal["matches", "differs", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    result: Result
    detail: str


def verify(directory: Path, replay: Path | None = None) -> list[Finding]:
    """Check a downloaded or local export; nothing in it is executed.

    Args:
        directory: what `sepsis-cql export` wrote, or a download of it.
        replay: directory written by `build`; metrics are recomputed if it is the one the evidence names.
    """
    checks: dict[str, Callable[[], Iterator[str]]] = {
        "files, by their hashes": lambda: manifest_differences(directory),
        "code, settings and contents that may be published": lambda: _guard(directory),
        "card, rendered from its evidence": lambda: _card(directory),
        "q-values on made-up states": lambda: _probes(directory),
    }
    findings = [_look(what, check, directory) for what, check in checks.items()]
    return [*findings, _metrics(directory, replay)]


def _look(what: str, check: Callable[[], Iterator[str]], directory: Path) -> Finding:
    try:
        problems = list(check())
    except (SepsisCQLError, ValueError, OSError, KeyError, TypeError) as error:
        problems = [str(error)]
    if problems:
        return Finding(what, "differs", "; ".join(problems[:5]).replace(f"{directory}/", ""))
    return Finding(what, "matches", f"{len(export_files(directory))} files" if "files" in what else "")


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


def _metrics(directory: Path, replay: Path | None) -> Finding:
    what = "metrics, recomputed from the replay"
    if replay is None:
        return Finding(what, "not checked", "needs the replay: --replay DIR")
    try:
        recorded = read_json(directory / FOLDER / "evaluation.json", expected="a published evaluation")
        provenance = read_json(replay / "provenance.json", expected="the provenance `build` writes")
        fingerprints = recorded["replay"]["fingerprint"], provenance["fingerprint"]
        if fingerprints[0] != fingerprints[1]:
            detail = f"evidence names replay {fingerprints[0][:12]}, this one is {fingerprints[1][:12]}"
            return Finding(what, "not checked", detail)
        return _look(what, lambda: _evaluation_differences(directory, replay, recorded), directory)
    except (SepsisCQLError, KeyError, TypeError) as error:
        return Finding(what, "differs", str(error))


def _evaluation_differences(directory: Path, replay: Path, recorded: dict) -> Iterator[str]:
    """Yield each published metric, recommended estimate and verdict that comes out otherwise.

    An evaluation that is already recorded is looked at again; the ledger of the test split is for new ones.
    """
    from sepsis_cql.evaluation.evaluate import evaluate_policy
    from sepsis_cql.evaluation.loading import load_policy
    from sepsis_cql.evaluation.settings import EvaluationSettings

    settings = load_settings(EvaluationSettings, Path("evaluation.yaml"), {"truth_episodes": 100})
    published = recorded["published"] or {}
    found = evaluate_policy(
        load_policy(str(directory)),
        replay,
        recorded["split"],
        "both",
        int(published.get("bootstrap_resamples", 1000)),
        settings,
    ).record.model_dump()
    for name, value in published.items():
        if not _equal(value, found["published"][name]):
            yield f"{name}: recorded {value}, found {found['published'][name]}"
    for old, new in zip(recorded["policies"], found["policies"], strict=True):
        for name in {settings.gates.recommended, "observed"} & set(old["estimates"]):
            values = [policy["estimates"][name]["value"] for policy in (old, new)]
            if not _equal(*values):
                yield f"{old['name']}, {name}: recorded {values[0]}, found {values[1]}"
        verdicts = [(policy["verdict"] or {}).get("label") for policy in (old, new)]
        if verdicts[0] != verdicts[1]:
            yield f"{old['name']}: recorded {verdicts[0]!r}, found {verdicts[1]!r}"


def _equal(recorded: object, found: object) -> bool:
    if isinstance(recorded, (int, float)) and isinstance(found, (int, float)):
        return math.isclose(recorded, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return recorded == found
