"""Whether a repository shows a use of the test split that the ledger behind a new export does not know of.

A ledger on another machine begins anew. What is published is the one memory of a test split that every machine shares.
"""

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.publishing.guard.evaluation import PublishedEvaluation
from sepsis_cql.publishing.guard.strict_json import read_document
from sepsis_cql.replay.records import CREDENTIALED


def check_later_use(published: bytes, new: bytes, repository: str) -> None:
    """Refuse evidence of a further policy on a test split of credentialed records that counts no further use.

    Args:
        published: `evaluation.json` of the revision that the repository holds.
        new: that of the export to push.
        repository: for the message.

    Raises:
        PublishingError: both scored the same test split, other policies, and the new one counts too few.
    """
    try:
        before: Evaluation = read_document(PublishedEvaluation, published)
    except PublishingError:
        return  # of another version, whose evidence has another form
    after = read_document(PublishedEvaluation, new)
    is_same_split = before.split == after.split == "test" and before.replay == after.replay
    is_same_policy = before.policy.weights_sha256 == after.policy.weights_sha256
    if after.replay.source.name not in CREDENTIALED or is_same_policy or not is_same_split:
        return
    expected = max(2, before.test_split_uses or 0)
    if (found := after.test_split_uses or 0) < expected:
        raise PublishingError(
            f"{repository}: holds another policy that was scored on this test split; this export counts {found} uses, "
            f"expected at least {expected}. Score it with the ledger of the published one (`evaluate --ledger DIR "
            '--again --why "REASON"`), so that the card says how often the test split was used.'
        )
