"""Whatever breaks during a push leaves the old commit or the new one, and one sentence."""

import errno
import resource
import tempfile
import traceback

import pytest
from huggingface_hub import HfApi

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.publishing.hub import push

from ..hub_server import READ_ONLY_TOKEN, TOKEN, Fault
from .conftest import NAME, contents, drop_a_figure, published

BUSY = 99  # more often than the client asks again


@pytest.mark.parametrize(
    ("fault", "applied_commits"),
    [
        (Fault("PUT", "/lfs-objects/", times=BUSY), 0),
        (Fault("POST", "/objects/batch$", times=BUSY), 0),
        (Fault("POST", "/preupload/", times=BUSY), 0),
        (Fault("POST", "/commit/"), 0),
        (Fault("POST", "/commit/", applied=True), 1),
        (Fault("GET", "/resolve/.*/manifest.json$", times=BUSY), 0),
        (Fault("GET", "/resolve/.*/model.safetensors$", times=BUSY), 1),
        (Fault("POST", "/tag/", times=BUSY), 1),
    ],
    ids=lambda value: f"{value.path}{' done' * value.applied}" if isinstance(value, Fault) else None,
)
def test_broken_connection_leaves_old_or_new_and_the_next_push_finishes(
    export, hub, api, pushed, fault, applied_commits
):
    states = [published(pushed)]
    drop_a_figure(export)
    states.append(contents(export))
    hub.faults.append(Fault(fault.method, fault.path, times=fault.times, applied=fault.applied))
    with pytest.raises(PublishingError, match="run the same command again"):
        push(export, NAME, tag="v2", api=api)
    assert published(pushed) == states[applied_commits]
    assert "v2" not in pushed.tags
    hub.faults.clear()
    result = push(export, NAME, tag="v2", api=api)
    assert published(pushed) == states[1]
    assert pushed.tags["v2"] == result.commit
    assert len(pushed.history) == 3


def limit_of(size):
    """No file on this machine may grow beyond so many bytes, as on a full disk."""

    def fill(hub, monkeypatch):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return fill


def no_room_for_a_folder(hub, monkeypatch):
    def refuse(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)


def lost(method, path, applied=False):
    return lambda hub, monkeypatch: hub.faults.append(Fault(method, path, times=BUSY, applied=applied))


@pytest.mark.parametrize(
    ("trouble", "applied_commits", "said"),
    [
        (limit_of(1000), 0, "Raise the limit on the size of files"),
        (limit_of(200_000), 1, "Raise the limit on the size of files"),
        (no_room_for_a_folder, 0, "Free space there"),
        (lost("PUT", "/lfs-objects/"), 0, "run the same command again"),
        (lost("POST", "/commit/"), 0, "run the same command again"),
        (lost("POST", "/commit/", applied=True), 1, "run the same command again"),
        (lost("GET", "/resolve/.*pt$"), 1, "run the same command again"),
    ],
    ids=["manifest", "weights", "folder", "upload", "commit", "answer", "comparison"],
)
def test_a_full_disk_or_a_lost_connection_is_one_sentence_and_publishes_no_half(
    command, export, hub, api, pushed, monkeypatch, tmp_path, trouble, applied_commits, said
):
    monkeypatch.setattr("sepsis_cql.publishing.hub.HfApi", lambda: api)
    states = [published(pushed)]
    drop_a_figure(export)
    states.append(contents(export))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(tmp_path))
            trouble(hub, patch)
            code, printed = command("push", NAME, "--export", export, "--tag", "v2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        hub.faults.clear()
    assert code == 2, printed
    assert said in printed and printed.count("error:") == 1 and "Traceback (most" not in printed
    assert published(pushed) == states[applied_commits]
    assert "v2" not in pushed.tags and len(pushed.history) == 2 + applied_commits
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert command("push", NAME, "--export", export, "--tag", "v2")[0] == 0
    assert published(pushed) == states[1]
    assert pushed.tags["v2"] == pushed.history[-1] and len(pushed.history) == 3


def test_lost_answer_to_the_tag_is_found_again(export, hub, api):
    hub.faults.append(Fault("POST", "/tag/", applied=True))
    with pytest.raises(PublishingError, match="run the same command again"):
        push(export, NAME, tag="v1", api=api)
    result = push(export, NAME, tag="v1", api=api)
    assert hub.repositories[NAME].tags == {"v1": result.commit}
    assert len(hub.repositories[NAME].history) == 2


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (Fault("POST", "/repos/create", 401), "hf auth login"),
        (Fault("POST", "/commit/", 401), "hf auth login"),
        (Fault("POST", "/commit/", 403), "write permission"),
        (Fault("GET", "/api/models/", 404), "Check the name"),
        (Fault("POST", "/preupload/", 404), "Check the name"),
        (Fault("PUT", "/lfs-objects/", 413, BUSY), "size"),
        (Fault("POST", "/objects/batch$", 429, BUSY), "Wait a few minutes"),
        (Fault("POST", "/commit/", 429), "Wait a few minutes"),
        (Fault("PUT", "/lfs-objects/", 500, BUSY), "run the same command again"),
        (Fault("POST", "/commit/", 500), "run the same command again"),
        (Fault("POST", "/validate-yaml", 400), "card"),
    ],
    ids=lambda value: f"{value.status} {value.path}" if isinstance(value, Fault) else None,
)
def test_every_refusal_comes_with_advice_and_without_the_token(export, hub, api, fault, advice):
    hub.faults.append(Fault(fault.method, fault.path, fault.status, fault.times))
    with pytest.raises(PublishingError, match=advice) as refusal:
        push(export, NAME, tag="v1", api=api)
    assert fault.path == "/validate-yaml" or f"answered {fault.status}." in str(refusal.value)
    assert TOKEN not in "".join(traceback.format_exception(refusal.value))
    for repository in hub.repositories.values():
        assert published(repository) == {}
        assert repository.tags == {}


@pytest.mark.parametrize(
    ("token", "status"), [("hf_wrong" + "x" * 30, 401), (False, 401), (READ_ONLY_TOKEN, 403)]
)
def test_who_may_not_write_changes_nothing(export, hub, api, pushed, token, status):
    drop_a_figure(export)
    with pytest.raises(PublishingError, match=f"answered {status}") as refusal:
        push(export, NAME, api=HfApi(endpoint=hub.url, token=token))
    assert str(token) not in str(refusal.value)
    assert len(pushed.history) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "modeling_sepsis_cql.py", "manifest.json"])
def test_bytes_that_come_back_different_are_reported_and_not_tagged(export, hub, api, name):
    hub.corrupted.add(name)
    with pytest.raises(PublishingError, match="Do not use it"):
        push(export, NAME, tag="v1", api=api)
    assert hub.repositories[NAME].tags == {}
