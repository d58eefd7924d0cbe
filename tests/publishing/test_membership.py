"""Weights that give away whom they were trained on stay here; those of credentialed records need proof."""

import dataclasses
import json

import numpy as np
import pytest
from pydantic import ValidationError

from sepsis_cql.checkpoints.hub_package import load_package
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.publishing.evidence import RECORDS, read_records
from sepsis_cql.publishing.guard.strict_json import dump_json, dump_record, read_document
from sepsis_cql.publishing.membership.attacks import auroc, score_patients
from sepsis_cql.publishing.membership.audit import attack, describe_audit
from sepsis_cql.publishing.membership.record import (
    Attack,
    MembershipAudit,
    audit_errors,
    audit_settings,
    refusal,
)
from sepsis_cql.tests.publishing.leaks import mutate
from sepsis_cql.tests.training.made_up import RUNTIME, make_data, make_settings
from sepsis_cql.training.data import new_model
from sepsis_cql.training.run import Run, train_runs

LARGE = {"hidden_sizes": [64, 64], "batch_size": 64, "checkpoint_epochs": 1000}
RECIPES = {
    "honest": make_settings(**LARGE, epochs=2, learning_rate=1e-4),
    "memorizing": make_settings(**LARGE, epochs=50, learning_rate=3e-3),
}
NAMES = ("given dose", "Bellman error", "return", "value")


def make_audit(auroc=0.5, half=0.02, **changes):
    """An audit in which every attack has the same area."""
    area = {"lower": round(auroc - half, 3), "auroc": auroc, "upper": round(auroc + half, 3)}
    values = {
        "weights_sha256": "a" * 64,
        "replay_fingerprint": "b" * 64,
        "members": 1000,
        "held_out": 400,
        "largest_auroc": audit_settings().largest_auroc,
        "confidence": audit_settings().confidence,
        "attacks": {name + more: area for name in NAMES for more in ("", ", calibrated")},
    }
    return MembershipAudit.model_validate(values | changes)


