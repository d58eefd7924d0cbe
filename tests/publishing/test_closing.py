"""What is derived from a record to be published is closed, whatever is added to the record."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from sepsis_cql.common.strict import Record
from sepsis_cql.publishing.guard.closing import closed


class Inner(Record):
    x: float
    name: str


class Outer(Record):
    z: float | None
    inner: list[Inner]
    by_name: dict[str, Inner] = Field(default_factory=dict, exclude_if=lambda found: not found)

    @model_validator(mode="after")
    def _is_not_seven(self):
        if self.z == 7:
            raise ValueError("seven")
        return self


BOUNDS = {
    Inner: {"name": Literal["k"]},
    Outer: {"inner": Annotated[list[Inner], Field(max_length=2)], "by_name": dict[Literal["m"], Inner]},
}
INNER = {"x": 1.5, "name": "k"}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({Outer: {"by_name": BOUNDS[Outer]["by_name"]}}, "Outer.inner: found list"),
        ({Outer: {"inner": BOUNDS[Outer]["inner"]}}, "Outer.by_name: found <class 'str'>"),
        ({Inner: {}}, "Inner.name"),
        ({Inner: {"name": Annotated[str, Field(max_length=40)]}}, "Inner.name"),
        ({Inner: {"name": Annotated[int, Field(ge=0)]}}, "Inner.name: found <class 'int'>"),
        ({Inner: {"name": dict[str, Any]}}, "Inner.name"),
    ],
)
def test_a_field_that_an_identifier_fits_into_is_refused_before_anything_is_published(change, place):
    with pytest.raises(TypeError, match=place):
        closed(BOUNDS | change)(Outer)


def test_the_derived_type_has_the_fields_defaults_and_validators_of_the_record():
    published = closed(BOUNDS)(Outer)
    assert list(published.model_fields) == list(Outer.model_fields)
    found = published.model_validate({"z": 0.5, "inner": [INNER]})
    assert found.model_dump() == {"z": 0.5, "inner": [INNER]} and isinstance(found, Outer)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"z": 1.234567}, ("z",)),
        ({"z": float("inf")}, ("z",)),
        ({"z": 7.0}, ()),
        ({"inner": [INNER | {"x": 1.234567}]}, ("inner", 0, "x")),
        ({"inner": [INNER | {"name": "10012345"}]}, ("inner", 0, "name")),
        ({"inner": [INNER] * 3}, ("inner",)),
        ({"by_name": {"10012345": INNER}}, ("by_name", "10012345", "[key]")),
    ],
)
def test_what_is_beyond_a_bound_is_refused_by_its_place(changes, place):
    with pytest.raises(ValidationError) as refusal:
        closed(BOUNDS)(Outer).model_validate({"z": None, "inner": []} | changes)
    assert refusal.value.errors()[0]["loc"] == place
