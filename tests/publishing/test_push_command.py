"""`sepsis-cql push`: what it lists, asks for, prints and refuses."""

import pytest
from huggingface_hub import HfApi
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.publishing.guard.files import read_export, read_files

from .hub_server import READ_ONLY_TOKEN, TOKEN

NAME = "someone/sepsis"


@pytest.fixture
def logged_in(hub, api, monkeypatch, tmp_path):
    """Store a login for the Hub on this machine, as `hf auth login` does."""

    def store(token):
        (tmp_path / "token").write_text(token)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr("sepsis_cql.publishing.hub.HfApi", lambda: HfApi(endpoint=hub.url))

    return store


def test_dry_run_lists_every_file_with_its_reason_and_contacts_nobody(export, hub, monkeypatch):
    def connect(self, address):
        raise AssertionError(f"contacts {address}")

    monkeypatch.setattr("socket.socket.connect", connect)
    result = CliRunner().invoke(app, ["push", NAME, "--export", str(export), "--dry-run"])
    assert result.exit_code == 0, result.output
    for name in read_files(export)[0]:
        (line,) = [line for line in result.output.splitlines() if f"  {name}  " in line]
        assert f"{(export / name).stat().st_size:,}" in line
    assert "network weights and normalizer" in result.output
    assert hub.requests == []


@pytest.mark.parametrize("name", ["bad name!!/x/y", "sepsis", "someone/two words"])
def test_dry_run_refuses_what_is_no_hub_id_before_it_lists_anything(command, export, name):
    code, printed = command("push", name, "--export", export, "--dry-run")
    assert code == 2 and "not a Hub id. Expected OWNER/NAME" in printed and "network weights" not in printed


def test_push_with_the_stored_login_prints_commit_and_tag_but_never_the_token(
    command, export, hub, logged_in
):
    logged_in(TOKEN)
    code, printed = command("push", NAME, "--export", export, "--tag", "v1", "--private")
    assert code == 0, printed
    repository = hub.repositories[NAME]
    commit = repository.tags["v1"]
    assert f"{hub.url}/{NAME}/commit/{commit}" in printed
    assert f"tag: v1, revision {commit}" in printed
    assert repository.private
    assert TOKEN not in printed


def test_push_without_permission_says_what_to_do(command, export, hub, logged_in):
    logged_in(READ_ONLY_TOKEN)
    code, printed = command("push", NAME, "--export", export)
    assert code == 2
    assert "answered 403" in printed
    assert "Traceback" not in printed
    assert READ_ONLY_TOKEN not in printed
    assert NAME not in hub.repositories


def test_run_is_exported_before_it_is_pushed(export, monkeypatch, tmp_path):
    places = []

    def export_run(run, *, key, report):
        report("pictures", 1)
        places.append((run, key))
        return read_export(export)

    monkeypatch.setattr("sepsis_cql.publishing.export.export_run", export_run)
    options = ["--run", str(tmp_path), "--sign", str(tmp_path / "key.pem"), "--dry-run"]
    result = CliRunner().invoke(app, ["push", NAME, *options])
    assert result.exit_code == 0, result.output
    assert places == [(tmp_path, tmp_path / "key.pem")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one of --run, --export and --replay"),
        (["--run", "run", "--export", "export"], "exactly one of --run, --export and --replay"),
        (["--export", "nowhere"], "nowhere: not a directory"),
    ],
)
def test_push_needs_one_place_to_push_from(arguments, message):
    with pytest.raises(PublishingError, match=message):
        CliRunner().invoke(app, ["push", NAME, *arguments], catch_exceptions=False)
