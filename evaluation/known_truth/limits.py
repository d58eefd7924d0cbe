"""What the calibration shows that the verdict and its intervals do and do not reach, in sentences."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sepsis_cql.evaluation.known_truth.record import CalibrationLine, Share
from sepsis_cql.evaluation.known_truth.summary import count_share

ERRORS, EPISODES = (
    4,
    500,
)  # standard errors of a gain, and what weights are worth, from which it is to be found
POWER = 0.8  # so often
COVERED = (0.93, 0.97)  # what intervals of 95% are to cover
OFTEN = 0.5  # share of the repetitions in which gates hold


def say_limits(lines: Sequence[CalibrationLine]) -> list[str]:
    """Return sentences on wrong endorsements, power and coverage.

    Args:
        lines: of every policy of every case.
    """
    return [_say_wrong(lines), _say_power(lines), _say_coverage(lines)]


def _say_wrong(lines: Sequence[CalibrationLine]) -> str:
    ends: dict[int, float] = defaultdict(float)
    for line in lines:
        ends[line.of.repetitions] = max(ends[line.of.repetitions], line.policy.wrongly_endorsed.upper)
    bounds = ", ".join(f"{ends[n]:.3f} with {n} repetitions" for n in sorted(ends, reverse=True))
    most = max(line.policy.wrongly_endorsed.value for line in lines)
    return (
        f"No policy is wrongly called better in more than {most:.2f} of the repetitions; exact 95% intervals of that "
        f"share end at {bounds}, or below."
    )


def _say_power(lines: Sequence[CalibrationLine]) -> str:
    found: dict[str, list[str]] = {"known": [], "estimated": []}
    for line in lines:
        policy, error = line.policy, line.policy.difference.standard_deviation
        if line.of.is_confounded or error is None or policy.ess < EPISODES:
            continue
        if policy.true_gain >= ERRORS * error:
            found[line.of.setting.behavior].append(f"{policy.endorsed.value:.2f} (`{line.of.case}`)")
    known, estimated = (", ".join(part) or "none was tried" for part in found.values())
    return (
        f"Of a policy whose true gain is {ERRORS} standard errors of the recommended difference or more, and whose "
        f"weights are worth {EPISODES} episodes or more, {POWER:.2f} of the repetitions should call it better. With "
        f"known clinicians they do in {known}; with estimated ones in {estimated}."
    )


def _say_coverage(lines: Sequence[CalibrationLine]) -> str:
    outside, n_rows = [], 0
    for line in lines:
        coverage = line.policy.difference.coverage_where_gates_hold
        if line.of.is_confounded or coverage is None or line.policy.passes_gates < OFTEN:
            continue
        n_rows += 1
        share = _recount(coverage, round(line.policy.passes_gates * line.of.repetitions))
        if share.upper < COVERED[0] or share.lower > COVERED[1]:
            outside.append(f"{line.policy.name} in `{line.of.case}` ({coverage:.2f})")
    return (
        f"Where the gates hold, the 95% interval of the difference should cover the truth in {COVERED[0]} to "
        f"{COVERED[1]} of the repetitions. Of {n_rows} policies for which they hold in half of them or more, and "
        f"nothing is hidden, it surely does not for {len(outside)}: {'; '.join(outside) or 'none'}."
    )


def _recount(share: float, n: int) -> Share:
    return count_share(np.arange(n) < round(share * n))
