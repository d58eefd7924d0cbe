"""signature.json: a maintainer's Ed25519 signature of the manifest, which names every other file by its SHA-256.

It says that whoever holds the private key signed exactly these files; it says nothing about what is in them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.strict import Settings
from sepsis_cql.publishing.guard.strict_json import dump_json, parse_json
from sepsis_cql.publishing.manifest import MANIFEST, SIGNATURE

LARGEST_KEY = 10_000  # bytes of a PEM file
MAKE_KEY = "Make one with `openssl genpkey -algorithm ed25519 -out KEY.pem`."


class Signature(Settings):
    """The whole file; key and signature are hexadecimal, as RFC 8032 lays them out."""

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def sign(files: Mapping[str, bytes], key: Path) -> dict[str, bytes]:
    """Return files of an export with the signature of their manifest.

    Args:
        files: of the export, by path.
        key: private Ed25519 key as unencrypted PEM; readable by its owner only.

    Raises:
        PublishingError: the file is no such key, or others may read it.
    """
    private = read_private_key(key)
    values = {
        "algorithm": "ed25519",
        "public_key": private.public_key().public_bytes_raw().hex(),
        "signature": private.sign(files[MANIFEST]).hex(),
    }
    return {**files, SIGNATURE: dump_json(values)}


def check_signature(files: Mapping[str, bytes]) -> str:
    """Return the public key, in hexadecimal, whose owner signed the manifest of these files.

    Raises:
        PublishingError: there is no signature, it is none of this manifest, or not of the form that we write.
    """
    _, _, public_key = _library()
    try:
        found = Signature.model_validate(parse_json(files[SIGNATURE]))
    except KeyError:
        raise PublishingError(f"no {SIGNATURE}: nobody signed this") from None
    except (ValidationError, ValueError):
        raise PublishingError(f"{SIGNATURE}: not of the form that we write") from None
    if files[SIGNATURE] != dump_json(found.model_dump()):
        raise PublishingError(f"{SIGNATURE}: not of the form that we write")
    from cryptography.exceptions import InvalidSignature

    try:
        key = public_key.from_public_bytes(bytes.fromhex(found.public_key))
        key.verify(bytes.fromhex(found.signature), files.get(MANIFEST, b""))
    except (InvalidSignature, ValueError):
        raise PublishingError(f"{SIGNATURE}: not a signature of this {MANIFEST} by the key in it") from None
    return found.public_key


def fingerprint(public_key: str) -> str:
    """Return the SHA-256 of a public key in hexadecimal, by which people compare keys."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()


def read_public_key(file: Path) -> str:
    """Return the Ed25519 public key of a PEM file, in hexadecimal.

    Raises:
        PublishingError: the file is no such key.
    """
    serialization, _, kind = _library()
    try:
        key = serialization.load_pem_public_key(_read(file))
    except ValueError:
        key = None
    if not isinstance(key, kind):
        raise PublishingError(
            f"{file}: found no Ed25519 public key in PEM. Expected what `openssl pkey -in KEY.pem -pubout` gives."
        )
    return str(key.public_bytes_raw().hex())


def read_private_key(file: Path) -> Any:
    """Return the Ed25519 private key of a PEM file.

    Raises:
        PublishingError: the file is no such key, or others than its owner may read it.
    """
    serialization, kind, _ = _library()
    content = _read(file)
    if file.stat().st_mode & 0o077:
        raise PublishingError(
            f"{file}: others may read this private key, expected mode 600. Run `chmod 600` on it; make another key if "
            "somebody could have seen it."
        )
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):  # TypeError: it is encrypted
        key = None
    if not isinstance(key, kind):
        raise PublishingError(f"{file}: found no unencrypted Ed25519 private key in PEM. {MAKE_KEY}")
    return key


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise PublishingError(f"{file}: not found, or no file. Expected a key in PEM. {MAKE_KEY}")
    with file.open("rb") as stream:
        return stream.read(LARGEST_KEY)


def _library() -> tuple[Any, Any, Any]:
    """Return the module that reads keys, and the classes of both kinds of key."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    except ImportError:
        raise PublishingError(
            "Signatures need the package cryptography: pip install 'sepsis-cql[signing]'."
        ) from None
    return serialization, Ed25519PrivateKey, Ed25519PublicKey
