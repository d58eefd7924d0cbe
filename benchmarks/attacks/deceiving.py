"""The wards in which a verdict is attacked, by what deceives it; see `wards.Ward`."""

from functools import partial

import numpy as np
from scipy.special import expit, logit

from sepsis_cql.benchmarks.attacks.wards import (
    DOSE,
    Columns,
    Doses,
    Generator,
    Odds,
    Start,
    Ward,
    give,
    prefer,
    tilt,
    wander,
)
from sepsis_cql.replay.rows.actions import N_ACTIONS

FLUID, OTHER, STRONG = 1, 15, 24  # doses
LUCK = np.random.default_rng(3).normal(size=12) * 0.6  # of a unit's patients, whatever their doses


def mild(now: Columns) -> np.ndarray:
    """Clinicians who go by severity a little."""
    return prefer(0.3 * np.tanh(now["x"]))


def seldom(now: Columns) -> np.ndarray:
    """Clinicians who give 5% a little fluid, and the others nothing."""
    return give(FLUID, 0.05, np.tile(np.eye(N_ACTIONS)[0], (len(now["x"]), 1)))


def rare(share: float, scored: int, harm: float = 0.0) -> Ward:
    """A dose has no effect, or harms, where few die or nearly all; the policy gives it five times as often."""
    return Ward(
        clinicians=seldom,
        told=seldom,
        policies=(lambda seen, clinicians: give(FLUID, 0.25, clinicians),),
        dies=lambda now, actions: logit(share) + 0.5 * now["x"] - 0.15 + harm * (actions == FLUID),
        scored=scored,
        is_null=harm == 0,
    )


def fatal() -> Ward:
    """A dose that nobody gets kills, though it is said to be given in one decision of 10,000."""

    def clinicians(now: Columns) -> np.ndarray:
        return give(STRONG, 0.0, mild(now))

    return Ward(
        clinicians=clinicians,
        told=lambda now: 0.9975 * clinicians(now) + 0.0025 / N_ACTIONS,
        policies=(lambda seen, clinicians: give(STRONG, 0.0045, tilt(0.3)(seen, clinicians)),),
        dies=lambda now, actions: now["x"] - 1.0,
        dies_now=lambda now, actions: (actions == STRONG).astype(float),
        move=wander(0.175),
        horizon=8,
        scored=2585,
    )


def thin(edge: float, gain: float) -> Ward:
    """Beyond an edge that few reach a dose kills, which a twentieth gets everywhere; the policy gives it there.

    Elsewhere it gives a little more of what truly helps, to nearly as many as it kills.
    """

    def clinicians(now: Columns) -> np.ndarray:
        return give(STRONG, 0.05, mild(now))

    def policy(seen: Columns, clinicians: np.ndarray) -> np.ndarray:
        better = tilt(0.05)(seen, clinicians)
        return np.where((seen["x"] > edge)[:, None], give(STRONG, 0.98, better), better)

    return Ward(
        clinicians=clinicians,
        told=clinicians,
        policies=(policy,),
        dies=lambda now, actions: 0.2 * now["x"] - 2.0 - gain * now["given"],
        dies_now=lambda now, actions: ((now["x"] > edge) & (actions == STRONG)).astype(float),
        scored=2585,
    )


def show_severity(copies: int, indicators: int, n: int, rng: Generator) -> Columns:
    """Severity in near copies, or in indicators of its range."""
    x = rng.normal(size=n)
    interval = np.clip(((x + 2) / 4 * indicators).astype(int), 0, indicators - 1)
    found = {f"copy{number}": x + 0.05 * number * rng.random(n) for number in range(copies)}
    return {"x": x} | found | {f"is{number}": (interval == number) * 1.0 for number in range(indicators)}


def hidden(by_seen: float, by_hidden: float, kills: float, copies: int = 1, indicators: int = 0) -> Ward:
    """Clinicians treat those who die of what is hidden; a drug helps, of which the policy gives less."""
    names = (
        [f"is{number}" for number in range(indicators)]
        if indicators
        else [f"copy{number}" for number in range(copies)]
    )
    return Ward(
        clinicians=lambda now: prefer(by_seen * now["x"] + by_hidden * now["u"]),
        policies=(tilt(-1.0),),
        dies=lambda now, actions: 0.7 * now["x"] - 1.5 + kills * now["u"] - 0.5 * DOSE[actions],
        start=partial(show_severity, copies, indicators),
        seen=tuple(names),
        training=2000,
        scored=2000,
    )


def twenty() -> Ward:
    """Twenty stays a patient, whom the treatment helps or harms by what is hidden."""
    return Ward(
        clinicians=mild,
        told=mild,
        policies=(tilt(0.7),),
        dies=lambda now, actions: 0.5 * now["x"] - 0.8 - 1.5 * np.sign(now["u"]) * DOSE[actions],
        training=600,
        scored=1200,
        stays=20,
    )


def many(number: int) -> Ward:
    """Many policies that prefer doses by chance, none of which has an effect; is one of them endorsed?"""
    rng = np.random.default_rng(5)
    tastes = [rng.normal(size=N_ACTIONS) * 0.7 for _ in range(number)]
    return Ward(
        clinicians=mild,
        told=mild,
        policies=tuple(tilt(1.0, taste) for taste in tastes),
        dies=lambda now, actions: now["x"] - 1.0,
        training=600,
        scored=600,
        is_null=True,
    )


