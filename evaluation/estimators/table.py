"""The table of estimators: record, report, figures, card, terminal and verdict all iterate over it.

A further estimator is one row here, and the function that makes its statistic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from sepsis_cql.evaluation.estimators import importance
from sepsis_cql.evaluation.estimators.episodes import Episodes, select_rows
from sepsis_cql.evaluation.estimators.fqe import FqeResult
from sepsis_cql.evaluation.estimators.importance import SumEstimator

Place = Literal["card", "figures", "terminal"]
Statistic = SumEstimator | FqeResult | float  # bootstrapped, with an interval of its own, without one
BOOTSTRAP = "bootstrap of episodes"
REFITS = "normal interval from refits on bootstrapped episodes"
BOUNDED = "with targets bounded to the attainable range"


@dataclass(frozen=True)
class Given:
    """What an estimator may use of one policy.

    Attributes:
        episodes: the scored episodes.
        actions: (n,) what the clinicians did in them.
        probabilities: (n, 25) of the policy at the same states.
        rho: (n_episodes, horizon) cumulative ratios of policy to clinicians.
        cap: on truncated ratios; None where it would be 0.
        fits: fitted Q evaluation on training transitions (`fqe`) and on folds of the scored ones
            (`fqe_cross_fitted`); empty for the clinicians themselves.
    """

    episodes: Episodes
    actions: np.ndarray
    probabilities: np.ndarray
    rho: np.ndarray
    cap: float | None
    fits: dict[str, FqeResult]

    @cached_property
    def truncated_rho(self) -> np.ndarray:
        """(n_episodes, horizon) ratios, each at most the cap."""
        return self.rho if self.cap is None else np.minimum(self.rho, self.cap)

    @cached_property
    def q(self) -> np.ndarray:
        """(n_episodes, horizon) cross-fitted Q(s_t, a_t), 0 after the end."""
        return self.episodes.pad(select_rows(self.fits["fqe_cross_fitted"].q_values, self.actions))

    @cached_property
    def v(self) -> np.ndarray:
        """(n_episodes, horizon) cross-fitted sum_a pi(a|s_t) Q(s_t, a), 0 after the end."""
        return self.episodes.pad((self.probabilities * self.fits["fqe_cross_fitted"].q_values).sum(axis=1))


@dataclass(frozen=True)
class Estimator:
    """A row of the table.

    Attributes:
        caption: what tables and figures call it.
        make: the statistic of one policy.
        method: how its interval is made, for the record.
        is_truncated: whether ratios are capped, for the record.
        is_gated: whether value and interval must lie in the attainable range for a policy to be identified. DR is
            not: without self-normalization it exceeds the range for reasons of variance alone.
        is_of_clinicians: whether it says what the clinicians achieved, not what a policy would.
        rests_on_weights: whether it says nothing where the weights rest on few episodes.
        shown: where it is shown besides `evaluation.json` and the report, which show all.
    """

    caption: str
    make: Callable[[Given], Statistic]
    method: str = BOOTSTRAP
    is_truncated: bool = False
    is_gated: bool = False
    is_of_clinicians: bool = False
    rests_on_weights: bool = True
    shown: tuple[Place, ...] = ()


ESTIMATORS: dict[str, Estimator] = {
    "observed": Estimator(
        "observed return",
        lambda x: importance.mean_estimator(x.episodes.returns),
        is_of_clinicians=True,
        rests_on_weights=False,
        shown=("figures",),
    ),
    "wis": Estimator(
        "WIS",
        lambda x: importance.weighted_importance_sampling(x.episodes, x.rho),
        is_gated=True,
        shown=("card", "terminal"),
    ),
    "wis_truncated": Estimator(
        "truncated WIS",
        lambda x: importance.weighted_importance_sampling(x.episodes, x.truncated_rho),
        is_truncated=True,
        is_gated=True,
        shown=("figures",),
    ),
    "pdwis": Estimator(
        "PDWIS", lambda x: importance.weighted_per_decision(x.episodes, x.rho), is_gated=True, shown=("card",)
    ),
    "dr": Estimator("DR", lambda x: importance.doubly_robust(x.episodes, x.rho, x.q, x.v), shown=("card",)),
    "wdr": Estimator(
        "WDR",
        lambda x: importance.weighted_doubly_robust(x.episodes, x.rho, x.q, x.v),
        is_gated=True,
        shown=("card", "figures", "terminal"),
    ),
    "wdr_truncated": Estimator(
        "truncated WDR",
        lambda x: importance.weighted_doubly_robust(x.episodes, x.truncated_rho, x.q, x.v),
        is_truncated=True,
        is_gated=True,
    ),
    "fqe": Estimator(
        "FQE",
        lambda x: x.fits["fqe"],
        method=f"fitted on training transitions; {REFITS}",
        is_gated=True,
        rests_on_weights=False,
        shown=("card",),
    ),
    "fqe_cross_fitted": Estimator(
        "cross-fitted FQE",
        lambda x: x.fits["fqe_cross_fitted"],
        method=f"fitted on other folds of the scored episodes; {REFITS}",
        is_gated=True,
        rests_on_weights=False,
        shown=("card", "figures", "terminal"),
    ),
    "fqe_bounded": Estimator(
        "bounded FQE", lambda x: x.fits["fqe"].bounded_value, method=f"fqe {BOUNDED}", rests_on_weights=False
    ),
    "fqe_cross_fitted_bounded": Estimator(
        "bounded cross-fitted FQE",
        lambda x: x.fits["fqe_cross_fitted"].bounded_value,
        method=f"fqe_cross_fitted {BOUNDED}",
        rests_on_weights=False,
    ),
}


def list_with_interval() -> list[str]:
    """Return the names of the estimators of a policy that have an interval, by which a verdict can be reached."""
    rows = ESTIMATORS.items()
    return [name for name, row in rows if not (row.is_of_clinicians or row.method.endswith(BOUNDED))]


def list_captions(place: Place | None = None) -> dict[str, str]:
    """Return the caption of each estimator by name, of all or of those shown in one place."""
    return {name: row.caption for name, row in ESTIMATORS.items() if place is None or place in row.shown}
