"""Counts of fewer than 10 patients are not shown, nor can they be worked out from what is shown.

One rule for every table that is published: numbers of patients, episodes and decisions are rounded to tens. Two tables
that share a margin, a total beside its parts, or a share beside its whole then give no count more closely than to
within ten, so that hiding the small cells needs no companions, whatever else is published.
"""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

SMALLEST_CELL = 10  # patients
SMALL: Literal["<10"] = "<10"
SMALLEST_STEP = 1e-4  # of a share


Key = TypeVar("Key", bound=Hashable)


def _is_safe(count: int | str) -> int | str:
    if isinstance(count, int) and 0 < count < SMALLEST_CELL:
        raise ValueError(f"a count of fewer than {SMALLEST_CELL} patients")
    return count


def _is_rounded(count: int | str) -> int | str:
    if isinstance(count, int) and count % SMALLEST_CELL:
        raise ValueError(f"a count that is not rounded to {SMALLEST_CELL}")
    return count


Count = Annotated[Annotated[int, Field(ge=0)] | Literal["<10"], AfterValidator(_is_safe)]
RoundedCount = Annotated[
    Annotated[int, Field(ge=0, lt=10_000_000)] | Literal["<10"], AfterValidator(_is_rounded)
]


def hide_count(count: int) -> Count:
    """Return the count, or "<10" where it is small."""
    return SMALL if 0 < count < SMALLEST_CELL else count


def hidden_groups(counts: Mapping[str, int], smallest: int = SMALLEST_CELL) -> set[str]:
    """Return the disjoint groups that must not be shown: small ones and, beside a single one, the next smallest.

    The total of the others would otherwise give the single small one away.
    """
    hidden = {name for name, count in counts.items() if 0 < count < smallest}
    others = [name for name, count in counts.items() if name not in hidden and count > 0]
    if len(hidden) == 1 and others:
        hidden.add(min(others, key=lambda name: counts[name]))
    return hidden


def round_count(count: Count) -> RoundedCount:
    """Return the count rounded to tens, "<10" where it is small."""
    if isinstance(count, str) or 0 < count < SMALLEST_CELL:
        return SMALL
    return (count + SMALLEST_CELL // 2) // SMALLEST_CELL * SMALLEST_CELL


def round_part(part: int, whole: int) -> RoundedCount:
    """Return `part` of `whole` patients rounded to tens, "<10" where it or the rest is small."""
    return SMALL if SMALL in (hide_count(part), hide_count(whole - part)) else round_count(part)


def round_share(share: float | None, whole: Count) -> float | None:
    """Return a share of `whole` in steps of ten of the whole, so that share times whole is a count rounded to tens.

    None of fewer than ten. Rounding twice changes nothing.
    """
    count = round_count(whole)
    if share is None or isinstance(count, str) or count == 0:
        return None
    step = max(SMALLEST_CELL / count, SMALLEST_STEP)
    return round_number(min(1.0, math.floor(share / step + 0.5) * step))


def floor_size(size: float) -> float:
    """Return an effective sample size as whole tens of episodes, 0 below ten: it can equal a number of patients."""
    return float(math.floor(size / SMALLEST_CELL + 1e-9) * SMALLEST_CELL)


@dataclass(frozen=True)
class FinalReward:
    """The reward for survival, and minus it for death, on the last step of an episode.

    Attributes:
        size: of the reward.
        smallest: of it at the first step, discounted over the longest episode there may be.
    """

    size: float
    smallest: float

    def hides(self, mean: float | None, episodes: Count) -> bool:
        """Whether a mean return may rest on fewer than ten deaths or survivors, which it would then give away.

        With n episodes of final reward ±R, discounted to at least S, a mean m leaves at least n (S - |m|) / (R + S) in
        the smaller group.

        Args:
            mean: return of the episodes.
            episodes: their number, exact or rounded.
        """
        count = round_count(episodes)
        if mean is None or isinstance(count, str):
            return True
        return count * (self.smallest - abs(mean)) / (self.size + self.smallest) < SMALLEST_CELL


Part = tuple[int, float]  # number of episodes and their mean return


def show_with_enough_hidden(
    parts: Mapping[Key, Part], whole: Part, hides: Callable[[float, int], bool]
) -> set[Key]:
    """Return which of disjoint parts may be shown so that the whole less them gives no mean away that is hidden.

    Args:
        parts: those that could be shown by themselves.
        whole: of which they are parts; what it has besides is not shown.
        hides: whether a mean of so many episodes must not be shown.
    """
    shown = dict(parts)
    while shown:
        left = whole[0] - sum(number for number, _ in shown.values())
        rest = whole[0] * whole[1] - sum(number * mean for number, mean in shown.values())
        if left <= 0 or not hides(rest / left, left):
            break
        del shown[min(shown, key=lambda key: shown[key][0])]
    return set(shown)


def round_number(value: float, digits: int = 5) -> float:
    """Return a number with too few digits to hold an identifier; a huge one as a power of ten."""
    if abs(value) >= 1e6:
        return math.copysign(10.0 ** round(math.log10(abs(value))), value)
    return float(f"{value:.{digits}g}")
