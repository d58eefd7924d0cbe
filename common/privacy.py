"""Counts of fewer than 10 patients are not shown, nor can they be worked out from what is shown."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sepsis_cql.common.strict import Record

SMALLEST_CELL = 10  # patients
SMALL: Literal["<10"] = "<10"


def _is_safe(count: int | str) -> int | str:
    if isinstance(count, int) and 0 < count < SMALLEST_CELL:
        raise ValueError(f"a count of fewer than {SMALLEST_CELL} patients")
    return count


Count = Annotated[Annotated[int, Field(ge=0)] | Literal["<10"], AfterValidator(_is_safe)]


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


class AttritionRow(Record):
    """Stays that one criterion, or several pooled ones, removed, and those that remained."""

    criterion: str = Field(pattern=r"^[\w ,;:.'()<>=≥≤+/-]+$", max_length=300)
    removed: Count
    remaining: Count


def suppress_counts(counts: Mapping[str, int]) -> dict[str, Count]:
    """Return counts of disjoint groups with those that must not be shown as "<10"."""
    hidden = hidden_groups(counts)
    return {name: SMALL if name in hidden else count for name, count in counts.items()}


def suppress_share(part: int, whole: int) -> Count:
    """Return `part` of `whole` patients, hidden where it or the rest is small."""
    return SMALL if SMALL in (hide_count(part), hide_count(whole - part)) else part


def pool_small_rows(rows: Sequence[tuple[str, int]], start: int) -> list[AttritionRow]:
    """Attrition with each criterion that removed fewer than 10 pooled with its neighbor.

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
        result.append(
            AttritionRow(criterion=criterion, removed=hide_count(removed), remaining=hide_count(start))
        )
    return result
