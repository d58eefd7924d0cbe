"""An export to the Hugging Face Hub and back: one commit, checked by downloading it, then a tag."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.publishing.evidence import RECORDS
from sepsis_cql.publishing.guard.files import Export, read_export
from sepsis_cql.publishing.manifest import MANIFEST, SIGNATURE, parse_manifest
from sepsis_cql.publishing.second_use import check_later_use

EVALUATION = RECORDS["evaluation"]
MADE_BY_THE_HUB = {".gitattributes", "README.md"}
ADVICE = {
    401: "Log in with `hf auth login`, with a token that may write to it.",
    403: "Your token may not write there: ask its owner, or use a token with write permission.",
    404: "No such repository or revision, or your token may not see it. Check the name.",
    409: "It exists already. Choose another name.",
    412: "Somebody else changed the repository meanwhile; nothing was overwritten. Look at it, then push again.",
    413: "The Hub refuses files of this size.",
    429: "The Hub limits the rate of requests. Wait a few minutes, then push again.",
}
AGAIN = "The repository is as before or holds the whole commit; run the same command again later."
PLAIN = "If it fails again, set HF_HUB_DISABLE_XET=1: files then go by plain HTTP."
BAD_CARD = "Invalid metadata in README.md"  # how the client begins this one message
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO)
DOWNLOAD_CACHE = ".cache"  # what the client leaves in a download directory


@dataclass(frozen=True)
class Published:
    """Where an export now is.

    Attributes:
        commit: full id of the commit that holds it.
        url: of the commit or of the pull request.
        is_new: false where the repository held exactly these files before.
    """

    commit: str
    url: str
    is_new: bool


def push(
    source: Path | Export,
    repository: str,
    *,
    private: bool = False,
    pull_request: bool = False,
    tag: str | None = None,
    api: HfApi | None = None,
) -> Published:
    """Make `repository` hold exactly the files of an export.

    The bytes that passed the privacy guard go up from memory, in one commit on top of the revision that was looked at;
    they are downloaded again and compared, and only then tagged. A push that was interrupted left the
    repository as it was or with the whole commit; running it again finishes it.

    Args:
        source: an export in memory, or a directory written by `sepsis-cql export`, which is read once and checked.
        repository: Hub id, OWNER/NAME; created if it does not exist.
        private: create it as a private repository.
        pull_request: open a pull request instead of changing the main branch.
        tag: name for the new revision; an existing tag is never moved.
        api: client with its endpoint and token; by default the Hub with the stored login.

    Raises:
        PublishingError: the guard, the state of the repository or the Hub says no.
    """
    if pull_request and tag:
        raise PublishingError("--pr and --tag: a pull request is tagged after it is merged. Use one of them.")
    check_hub_id(repository)
    export = source if isinstance(source, Export) else read_export(source)
    export.list_files()
    api = api or HfApi()
    with explained(repository):
        api.create_repo(repository, private=private or None, exist_ok=True, repo_type=export.kind)
        parent = str(api.repo_info(repository, revision="main", repo_type=export.kind).sha)
        obsolete = _obsolete_files(api, repository, parent, export)
        _check_test_uses(api, repository, parent, export)
        _check_tag_is_free(api, repository, tag, parent, export)
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(name, content) for name, content in sorted(export.files.items())]
            + [CommitOperationDelete(name) for name in obsolete],
            commit_message=_message(export),
            parent_commit=parent,
            create_pr=pull_request,
            repo_type=export.kind,
        )
        _check_published(api, repository, commit.oid, export)
        if tag:
            _set_tag(api, repository, tag, commit.oid, export.kind)
    return Published(commit.oid, commit.pr_url or commit.commit_url, is_new=commit.oid != parent)


def download(
    repository: str, revision: str | None, directory: Path, api: HfApi | None = None, kind: str = "model"
) -> str:
    """Download a revision of a model or dataset into `directory` and return its commit id.

    Raises:
        PublishingError: the Hub says no.
    """
    api = api or HfApi()
    with explained(repository):
        commit = str(api.repo_info(repository, revision=revision, repo_type=kind).sha)
        api.snapshot_download(repository, revision=commit, local_dir=directory, repo_type=kind)
    _drop_client_files(directory)
    return commit


def check_hub_id(repository: str) -> None:
    """Refuse what cannot name a repository; contacts nobody.

    Raises:
        PublishingError: it is not OWNER/NAME in the letters that the Hub takes.
    """
    with explained(repository):
        validate_repo_id(repository)
    if repository.count("/") != 1:
        raise PublishingError(f"{repository}: not a Hub id. Expected OWNER/NAME.")


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """Turn the client's errors into a `PublishingError` with advice.

    Their own text is not repeated, because it can hold signed upload addresses.

    Raises:
        PublishingError: the Hub, the connection or the client failed.
    """
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PublishingError(f"{repository}: not logged in. {ADVICE[401]}") from error
    except HFValidationError as error:
        raise PublishingError(f"{repository}: not a Hub id. Expected OWNER/NAME.") from error
    except OfflineModeIsEnabled as error:
        raise PublishingError(f"{repository}: HF_HUB_OFFLINE is set. Unset it to reach the Hub.") from error
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        if (refusal := _refusal_of_disk(error)) is not None:
            raise refusal from None
        raise PublishingError(f"{repository}: {_explanation(error)}") from error


def _refusal_of_disk(error: BaseException | None) -> OSError | None:
    """The system's refusal of a write on this machine at the root of `error`; None where the Hub is behind it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in OF_THE_DISK:
            return error
        error = error.__cause__ or error.__context__
    return None


