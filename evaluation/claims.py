"""Examine anybody's published table of results for flaws that need no data to be seen."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field, FiniteFloat, model_validator

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.strict import Settings, load_settings, read_yaml

WEIGHTED = {"is", "wis", "pdis", "pdwis", "wpdis", "dr", "wdr"}  # estimators that weigh episodes
OF_RETURNS = {"is", "wis", "pdis", "pdwis", "wpdis", "observed"}  # the mean return where every weight is 1
FEWEST_RESAMPLES = 200
ROUNDING = 0.05  # of printed values, in units of reward


class Claim(Settings):
    """One row: what is claimed of one policy by one estimator.

    Attributes:
        role: of the policy: what was learned, the clinicians themselves, or a baseline such as no treatment.
        interval: lower and upper end.
        interval_over: what the interval lets vary: only the initial states, or whole episodes.
        resamples: of the bootstrap.
        ess: effective sample size, in episodes.
        split: on which it was scored; a split that a policy was selected on is `validation`.
        true_value: of the policy, where the source plays it in a simulator.
    """

    policy: str
    role: Literal["learned", "clinicians", "baseline"]
    estimator: str
    value: FiniteFloat
    interval: tuple[FiniteFloat, FiniteFloat] | None = None
    interval_over: Literal["initial states", "episodes"] | None = None
    resamples: int | None = Field(default=None, ge=1)
    ess: FiniteFloat | None = Field(default=None, ge=0)
    split: Literal["train", "validation", "test"] | None = None
    true_value: FiniteFloat | None = None

    @property
    def name(self) -> str:
        """Policy and estimator."""
        return f"{self.policy}, {self.estimator}"


class ClaimTable(Settings):
    """A published table.

    Attributes:
        source: where it was published.
        attainable: smallest and largest return; None where it is not said.
        n_episodes: scored episodes.
        rows: its rows.
    """

    source: str
    attainable: tuple[FiniteFloat, FiniteFloat] | None = None
    n_episodes: int | None = Field(default=None, ge=1)
    rows: list[Claim] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        ends = [row.interval for row in self.rows] + [self.attainable]
        if any(pair is not None and pair[0] > pair[1] for pair in ends):
            raise ValueError("found a lower end above its upper end")
        return self


class Flaw(NamedTuple):
    """What is wrong, and where.

    Attributes:
        kind: one word for one kind of flaw.
        rows: of the table; empty where the table as a whole is meant.
        sentence: says it.
    """

    kind: Literal[
        "unattainable", "few episodes", "unstated size", "clinicians differ", "initial states", "no interval",
        "few resamples", "outside its interval", "no clinicians", "no baseline", "worse than clinicians",
        "worse than a baseline", "families differ", "selected here", "unstated range",
        "misses the truth", "truly worse than clinicians",
    ]  # fmt: skip
    rows: list[str]
    sentence: str


def load_claims(file: Path) -> ClaimTable:
    """Read a table of claims.

    Raises:
        EvaluationError: the file is no such table.
    """
    if "rows" not in read_yaml(file):
        raise EvaluationError(f"{file}: found no `rows`, expected a table of claims (see docs/commands.md).")
    return load_settings(ClaimTable, file)


def find_flaws(table: ClaimTable, minimum_ess: float) -> list[Flaw]:
    """Return every flaw of a table; none where it is sound.

    Args:
        table: the claims.
        minimum_ess: effective episodes that an estimate by weights needs.
    """
    return [
        *(flaw for row in table.rows for flaw in _of_row(row, table, minimum_ess)),
        *_of_clinicians(table.rows),
        *_of_comparisons(table.rows),
        *_of_truth(table.rows),
        *_of_table(table),
    ]


def _of_row(row: Claim, table: ClaimTable, minimum_ess: float) -> Iterator[Flaw]:
    where, ends = [row.name], row.interval or ()
    if table.attainable:
        low, high = table.attainable
        beyond = [number for number in (row.value, *ends) if not low <= number <= high]
        if beyond:
            found = ", ".join(f"{number:g}" for number in beyond)
            sentence = f"{found} lies outside the attainable returns of {low:g} to {high:g}"
            yield Flaw("unattainable", where, sentence)
    if row.role != "clinicians" and row.estimator.lower() in WEIGHTED:
        if row.ess is None:
            yield Flaw("unstated size", where, "weighs episodes, and gives no effective sample size")
        elif row.ess < minimum_ess:
            of = f" of {table.n_episodes:,}" if table.n_episodes else ""
            needed = f"expected at least {minimum_ess:g}"
            yield Flaw("few episodes", where, f"rests on {row.ess:g} effective episodes{of}, {needed}")
    if row.interval is None:
        yield Flaw("no interval", where, "has no interval")
    elif not row.interval[0] <= row.value <= row.interval[1]:
        yield Flaw("outside its interval", where, "the value lies outside its own interval")
    if row.interval_over == "initial states":
        missing = "which leaves the error of the evaluator out"
        yield Flaw("initial states", where, f"the interval resamples initial states only, {missing}")
    if row.resamples is not None and row.resamples < FEWEST_RESAMPLES:
        needed = f"expected at least {FEWEST_RESAMPLES}"
        yield Flaw("few resamples", where, f"the interval rests on {row.resamples} resamples, {needed}")
    if row.split in ("train", "validation") and row.role == "learned":
        why = "which trained or selected it; expected the test split"
        yield Flaw("selected here", where, f"was scored on {row.split}, {why}")
    if (
        row.interval
        and row.true_value is not None
        and not row.interval[0] <= row.true_value <= row.interval[1]
    ):
        told = f"the true value is {row.true_value:g}"
        low, high = row.interval
        yield Flaw("misses the truth", where, f"{told}, which {low:g} to {high:g} does not hold")


def _of_clinicians(rows: list[Claim]) -> Iterator[Flaw]:
    """For the clinicians' own policy every weight is 1, so that all these estimators are the mean return."""
    own = [row for row in rows if row.role == "clinicians" and row.estimator.lower() in OF_RETURNS]
    if own and max(row.value for row in own) - min(row.value for row in own) > ROUNDING:
        values = ", ".join(f"{row.estimator} {row.value:g}" for row in own)
        why = "for the clinicians' own policy every weight is 1, so that these must be equal"
        yield Flaw("clinicians differ", [row.name for row in own], f"{values}: {why}")


