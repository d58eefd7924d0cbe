"""What an endorsement by two families costs in power, and what one family alone would let through.

    python benchmarks/verdict_power.py

prints, by the ratio of standard errors of WDR and of cross-fitted FQE and by how far the WDR difference must lie above
0, the power for a true gain of four standard errors, and the largest share of wrong endorsements of a policy equal to
the clinicians over all biases that an incomplete state can give FQE. Both estimators are normal, and FQE is efficient,
so that their paired difference has the variance that WDR has more.
"""

import numpy as np

from sepsis_cql.common.strict import load_shipped
from sepsis_cql.evaluation.settings import EvaluationSettings

RATIOS, MARGINS = (1.2, 1.5, 2.0, 3.0), (0.84, 1.28, 1.645, 1.96)
GAIN, Z, DRAWS, SEED = 4.0, 1.96, 400_000, 0
BIASES = np.arange(0.0, 8.0, 0.5)  # of FQE, in its standard errors


def main() -> None:
    distance = load_shipped(EvaluationSettings, "evaluation.yaml").gates.family_distance
    noise = np.random.default_rng(SEED).normal(size=(2, DRAWS))
    print("SE ratio   margin   power at 4 SE of FQE   at 4 SE of WDR   wrong, worst bias of FQE")
    for ratio in RATIOS:
        for margin in MARGINS:
            rule = ratio, margin, distance
            wrong = max(endorsed(noise, 0.0, bias, *rule) for bias in BIASES)
            powers = (endorsed(noise, gain, 0.0, *rule) for gain in (GAIN, GAIN * ratio))
            print(f"{ratio:8.1f} {margin:8.2f} " + "".join(f"{value:20.3f}" for value in (*powers, wrong)))


def endorsed(
    noise: np.ndarray, gain: float, bias: float, ratio: float, margin: float, distance: float
) -> float:
    """Share endorsed, in units of FQE's standard error.

    Args:
        noise: (2, n) standard normal: shared by both estimators, and of WDR alone.
        gain: true difference to the clinicians.
        bias: of FQE.
        ratio: of the standard error of WDR to that of FQE.
        margin: standard errors by which the WDR difference must lie above 0.
        distance: standard deviations of their difference that the estimators may lie apart.
    """
    spread = np.sqrt(ratio**2 - 1)
    fqe, wdr = gain + bias + noise[0], gain + noise[0] + spread * noise[1]
    return float(((fqe > Z) & (wdr > margin * ratio) & (np.abs(fqe - wdr) < distance * spread)).mean())


if __name__ == "__main__":
    main()
