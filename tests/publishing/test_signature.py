"""The signature of a manifest: made by a maintainer's key, checked against it, and useless for anything else."""

import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from sepsis_cql.commands.app import app
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.publishing.guard.files import Export, read_export
from sepsis_cql.publishing.guard.strict_json import dump_json, parse_json
from sepsis_cql.publishing.manifest import MANIFEST, SIGNATURE, dump_manifest
from sepsis_cql.publishing.signature import check_signature, read_private_key, read_public_key, sign

serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
FILES = {"LICENSE": b"free", "config.json": b"{}"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A maintainer's key and somebody else's, each as private and public PEM."""
    folder, pem = tmp_path_factory.mktemp("keys"), serialization.Encoding.PEM
    found = {}
    for name in ("maintainer", "other"):
        private = ed25519.Ed25519PrivateKey.generate()
        files = folder / f"{name}.pem", folder / f"{name}.pub"
        plain = serialization.NoEncryption()
        files[0].write_bytes(private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        files[0].chmod(0o600)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        files[1].write_bytes(private.public_key().public_bytes(pem, form))
        found[name] = files
    return found


@pytest.fixture(scope="module")
def signed(keys):
    return sign(FILES | {MANIFEST: dump_manifest(FILES)}, keys["maintainer"][0])


def test_a_signature_names_the_key_and_changes_no_manifest(signed, keys):
    assert check_signature(signed) == read_public_key(keys["maintainer"][1])
    assert signed[MANIFEST] == dump_manifest(signed)
    assert sign(signed, keys["maintainer"][0]) == signed


def change(**values):
    return lambda text: dump_json(parse_json(text) | values)


@pytest.mark.parametrize(
    "change",
    [
        change(signature="0" * 128),
        change(public_key="0" * 64),
        change(public_key="f" * 64),
        change(signature="12"),
        change(note="Jane Doe"),
        lambda text: text + b"\n",
        lambda text: text.replace(b" ", b"  ", 1),
        lambda text: b"[" * 5000,
        lambda text: b"\xff",
        lambda text: b"",
    ],
)
def test_anything_but_what_the_key_gives_is_refused_and_not_repeated(signed, change):
    with pytest.raises(PublishingError, match=SIGNATURE) as refusal:
        check_signature(signed | {SIGNATURE: change(signed[SIGNATURE])})
    assert "Jane" not in str(refusal.value)


def test_a_signature_is_of_one_manifest_only(signed):
    with pytest.raises(PublishingError, match="not a signature of this"):
        check_signature(signed | {MANIFEST: dump_manifest(FILES | {"LICENSE": b"not free"})})


def test_keys_are_read_strictly(keys, tmp_path):
    private, public = keys["other"]
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no key")
    wrong.chmod(0o600)
    for read, file in (
        (read_private_key, public),
        (read_private_key, wrong),
        (read_private_key, tmp_path / "absent"),
        (read_public_key, private),
        (read_public_key, wrong),
        (read_public_key, tmp_path),
    ):
        with pytest.raises(PublishingError, match=r"openssl|mode 600"):
            read(file)
    shutil.copyfile(private, shared := tmp_path / "shared.pem")
    shared.chmod(0o644)
    with pytest.raises(PublishingError, match="others may read"):
        read_private_key(shared)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_accepts_the_signature(signed, keys, tmp_path):
    (tmp_path / "manifest").write_bytes(signed[MANIFEST])
    (tmp_path / "signature").write_bytes(bytes.fromhex(parse_json(signed[SIGNATURE])["signature"]))
    for name, code in (("maintainer", 0), ("other", 1)):
        key = ["-pubin", "-inkey", keys[name][1], "-sigfile", tmp_path / "signature"]
        found = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-rawin", "-in", tmp_path / "manifest", *key],
            capture_output=True,
            check=False,
        )
        assert found.returncode == code


def test_export_is_held_against_the_key_of_its_maintainer(clean, keys, tmp_path):
    directory = tmp_path / "export"
    directory.mkdir()
    Export(sign(clean, keys["maintainer"][0])).write(directory)
    assert SIGNATURE in read_export(directory).files
    run = lambda *options: CliRunner().invoke(app, ["verify", str(directory), *map(str, options)])  # noqa: E731
    found = run("--key", keys["maintainer"][1])
    assert (found.exit_code, "matches signature" in found.output) == (0, True)
    found = run("--key", keys["other"][1])
    assert (found.exit_code, "differs signature" in found.output) == (1, True)
    (directory / SIGNATURE).unlink()
    (directory / "rows.csv").write_text("subject_id\n1\n")
    found = run("--key", keys["maintainer"][1])
    assert (found.exit_code, "nobody signed it" in found.output) == (1, True)
    assert "\n  a file: not a file that may be published\n" in found.output.replace("rows.csv", "a file")
