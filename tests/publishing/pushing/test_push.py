"""A push by the real client against a Hub on this machine: one whole commit, checked, then tagged, or nothing."""

import copy
import json
from contextlib import nullcontext

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils._xet import abort_xet_session

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.publishing.guard.files import Export
from sepsis_cql.publishing.guard.strict_json import dump_json
from sepsis_cql.publishing.hub import download, push
from sepsis_cql.publishing.manifest import MANIFEST, dump_manifest, manifest_differences

from ..hub_server import LFS_SUFFIXES, Repository, sha256
from .conftest import FIGURE, NAME, contents, drop_a_figure, published


def commit_foreign_notes(repository):
    repository.commit("main", repository.commits[repository.refs["main"]] | {"notes.txt": b"mine"})


EVALUATION = "model/evidence/evaluation.json"


@pytest.mark.parametrize(
    ("changes", "source", "is_refused"),
    [
        ({}, "mimic-iv", False),
        ({"weights": "0" * 64}, "mimic-iv", True),
        ({"weights": "0" * 64}, "synthetic", False),
        ({"weights": "0" * 64, "test_split_uses": 2}, "mimic-iv", False),
        ({"weights": "0" * 64, "fingerprint": "0" * 64}, "mimic-iv", False),
        ({"weights": "0" * 64, "split": "validation", "test_split_uses": None}, "mimic-iv", False),
    ],
)
def test_a_further_policy_on_a_published_test_split_is_not_called_the_first(
    clean, hub, api, changes, source, is_refused
):
    """As where it was scored on a machine whose ledger began anew."""
    earlier = json.loads(clean[EVALUATION])
    earlier["replay"]["source"]["name"] = source
    later = copy.deepcopy(earlier) | {key: value for key, value in changes.items() if key in earlier}
    later["policy"]["weights_sha256"] = changes.get("weights", later["policy"]["weights_sha256"])
    later["replay"]["fingerprint"] = changes.get("fingerprint", later["replay"]["fingerprint"])
    first, second = ({EVALUATION: dump_json(document)} for document in (earlier, later))
    push(Export({**first, MANIFEST: dump_manifest(first)}), NAME, api=api)
    with pytest.raises(PublishingError, match="counts 1 uses") if is_refused else nullcontext():
        push(Export({**second, MANIFEST: dump_manifest(second)}), NAME, api=api)
    held = published(hub.repositories[NAME])[EVALUATION]
    assert held == (first if is_refused else second)[EVALUATION]


def test_first_push_is_one_commit_with_every_file_of_the_export(whole, hub, api):
    result = push(whole, NAME, tag="v1", api=api)
    repository = hub.repositories[NAME]
    assert published(repository) == contents(whole)
    assert "config.json" in published(repository)  # what download counts are made of
    assert repository.tags == {"v1": result.commit}
    assert repository.history[1:] == [result.commit]
    assert hub.seen("POST", "/commit/main$") == 1
    assert result.is_new
    assert result.url == f"{hub.url}/{NAME}/commit/{result.commit}"
    large = {name for name in contents(whole) if name.endswith(LFS_SUFFIXES)}
    assert len(large) > 2
    assert hub.seen("PUT", "^/lfs-objects/") == len(large)


def test_same_push_again_makes_nothing_new(export, hub, api):
    first = push(export, NAME, tag="v1", api=api)
    hub.requests.clear()
    second = push(export, NAME, tag="v1", api=api)
    assert len(hub.repositories[NAME].history) == 2
    assert hub.seen("POST", "/commit/") == hub.seen("POST", "/tag/") == hub.seen("PUT", "") == 0
    assert first.is_new
    assert not second.is_new
    assert second.commit == first.commit


def test_later_export_replaces_the_files_and_keeps_earlier_tags(export, hub, api, pushed):
    before, first = contents(export), pushed.tags["v1"]
    drop_a_figure(export)
    result = push(export, NAME, tag="v2", api=api)
    assert published(pushed) == contents(export)
    assert FIGURE not in published(pushed)
    assert pushed.tags == {"v1": first, "v2": result.commit}
    assert published(pushed, "v1") == before
    assert len(pushed.history) == 3


def test_download_gives_back_the_files_of_a_tag(export, hub, api, pushed, tmp_path):
    before = contents(export)
    drop_a_figure(export)
    push(export, NAME, api=api)
    assert download(NAME, "v1", tmp_path / "copy", api) == pushed.tags["v1"]
    assert contents(tmp_path / "copy") == before
    assert list(manifest_differences(contents(tmp_path / "copy"))) == []


def test_change_between_look_and_commit_is_not_overwritten(export, hub, api, pushed):
    drop_a_figure(export)
    hub.before_commit.append(commit_foreign_notes)
    with pytest.raises(PublishingError, match=r"412.*nothing was overwritten"):
        push(export, NAME, tag="v2", api=api)
    assert published(pushed)["notes.txt"] == b"mine"
    assert FIGURE in published(pushed)
    assert set(pushed.tags) == {"v1"}