def habits(clinicians: Doses, seen: tuple[str, ...], is_known: bool, dies: Odds, start: Start) -> Ward:
    """Clinicians who go by a year or a unit as by severity, in three decisions; a little more of a harmful drug."""
    return Ward(
        clinicians=clinicians,
        told=clinicians if is_known else None,
        policies=(tilt(0.4),),
        dies=dies,
        start=start,
        move=wander(0.0),
        seen=seen,
        horizon=3,
        training=2000,
        scored=2000,
    )


def drift(seen: tuple[str, ...], *, is_known: bool) -> Ward:
    """Clinicians treat more from year to year, and for other reasons fewer die."""
    return habits(
        lambda now: prefer(0.3 * np.tanh(now["x"]) + 1.2 * (now["year"] - 0.5)),
        seen,
        is_known,
        lambda now, actions: now["x"] - 0.5 - 2.0 * now["year"] + 0.2 * now["given"],
        lambda n, rng: {"year": rng.random(n)},
    )


def enter_unit(n: int, rng: Generator) -> Columns:
    """Patients of twelve units: the habit of each, and how well its patients do."""
    habit, unit = np.linspace(-1, 1, len(LUCK)), rng.integers(0, len(LUCK), n)
    return {"unit": habit[unit], "u": 0.8 * habit[unit] + LUCK[unit]}


def units(seen: tuple[str, ...], *, is_known: bool) -> Ward:
    """Units that treat more are those whose patients do better in any case."""
    return habits(
        lambda now: prefer(0.3 * np.tanh(now["x"]) + 0.8 * now["unit"]),
        seen,
        is_known,
        lambda now, actions: now["x"] - 0.8 - now["u"] + 0.2 * now["given"],
        enter_unit,
    )


def firm(harm: float, horizon: int, scored: int) -> Ward:
    """Clinicians give the usual dose of a state in 97 of 100 decisions; the policy gives a quarter another one."""

    def clinicians(now: Columns) -> np.ndarray:
        found = np.zeros((len(now["x"]), N_ACTIONS))
        found[:, [5, 10, OTHER]] = 0.015
        found[np.arange(len(found)), np.where(now["x"] > 0, 10, 5)] = 0.97
        return found

    return Ward(
        clinicians=clinicians,
        told=clinicians,
        policies=(lambda seen, clinicians: give(OTHER, 0.25 / horizon, clinicians),),
        dies=lambda now, actions: now["x"] - 1.0 + harm * (now["given"] if horizon > 1 else actions == OTHER),
        move=wander(0.0),
        horizon=horizon,
        scored=scored,
        is_null=harm == 0,
    )


def cut(by: str, *, is_known: bool) -> Ward:
    """The sick leave early, the more so after a dose that harms; what became of them is known."""
    return Ward(
        clinicians=mild,
        told=mild if is_known else None,
        policies=(tilt(0.4),),
        dies=lambda now, actions: 0.8 * now["x"] + 0.8 * now["u"] - 1.2 + 0.5 * now["given"],
        leaves=lambda now, actions: np.asarray(expit(-2.5 + now[by] + 0.8 * DOSE[actions])),
        move=wander(0.1),
        horizon=6,
        training=2000,
        scored=2000,
        seen=("x", "t"),
    )


def late(horizon: int, harm: float) -> Ward:
    """A dose relieves what is seen at once, and harms by its sum at the end of a long stay."""
    return Ward(
        clinicians=mild,
        told=mild,
        policies=(tilt(0.2),),
        dies=lambda now, actions: now["x"] - 1.2 + harm * now["given"],
        move=wander(0.3),
        seen=("x", "t"),
        horizon=horizon,
    )


WARDS: dict[str, Ward] = {
    "rare deaths, no effect, 1,000 stays": rare(0.02, 1000),
    "rare deaths, no effect, 300 stays": rare(0.05, 300),
    "rare deaths, the dose harms": rare(0.02, 1000, 0.4),
    "1% die, no effect": rare(0.01, 2585),
    "97% die, no effect": rare(0.97, 1000),
    "fatal dose said to be rare": fatal(),
    "hidden severity, ten indicators": hidden(0.5, 1.0, 1.5, indicators=10),
    "hidden severity, four near copies": hidden(0.5, 1.0, 1.5, copies=4),
    "hidden severity, what is seen not gone by": hidden(0.05, 1.0, 1.5),
    "hidden severity, stronger": hidden(0.2, 2.0, 3.0),
    "twenty stays a patient": twenty(),
    "twelve policies on one split": many(12),
    "thin region": thin(2.6, 1.0),
    "drift, year seen": drift(("x", "year"), is_known=True),
    "drift, year seen, estimated": drift(("x", "year"), is_known=False),
    "drift, year hidden": drift(("x",), is_known=False),
    "units seen": units(("x", "unit"), is_known=True),
    "units seen, estimated": units(("x", "unit"), is_known=False),
    "units hidden": units(("x",), is_known=False),
    "near-deterministic, no effect": firm(0.0, 1, 1000),
    "near-deterministic, harm": firm(0.3, 1, 2585),
    "near-deterministic, harm, five decisions": firm(1.0, 5, 2585),
    "cut short by what is seen": cut("x", is_known=True),
    "cut short by what is hidden": cut("u", is_known=True),
    "cut short by what is hidden, estimated": cut("u", is_known=False),
    "late harm, ten decisions": late(10, 2.6),
    "late harm, twenty decisions": late(20, 3.2),
}
