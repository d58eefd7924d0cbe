"""A policy is known by what it computes: a package by its tensors and settings, a function by its source."""

import json

import pytest
from safetensors.torch import load_file, save_file

from sepsis_cql.common.errors import EvaluationError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.common.storage import sha256_file
from sepsis_cql.evaluation.policies.load import load_policy


def test_a_package_is_known_by_its_tensors_and_not_by_its_file(tmp_path):
    package = tmp_path / "copy"
    package.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (package / name).write_bytes((ROOT / name).read_bytes())
    tensors = load_file(ROOT / "model.safetensors")
    save_file(tensors, package / "model.safetensors", metadata={"format": "pt", "note": "packed again"})
    assert sha256_file(package / "model.safetensors") != sha256_file(ROOT / "model.safetensors")
    assert load_policy(str(package)).identify() == load_policy(str(ROOT)).identify()
    name = next(name for name in tensors if name.startswith("net."))
    save_file(
        tensors | {name: tensors[name] + 1e-3}, package / "model.safetensors", metadata={"format": "pt"}
    )
    assert load_policy(str(package)).identify() != load_policy(str(ROOT)).identify()


def test_a_package_whose_outputs_mean_something_else_is_another_policy(tmp_path):
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["state_names"] = config["state_names"][::-1]
    config["missing_flags"] = [name for name in config["state_names"] if name in config["missing_flags"]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_policy(str(tmp_path)).identify() != load_policy(str(ROOT)).identify()


def test_a_function_is_known_by_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "import numpy as np\ndef act(states):\n    return np.zeros(len(states), dtype=int)\n"
    (tmp_path / "safety_one.py").write_text(source)
    (tmp_path / "safety_two.py").write_text(source)
    (tmp_path / "safety_three.py").write_text(source.replace("zeros", "ones"))
    one, two, three = (load_policy(f"safety_{name}:act").identify() for name in ("one", "two", "three"))
    assert one == two != three
    with pytest.raises(EvaluationError, match="has no Python source"):
        load_policy("math:sin").identify()