def _of_comparisons(rows: list[Claim]) -> Iterator[Flaw]:
    for row in rows:
        if row.role != "learned":
            continue
        for other in rows:
            is_alike = other.role != "learned" and other.estimator.lower() == row.estimator.lower()
            if is_alike and other.value >= row.value:
                sentence = f"{row.value:g} is no more than the {other.value:g} of {other.policy}"
                is_clinicians = other.role == "clinicians"
                yield Flaw(
                    "worse than clinicians" if is_clinicians else "worse than a baseline",
                    [row.name, other.name],
                    sentence,
                )
    learned = [row for row in rows if row.role == "learned"]
    for one, other in combinations(learned, 2):
        if one.policy == other.policy and _apart(one, other):
            yield Flaw(
                "families differ", [one.name, other.name], "two estimates of one policy exclude each other"
            )


def _of_truth(rows: list[Claim]) -> Iterator[Flaw]:
    """Learned policies that are estimated to be better than the clinicians and truly are not."""
    own = [
        row.value if row.true_value is None else row.true_value for row in rows if row.role == "clinicians"
    ]
    for row in rows:
        if (
            row.role == "learned"
            and row.true_value is not None
            and own
            and row.true_value <= own[0] < row.value
        ):
            sentence = f"{row.value:g} is claimed where the clinicians have {own[0]:g}; the truth is {row.true_value:g}"
            yield Flaw("truly worse than clinicians", [row.name], sentence)


def _apart(one: Claim, other: Claim) -> bool:
    """Whether intervals do not overlap; a value without an interval is its own."""
    a, b = (row.interval or (row.value, row.value) for row in (one, other))
    return (one.interval is not None or other.interval is not None) and (a[1] < b[0] or b[1] < a[0])


def _of_table(table: ClaimTable) -> Iterator[Flaw]:
    roles = {row.role for row in table.rows}
    if "clinicians" not in roles:
        yield Flaw("no clinicians", [], "what clinicians achieved on the same episodes is missing")
    if "baseline" not in roles:
        yield Flaw("no baseline", [], "no baseline such as no treatment or random doses")
    if table.attainable is None:
        yield Flaw("unstated range", [], "does not say which returns are attainable")
