"""A `.pt` file that is damaged, foreign or malicious is refused, and nothing in it is run."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint
from sepsis_cql.common.errors import CheckpointError


def save(values: Any, directory: Path) -> Path:
    torch.save(values, directory / "cql_epoch0002_step0000010.pt")
    return directory / "cql_epoch0002_step0000010.pt"


def rewrite(file: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, change(name, content))
    return file


def replace_pickle(file: Path, content: bytes) -> Path:
    return rewrite(file, lambda name, old: content if name.endswith("data.pkl") else old)


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("archived", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(
    written: Path, tmp_path: Path, protocol: int, archived: bool
) -> None:
    target = tmp_path / "executed"
    content = pickle.dumps({"model_state_dict": Payload(target)}, protocol=protocol)
    if archived:
        replace_pickle(written, content)
    else:
        written.write_bytes(content)
    with pytest.raises(CheckpointError, match="malicious" if archived else "not an intact torch archive"):
        read_original_checkpoint(written)
    assert not target.exists()


def test_a_pickle_that_would_exhaust_memory_is_refused(written: Path) -> None:
    bomb = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    with pytest.raises(CheckpointError, match="builtins bytearray"):
        read_original_checkpoint(replace_pickle(written, bomb))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(written: Path) -> None:
    rewrite(written, lambda name, old: old + b"\0" * 10_000_000, zipfile.ZIP_DEFLATED)
    assert written.stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match=r"unpacks to .* bytes"):
        read_original_checkpoint(written)


def test_an_oversized_file_is_refused_before_it_is_read(written: Path) -> None:
    with written.open("r+b") as stream:
        stream.truncate(2**28)  # sparse: takes no room on disk
    with pytest.raises(CheckpointError, match=f"{2**28} bytes"):
        read_original_checkpoint(written)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_entries_of_one_name_is_refused(written: Path) -> None:
    with zipfile.ZipFile(written, "a") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    with pytest.raises(CheckpointError, match="repeats a name"):
        read_original_checkpoint(written)


def test_a_second_pickle_is_searched_too(written: Path) -> None:
    with zipfile.ZipFile(written, "a") as archive:
        archive.writestr("other/data.pkl", pickle.dumps(os.mkdir, protocol=2))
    with pytest.raises(CheckpointError, match="posix mkdir"):
        read_original_checkpoint(written)


@pytest.mark.parametrize("keep", [0, 3, 200, 5000, -1])
def test_a_truncated_file_is_refused(written: Path, keep: int) -> None:
    written.write_bytes(written.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not an intact"):
        read_original_checkpoint(written)


def test_flipped_bits_in_the_weights_are_refused(written: Path) -> None:
    content = bytearray(written.read_bytes())
    weights = next(iter(torch.load(written, weights_only=True)["model_state_dict"].values()))
    start = content.find(weights.numpy().tobytes()[:64])
    content[start + 5] ^= 0xFF
    written.write_bytes(content)
    with pytest.raises(CheckpointError, match="not an intact"):
        read_original_checkpoint(written)


def test_a_storage_larger_than_its_record_is_refused(written: Path) -> None:
    def enlarge(name: str, old: bytes) -> bytes:
        return old[:40] if name.endswith("data/0") else old

    with pytest.raises(CheckpointError, match="not an intact checkpoint"):
        read_original_checkpoint(rewrite(written, enlarge))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["model_state_dict"], "holds .*net.0.bias.*expected"),
        (lambda v: [v], "holds list"),
        (lambda v: {**v, "scheduler": {}}, "scheduler"),
        (lambda v: {key: v[key] for key in v if key != "optimizer_state_dict"}, "holds"),
        (lambda v: {**v, "epoch": "160"}, "epoch is str"),
        (lambda v: {**v, "global_step": torch.tensor(3)}, "global_step is Tensor"),
        (lambda v: {**v, "model_state_dict": [1]}, "model_state_dict is list"),
        (lambda v: {**v, "model_state_dict": {"net.0.weight": 3}}, "something other than tensors"),
    ],
)
def test_another_layout_is_refused(written: Path, tmp_path: Path, change: Any, message: str) -> None:
    values = torch.load(written, weights_only=True)
    with pytest.raises(CheckpointError, match=message):
        read_original_checkpoint(save(change(values), tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "net.2.bias"}, "missing: net.2.bias"),
        (lambda s: {**s, "scale": torch.ones(62)}, "unexpected: scale"),
        (lambda s: {**s, "net.0.weight": s["net.0.weight"][:, :33]}, "another shape: net.0.weight"),
        (lambda s: {**s, "net.4.bias": torch.zeros(24)}, "another shape: net.4.bias"),
        (lambda s: {**s, "net.0.weight": s["net.0.weight"] * float("inf")}, "NaN or infinity: net.0.weight"),
        (lambda s: {**s, "net.0.weight": s["net.0.weight"].half()}, "another dtype: net.0.weight"),
        (lambda s: {**s, "net.0.weight": torch.tensor(1.0)}, "net.4.bias"),
        (lambda s: {}, "missing: net.0.bias"),
    ],
)
def test_parameters_of_another_network_are_refused(
    written: Path, tmp_path: Path, change: Any, message: str
) -> None:
    values = torch.load(written, weights_only=True)
    file = save({**values, "model_state_dict": change(values["model_state_dict"])}, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        model_from_checkpoint(read_original_checkpoint(file))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"epoch": 3, "global_step": 10}', r"\(3, 10\).*\(2, 10\)"),
        ("[]", "found list"),
        ('{"epoch": 2, "global_step": 10, "config_dict": []}', "manifest.json"),
        ('{"epoch": 2, "global_step": 10, "config_dict": {"gamma": 7.0}}', "gamma"),
        ('{"epoch": 2, "global_step": 10, "config_dict": {"extra": {"cql_alpha": "x"}}}', "alpha"),
    ],
)
def test_a_manifest_of_another_checkpoint_is_refused(written: Path, manifest: str, message: str) -> None:
    written.with_name(f"{written.stem}_manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError, match=message):
        model_from_checkpoint(read_original_checkpoint(written))