def _explanation(error: BaseException) -> str:
    """What happened and what to do, from the answer or the broken connection at the root of `error`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError) and cause.response is not None:
            status = cause.response.status_code
            return f"the Hub answered {status}. {ADVICE.get(status, AGAIN)}"
        if isinstance(cause, httpx2.TransportError | ConnectionError):
            advice = (
                f"{AGAIN} {PLAIN}" if isinstance(cause, ConnectionError) else AGAIN
            )  # xet's, after minutes
            return f"the connection failed ({type(cause).__name__}). {advice}"
        if str(cause).startswith(BAD_CARD):
            return (
                "the Hub refuses the metadata of README.md. Nothing was uploaded; correct configs/card.yaml."
            )
        cause = cause.__cause__ or cause.__context__
    return f"the client failed ({type(error).__name__}). {AGAIN} {PLAIN}"


def _obsolete_files(api: HfApi, repository: str, parent: str, export: Export) -> list[str]:
    """Files of the earlier export that the new one lacks; files nobody here exported are an error."""
    remote = set(api.list_repo_files(repository, revision=parent, repo_type=export.kind))
    ours = set(export.files)
    earlier: set[str] = set()
    if MANIFEST in remote:
        with tempfile.TemporaryDirectory() as folder:
            file = api.hf_hub_download(
                repository, MANIFEST, revision=parent, local_dir=folder, repo_type=export.kind
            )
            earlier = {
                MANIFEST,
                SIGNATURE,
                *parse_manifest(Path(file).read_bytes(), f"{repository}/{MANIFEST}").files,
            }
    if foreign := sorted(remote - earlier - MADE_BY_THE_HUB):
        raise PublishingError(
            f"{repository}: holds files that no export wrote: {foreign[:10]}. Delete them first "
            "(`hf repos delete-files`), or push to another repository."
        )
    return sorted((remote & earlier) - ours)


def _check_test_uses(api: HfApi, repository: str, parent: str, export: Export) -> None:
    """Refuse a further policy on the test split of the published one, if a ledger begun anew calls it the first."""
    if EVALUATION not in export.files:
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = api.hf_hub_download(
                repository, EVALUATION, revision=parent, local_dir=folder, repo_type=export.kind
            )
        except EntryNotFoundError:
            return
        check_later_use(Path(file).read_bytes(), export.files[EVALUATION], repository)


def _check_tag_is_free(api: HfApi, repository: str, tag: str | None, parent: str, export: Export) -> None:
    """Refuse before anything is written; the tag may name the parent where that holds the same export."""
    target = _tags(api, repository, export.kind).get(tag) if tag else None
    if target and not (target == parent and _holds_same(api, repository, parent, export)):
        raise PublishingError(_tag_is_taken(repository, tag, target))


def _set_tag(api: HfApi, repository: str, tag: str, commit: str, kind: str) -> None:
    target = _tags(api, repository, kind).get(tag)
    if target is None:
        api.create_tag(repository, tag=tag, revision=commit, repo_type=kind)
    elif target != commit:
        raise PublishingError(_tag_is_taken(repository, tag, target))


def _tag_is_taken(repository: str, tag: str | None, target: str) -> str:
    return (
        f"{repository}: tag {tag} already names revision {target[:8]}. Tags are never moved; choose another."
    )


def _holds_same(api: HfApi, repository: str, revision: str, export: Export) -> bool:
    """Whether a revision holds the manifest of an export, and its signature where there is one."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return all(
                Path(
                    api.hf_hub_download(
                        repository, name, revision=revision, local_dir=folder, repo_type=export.kind
                    )
                ).read_bytes()
                == export.files[name]
                for name in (MANIFEST, SIGNATURE)
                if name in export.files
            )
        except EntryNotFoundError:
            return False


def _check_published(api: HfApi, repository: str, commit: str, export: Export) -> None:
    with tempfile.TemporaryDirectory() as folder:
        download(repository, commit, Path(folder), api, export.kind)
        names = {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}
        same = {
            name
            for name in names & set(export.files)
            if (Path(folder) / name).read_bytes() == export.files[name]
        }
    if other := (names | set(export.files)) - same:
        ours = sorted(other & set(export.files))
        raise PublishingError(
            f"{repository}: revision {commit[:8]} downloads differently from what was sent ({len(other)} files"
            f"{', such as ' * bool(ours)}{', '.join(ours[:5])}). Do not use it; push again."
        )


def _drop_client_files(directory: Path) -> None:
    for path in sorted((directory / DOWNLOAD_CACHE).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if (directory / DOWNLOAD_CACHE).is_dir():
        (directory / DOWNLOAD_CACHE).rmdir()
    (directory / ".gitattributes").unlink(missing_ok=True)


def _tags(api: HfApi, repository: str, kind: str) -> dict[str, str]:
    return {ref.name: ref.target_commit for ref in api.list_repo_refs(repository, repo_type=kind).tags}


def _message(export: Export) -> str:
    checkpoint = next((name for name in export.files if name.endswith(".pt")), export.kind)
    return f"Publish {Path(checkpoint).stem}"