def test_files_no_export_wrote_are_not_touched(export, hub, api, pushed):
    commit_foreign_notes(pushed)
    drop_a_figure(export)
    with pytest.raises(PublishingError, match=r"notes\.txt"):
        push(export, NAME, api=api)
    assert len(pushed.history) == 3
    assert hub.seen("POST", "/commit/") == 0


def test_another_model_is_not_replaced(export, hub, api):
    repository = hub.repositories[NAME] = Repository(private=False)
    repository.commit("main", {"README.md": b"# another\n", "config.json": b"{}", "model.safetensors": b"w"})
    with pytest.raises(PublishingError, match=r"config\.json"):
        push(export, NAME, api=api)
    assert len(repository.history) == 1


def test_readme_the_hub_made_is_replaced(export, hub, api):
    hub.repositories[NAME] = Repository(private=False)
    hub.repositories[NAME].commit("main", {".gitattributes": b"*.pt filter=lfs\n", "README.md": b"# empty\n"})
    push(export, NAME, api=api)
    assert published(hub.repositories[NAME]) == contents(export)


def test_refused_export_contacts_nobody(whole, hub, api):
    (whole / "stays.csv").write_text("subject_id\n")
    with pytest.raises(PublishingError, match=r"stays\.csv"):
        push(whole, NAME, api=api)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["sepsis", "a/b/c", "someone/two words", "someone/..", ""])
def test_name_that_is_no_hub_id_is_refused(export, hub, api, name):
    with pytest.raises(PublishingError, match="OWNER/NAME"):
        push(export, name, api=api)
    assert hub.requests == []


def test_tag_of_another_revision_is_refused_before_anything_is_written(export, hub, api, pushed):
    first = pushed.tags["v1"]
    drop_a_figure(export)
    with pytest.raises(PublishingError, match=r"v1 already names.*never moved"):
        push(export, NAME, tag="v1", api=api)
    assert pushed.tags == {"v1": first}
    assert len(pushed.history) == 2


def test_tag_set_by_another_meanwhile_is_not_moved(export, hub, api, pushed):
    drop_a_figure(export)
    hub.before_commit.append(lambda repository: repository.tags.update(v2=repository.history[0]))
    with pytest.raises(PublishingError, match=r"v2 already names.*never moved"):
        push(export, NAME, tag="v2", api=api)
    assert pushed.tags["v2"] == pushed.history[0]


def test_pull_request_leaves_main_and_tags_as_they_are(export, hub, api, pushed):
    first = pushed.tags["v1"]
    drop_a_figure(export)
    result = push(export, NAME, pull_request=True, api=api)
    assert pushed.refs["main"] == first
    assert published(pushed, "refs/pr/1") == contents(export)
    assert result.url == f"{hub.url}/{NAME}/discussions/1"
    with pytest.raises(PublishingError, match="after it is merged"):
        push(export, NAME, pull_request=True, tag="v2", api=api)


@pytest.fixture
def xet(monkeypatch, tmp_path):
    """The client's own way of uploads, with a folder as the Hub's store."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    abort_xet_session()  # another test's, which remembers its own home
    yield tmp_path / "store"
    abort_xet_session()


def test_large_files_go_up_by_xet_where_the_client_has_it(export, hub, api, xet):
    files = contents(export)
    large = [data for name, data in files.items() if name.endswith(LFS_SUFFIXES)]
    hub.xet_store, hub.objects = f"local://{xet}", {sha256(data): data for data in large}
    push(export, NAME, api=api)
    assert published(hub.repositories[NAME]) == files
    assert hub.seen("GET", "/xet-write-token/") and not hub.seen("POST", "/info/lfs/")
    stored = sum(file.stat().st_size for file in xet.rglob("*") if file.is_file())
    assert stored > len(files["model.safetensors"])  # floats cannot be compressed by much


def test_an_xet_store_that_fails_is_one_sentence_and_plain_http_goes_on(export, hub, api, xet, monkeypatch):
    xet.write_text("a file, no folder")
    hub.xet_store = f"local://{xet}"
    with pytest.raises(PublishingError, match=r"the client failed .*HF_HUB_DISABLE_XET=1"):
        push(export, NAME, api=api)
    assert len(hub.repositories[NAME].commits) == 1
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    push(export, NAME, api=api)
    assert len(hub.repositories[NAME].commits) == 2


def test_private_repository_is_seen_by_nobody_else(export, hub, api, tmp_path):
    push(export, NAME, private=True, api=api)
    assert hub.repositories[NAME].private
    with pytest.raises(PublishingError, match="404"):
        download(NAME, None, tmp_path / "copy", HfApi(endpoint=hub.url, token=False))
    assert download(NAME, None, tmp_path / "own", api) == hub.repositories[NAME].refs["main"]
