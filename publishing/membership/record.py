"""The shape of `membership.json`, which is published as it is: what the attacks reached, and what follows from it."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from sepsis_cql.common.privacy import RoundedCount
from sepsis_cql.common.strict import Record, Settings, load_shipped, read_record
from sepsis_cql.replay.records import CREDENTIALED

AUDIT = "membership.json"
MEASURED = Path(__file__).with_name("measured.json")
AttackName = Literal[
    "given dose", "Bellman error", "return", "value",
    "given dose, calibrated", "Bellman error, calibrated", "return, calibrated", "value, calibrated",
]  # fmt: skip
OF_LOGITS = {name for name in get_args(AttackName) if name.startswith("given dose")}
Area = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, multiple_of=0.001)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class AuditSettings(Settings):
    """The whole of `configs/membership.yaml`."""

    largest_auroc: float = Field(gt=0.5, lt=1)
    confidence: float = Field(gt=0.5, lt=1)
    fewest_patients: int = Field(ge=20)
    seed: int = Field(ge=0, lt=2**31)


class Attack(Record):
    """Area under the ROC curve of one attack with its bounds, to three decimals."""

    auroc: Area
    lower: Area
    upper: Area

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.lower <= self.auroc <= self.upper:
            raise ValueError("bounds that do not enclose the area")
        return self

    def __str__(self) -> str:
        """`0.512 [0.490, 0.534]`."""
        return f"{self.auroc:.3f} [{self.lower:.3f}, {self.upper:.3f}]"


class MembershipAudit(Record):
    """Contents of `membership.json`.

    Attributes:
        weights_sha256, replay_fingerprint: of what was audited, and on which replay.
        members, held_out: patients trained on, and of the validation split.
        largest_auroc, confidence: the rule, as shipped.
        attacks: by name; empty where there were too few patients.
    """

    weights_sha256: Sha256
    replay_fingerprint: Sha256
    members: RoundedCount
    held_out: RoundedCount
    largest_auroc: Area
    confidence: Area
    attacks: dict[AttackName, Attack]

    @model_validator(mode="after")
    def _is_by_the_shipped_rule(self) -> Self:
        rule = audit_settings()
        if (self.largest_auroc, self.confidence) != (rule.largest_auroc, rule.confidence):
            raise ValueError("another rule than the shipped one")
        if set(self.attacks) not in (set(), OF_LOGITS, set(get_args(AttackName))):
            raise ValueError("not all attacks")
        return self

    @property
    def strongest(self) -> AttackName | None:
        """The attack with the largest area; None where none was made."""
        return max(self.attacks.items(), key=lambda row: row[1].auroc)[0] if self.attacks else None

    @property
    def memorizes(self) -> bool:
        """Whether an attack is surely better than the rule allows."""
        return any(attack.lower > self.largest_auroc for attack in self.attacks.values())

    @property
    def is_cleared(self) -> bool:
        """Whether every attack is surely no better than the rule allows."""
        return bool(self.attacks) and all(
            attack.upper <= self.largest_auroc for attack in self.attacks.values()
        )


class AuditOutcomes(Record):
    """What audits of networks of one kind found.

    Attributes:
        median_auroc: of the strongest attack.
        above_chance: audits with a lower bound above 0.5.
        refused, cleared: audits by outcome.
    """

    median_auroc: Area
    above_chance: int = Field(ge=0)
    refused: int = Field(ge=0)
    cleared: int = Field(ge=0)


class AuditErrors(Record):
    """How often the audit errs, as `benchmarks/membership.py` measured it; `patients` is the size of each group."""

    repetitions: int = Field(ge=1)
    patients: RoundedCount
    kinds: dict[Literal["never seen", "ordinary", "memorizing"], AuditOutcomes]


@cache
def audit_errors() -> AuditErrors:
    """Return the measured errors as this version ships them."""
    return read_record(AuditErrors, MEASURED, expected="what benchmarks/membership.py writes")


@cache
def audit_settings() -> AuditSettings:
    """Return the shipped rule."""
    return load_shipped(AuditSettings, "membership.yaml")


def refusal(audit: MembershipAudit | None, source: str) -> str | None:
    """Return why weights must not leave the machine; None if they may, as far as this audit can tell.

    Weights that memorize are refused whatever they were trained on. For credentialed records the burden of proof is
    reversed: they need an audit that was precise enough to clear them.

    Args:
        audit: of the weights; None if there was none.
        source: name of the tables they were trained on.
    """
    if audit is not None and audit.memorizes:
        name, limit = audit.strongest, audit.largest_auroc
        assert name is not None
        return (
            f"the weights give away whom they were trained on: the attack {name!r} reaches an AUROC of "
            f"{audit.attacks[name].auroc:.3f}, expected at most {limit}. Train for fewer epochs, on more patients, or "
            "with a smaller network"
        )
    if source not in CREDENTIALED or (audit is not None and audit.is_cleared):
        return None
    if audit is None:
        return "weights of credentialed records were not audited for membership inference. Run `sepsis-cql audit`"
    if not audit.attacks:
        return "too few patients to audit weights that were trained on credentialed records"
    upper = max(attack.upper for attack in audit.attacks.values())
    return (
        "the audit cannot exclude that weights trained on credentialed records give away whom they were trained on: an "
        f"AUROC of up to {upper:.3f} is possible, expected at most {audit.largest_auroc}. Train for fewer epochs, on "
        "more patients, or with a smaller network"
    )
