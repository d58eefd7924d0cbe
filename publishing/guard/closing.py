"""Closed types derived from records, so that what is published repeats no field and forgets none.

Floats have five digits everywhere. Whatever else could hold a patient needs a bound that somebody stated: a text or a
whole number that an identifier fits into, or a list of any length, is refused when this program starts, so that what is
added to a record is not published by itself.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from sepsis_cql.common.strict import Record
from sepsis_cql.publishing.guard.fields import Number

RecordT = TypeVar("RecordT", bound=Record)
Bounds = Mapping[type[Record], Mapping[str, Any] | type[Record]]
# What no text, no whole number and no mapping may be.
IDENTIFIERS: dict[Any, Any] = {str: "10012345", int: 10_012_345, dict[str, Any]: {"10012345": 10_012_345}}


def closed(bounds: Bounds) -> Callable[[type[RecordT]], type[RecordT]]:
    """Return a decorator that closes the fields a record inherits; its own validators hold besides.

    Args:
        bounds: by the record that declares them, the types of fields that need one, in which records are closed as
            well; or the closed type of a whole record, where it is written out.

    Raises:
        TypeError: a field could hold an identifier or a list of any length.
    """
    made: dict[type[Record], type[Record]] = {}

    def close(model: type[Record], name: str) -> type[Record]:
        own: dict[str, Any] = {}
        for kind in model.__mro__:
            found = bounds.get(kind, {})
            if isinstance(found, type):
                return found
            own = {**found, **own}
        fields: dict[str, Any] = {
            field: (close_type(own.get(field, _declared(info)), f"{model.__name__}.{field}"), _default(info))
            for field, info in model.model_fields.items()
        }
        return create_model(name, __base__=model, __doc__=model.__doc__, __module__=__name__, **fields)

    def close_type(kind: Any, place: str, *, is_bounded: bool = False) -> Any:
        origin, parts = get_origin(kind), get_args(kind)
        if origin is Annotated:
            if parts[0] in IDENTIFIERS and not _fits(IDENTIFIERS[parts[0]], kind):
                return kind
            return Annotated[(close_type(parts[0], place, is_bounded=True), *kind.__metadata__)]
        if kind in (*IDENTIFIERS, Any) or (origin is list and not is_bounded):
            raise TypeError(f"{place}: found {kind}, expected a bound of what is published")
        if origin in (Union, UnionType):
            return reduce(or_, [close_type(part, place, is_bounded=is_bounded) for part in parts])
        if origin in (list, dict):
            return origin[tuple(close_type(part, place) for part in parts)]
        if isinstance(kind, type) and issubclass(kind, Record):
            if kind not in made:
                made[kind] = close(kind, f"Published{kind.__name__}")
            return made[kind]
        return Number if kind is float else kind

    return lambda model: close(model, model.__name__)  # type: ignore[return-value]


def _fits(value: object, kind: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def _declared(info: FieldInfo) -> Any:
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def _default(info: FieldInfo) -> Any:
    if info.default_factory is not None:
        return Field(default_factory=info.default_factory, exclude_if=info.exclude_if)
    return Field() if info.is_required() else Field(default=info.default, exclude_if=info.exclude_if)