@pytest.fixture(scope="module")
def audits(tmp_path_factory):
    """Audits of networks trained on 60 patients, with the truth or with 60 others who are said to be members."""
    members, others, held_out = (make_data(n_stays=60, seed=seed) for seed in (1, 2, 3))
    place, found = tmp_path_factory.mktemp("audits"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sepsis_cql.training.outputs.draw_curves", lambda logs, file: None)
        for name, settings in RECIPES.items():
            out = place / name
            train_runs(
                [Run(settings, out)], members, RUNTIME, checkpoints=out / "c", report=lambda progress: None
            )
            model = load_package(out / "package")
            claims = {"seen": members} | ({"never seen": others} if name == "memorizing" else {})
            for claim, data in claims.items():
                scores = attack(model, settings, data, held_out.transitions, audit_settings(), out / claim)
                groups = data.transitions, held_out.transitions
                found[name, claim] = describe_audit(scores, "0" * 64, "0" * 64, *groups, audit_settings())
    return found


def test_network_that_memorizes_is_refused_whatever_it_was_trained_on(audits):
    audit = audits["memorizing", "seen"]
    assert audit.attacks[audit.strongest].auroc > 0.9
    assert "give away" in refusal(audit, "synthetic") and "give away" in refusal(audit, "mimic-iv")


@pytest.mark.parametrize("claim", [("honest", "seen"), ("memorizing", "never seen")])
def test_what_a_network_cannot_know_is_not_found(audits, claim):
    audit = audits[claim]
    assert refusal(audit, "synthetic") is None
    assert all(attack.lower <= 0.5 <= attack.upper for attack in audit.attacks.values())


def test_network_of_logits_has_no_attacks_on_values():
    data = make_data(n_stays=5)
    found = score_patients(new_model(data, make_settings("behavior_cloning")), data.transitions, None)
    assert {name: len(score) for name, score in found.items()} == {"given dose": 5}
    assert (found["given dose"] < 0).all()


def test_auroc_is_the_share_of_pairs_in_order_with_delongs_error():
    members, others = np.array([3.0, 1.0, 2.0]), np.array([0.0, 2.0])
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    above, below = np.array([1.0, 0.5, 0.75]), np.array([1.0, 0.5])
    found = auroc(members, others)
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.standard_error == pytest.approx(np.sqrt(above.var(ddof=1) / 3 + below.var(ddof=1) / 2))


@pytest.mark.parametrize(
    ("audit", "source", "expected"),
    [
        (None, "synthetic", None),
        (None, "mimic-iv-demo", None),
        (None, "mimic-iv", "not audited"),
        (make_audit(), "mimic-iv", None),
        (make_audit(0.69, 0.01), "mimic-iv", None),
        (make_audit(0.69, 0.02), "mimic-iv", "cannot exclude"),
        (make_audit(0.69, 0.02), "synthetic", None),
        (make_audit(0.73, 0.02), "synthetic", "give away"),
        (make_audit(attacks={}), "synthetic", None),
        (make_audit(attacks={}), "mimic-iv", "too few patients"),
    ],
)
def test_burden_of_proof_lies_with_credentialed_records(audit, source, expected):
    found = refusal(audit, source)
    assert found is None if expected is None else expected in found


@pytest.mark.parametrize(
    "changes",
    [
        {"members": 1003},
        {"held_out": 7},
        {"weights_sha256": "10000032"},
        {"largest_auroc": 0.99},
        {"confidence": 0.5},
        {"attacks": {"given dose": {"auroc": 0.5, "lower": 0.4, "upper": 0.6}, "subject 10000032": {}}},
        {"attacks": {"value": {"auroc": 0.5, "lower": 0.4, "upper": 0.6}}},
        {"attacks": {"given dose": {"auroc": 0.51234, "lower": 0.4, "upper": 0.6}}},
        {"note": "10000032"},
    ],
)
def test_record_holds_nothing_else(changes):
    with pytest.raises(ValidationError):
        MembershipAudit.model_validate(make_audit().model_dump() | changes)


def test_no_leak_planted_into_the_record_is_read():
    hashes = {
        "weights_sha256",
        "replay_fingerprint",
    }  # those of others are noticed beside the weights and the build
    taken, tried = [], 0
    for leak, make in mutate(make_audit().model_dump(mode="json")):
        tried += 1
        try:
            found = read_document(MembershipAudit, json.dumps(make(), indent=2).encode() + b"\n")
        except (PublishingError, ValueError):
            continue
        if found.model_dump(exclude=hashes) != make_audit().model_dump(exclude=hashes):
            taken.append(leak)
    assert tried > 200 and taken == []


def test_bounds_enclose_the_area():
    with pytest.raises(ValidationError, match="enclose"):
        Attack(auroc=0.8, lower=0.1, upper=0.2)


@pytest.mark.parametrize(
    ("audit", "refused"),
    [
        (None, "not audited"),
        (make_audit(0.8), "give away"),
        (make_audit(0.69), "cannot exclude"),
        (make_audit(), None),
    ],
)
def test_package_of_credentialed_weights_needs_an_audit_that_clears_them(clean, audit, refused):
    files = {name: data for name, data in clean.items() if name != RECORDS["membership"]}
    for name in ("build", "training", "evaluation"):
        record = json.loads(files[RECORDS[name]])
        holder = {"build": record, "training": record.get("data"), "evaluation": record.get("replay")}[name]
        holder["source"] = {"name": "mimic-iv", "version": "3.1"}
        files[RECORDS[name]] = dump_json(record | ({"synthetic": None} if name == "build" else {}))
    if audit is not None:
        files[RECORDS["membership"]] = dump_record(audit)
    if refused is None:
        assert read_records(files).membership == audit
        return
    with pytest.raises(PublishingError, match=refused):
        read_records(files)


def test_audit_of_other_weights_is_no_audit(clean):
    from sepsis_cql.publishing.evidence import disagreements, read_sources

    sources = read_sources(clean)
    records = dataclasses.replace(sources.records, membership=make_audit())
    assert any("membership" in text for text in disagreements(dataclasses.replace(sources, records=records)))


def test_measured_errors_are_those_the_audit_promises():
    kinds = audit_errors().kinds
    assert kinds["never seen"].refused == 0 and kinds["memorizing"].refused == audit_errors().repetitions
