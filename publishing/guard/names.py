"""The names of policies and estimators that may be published."""

from typing import Annotated

from pydantic import AfterValidator, Field

from sepsis_cql.evaluation.estimators.table import ESTIMATORS

POLICY = "package"  # what the policy of an export is called: the package itself
OTHERS = (
    r"clone of the clinicians|no treatment|random|always the modal action \((1?[0-9]|2[0-4])\)|clinicians"
)
SOFTENINGS = (
    r"clinicians x exp\(Q / ([1-9][0-9]?|0\.[1-9][0-9]?)\)|(100|[1-9]?[0-9])% of decisions left to clinicians"
)
NAMES = "|".join(ESTIMATORS)


def one_of(known: frozenset[str]) -> AfterValidator:
    """Return a check that a text is one of the known ones."""

    def check(value: str) -> str:
        if value not in known:
            raise ValueError("not a name that is published")
        return value

    return AfterValidator(check)


EstimatorName = Annotated[str, one_of(frozenset(ESTIMATORS))]
PolicyName = Annotated[str, Field(pattern=rf"^({POLICY}|{POLICY}, ({SOFTENINGS})|{OTHERS})$")]
