"""Counts of fewer than 10 patients are not shown, nor can they be worked out from what is shown."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sepsis_cql.configs.loading import Settings

SMALLEST_CELL = 10  # patients
SMALL: Literal["<10"] = "<10"


def _is_safe(count: int | str) -> int | str:
    if isinstance(count, int) and 0 < count < SMALLEST_CELL:
        raise ValueError(f"a count of fewer than {SMALLEST_CELL} patients")
    return count


Count = Annotated[Annotated[int, Field(ge=0)] | Literal["<10"], AfterValidator(_is_safe)]


class AttritionRow(Settings):
    """Stays that one criterion, or several pooled ones, removed, and those that remained."""

    criterion: str = Field(pattern=r"^[\w ,;:.'()<>=≥≤+/-]+$", max_length=300)
    removed: Count
    remaining: Count


def suppress_counts(counts: Mapping[str, int]) -> dict[str, int | str]:
    """Counts of disjoint groups, small ones as "<10".

    Where exactly one is small, the next smallest is hidden too: the total would give the hidden one away.
    """
    hidden = {name for name, count in counts.items() if 0 < count < SMALLEST_CELL}
    others = [name for name, count in counts.items() if name not in hidden and count > 0]
    if len(hidden) == 1 and others:
        hidden.add(min(others, key=lambda name: counts[name]))
    return {name: SMALL if name in hidden else count for name, count in counts.items()}


def suppress_share(part: int, whole: int) -> int | str:
    """`part` of `whole` patients, hidden where it or the rest is small."""
    return SMALL if 0 < part < SMALLEST_CELL or 0 < whole - part < SMALLEST_CELL else part


def pool_small_rows(rows: Sequence[tuple[str, int]], start: int) -> list[AttritionRow]:
    """Attrition with each criterion that removed fewer than 10 pooled with its neighbour.

    Args:
        rows: criterion and the number it removed, in the order of application.
        start: number before the first criterion.
    """
    pooled: list[tuple[str, int]] = []
    for criterion, removed in rows:
        if pooled and 0 < pooled[-1][1] < SMALLEST_CELL and removed:
            criterion, removed = f"{pooled[-1][0]}; {criterion}", pooled.pop()[1] + removed
        pooled.append((criterion, removed))
    if len(pooled) > 1 and 0 < pooled[-1][1] < SMALLEST_CELL:
        last, before = pooled.pop(), pooled.pop()
        pooled.append((f"{before[0]}; {last[0]}", before[1] + last[1]))
    result = []
    for criterion, removed in pooled:
        start -= removed
        result.append(AttritionRow(criterion=criterion, removed=_shown(removed), remaining=_shown(start)))
    return result


def _shown(count: int) -> int | Literal["<10"]:
    return SMALL if 0 < count < SMALLEST_CELL else count
