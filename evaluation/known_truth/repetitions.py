"""Repetitions of a case, one line of JSON each, so that a run that was stopped goes on where it was."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.storage import new_file
from sepsis_cql.evaluation.known_truth.summary import Outcome

ONE = TypeAdapter(list[Outcome])


def resume(
    file: Path, made_with: str, n: int, run: Callable[[list[int]], Iterator[tuple[int, list[Outcome]]]]
) -> Iterator[list[list[Outcome]]]:
    """Yield all repetitions there are, first those of an earlier run, then after each new one.

    Args:
        file: takes a line for each repetition; one that ends in the middle is made again.
        made_with: settings and code that the repetitions depend on.
        n: repetitions.
        run: makes those of the given numbers, and yields each with its number in any order.

    Raises:
        EvaluationError: the file holds repetitions made with other settings or other code.
    """
    found = _read(file, made_with)
    missing = [number for number in range(n) if number not in found]
    with new_file(file) as begun, begun.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps({"made_with": made_with}) + "\n")
        for number, outcomes in sorted(found.items()):
            _write(stream.write, number, outcomes)
    with file.open("a", encoding="utf-8") as stream:
        yield [found[number] for number in sorted(found) if number < n]
        for number, outcomes in run(missing):
            found[number] = outcomes
            _write(stream.write, number, outcomes)
            stream.flush()
            yield [found[number] for number in sorted(found) if number < n]


def _read(file: Path, made_with: str) -> dict[int, list[Outcome]]:
    if not file.is_file():
        return {}
    first, *lines = file.read_text(encoding="utf-8", errors="replace").splitlines() or ["{}"]
    if made_with not in first:
        raise EvaluationError(
            f"{file}: found repetitions made with other settings or other code, expected those of this run. "
            "Remove the file, or use another directory."
        )
    found = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[int(entry["repetition"])] = ONE.validate_python(entry["outcomes"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, ValidationError):
            break  # of a run that was stopped while it wrote
    return found


def _write(write: Callable[[str], object], number: int, outcomes: list[Outcome]) -> None:
    write(json.dumps({"repetition": number, "outcomes": ONE.dump_python(outcomes, mode="python")}) + "\n")
