"""What README shows runs as it is pasted, and the installed package loads the same without remote code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModel

from sepsis_cql.checkpoints.registration import register_lazily
from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig

ROOT = Path(__file__).parents[1]
HUB_ID = "morpeN1/mimic-sepsis-cql"
LOCAL = f"""
import sys
import sepsis_cql
assert not {{"torch", "transformers", "pandas"}} & set(sys.modules)  # the import stays light
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline
package, patient = {str(ROOT)!r}, sepsis_cql.example_patient()
local = AutoConfig, AutoFeatureExtractor, AutoModel
local = [auto.from_pretrained(package) for auto in local]
assert {{type(one).__module__.split(".")[0] for one in local}} == {{"sepsis_cql"}}
answer = pipeline("sepsis-treatment", model=local[2], feature_extractor=local[1])(patient)[0]
"""
REMOTE = """
assert not type(model).__module__.startswith("sepsis_cql")
remote = model(**extractor(patient, return_tensors="pt")).q_values
assert local[2](**local[1](patient, return_tensors="pt")).q_values.tolist() == remote.tolist()
assert treat(patient)[0]["q_values"] == remote[0].tolist()
print("equal", tuple(remote.shape))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What one interpreter says that loads the package by our classes, then pastes README's Python."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4 and sum(HUB_ID in block for block in blocks) == 2
    code = "\n".join([LOCAL, *blocks, REMOTE]).replace(HUB_ID, str(ROOT))
    cache = str(tmp_path_factory.mktemp("modules"))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": cache}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_of_the_readme_runs(said):
    assert "Treatment(action=" in said and "'unit': 'mL'" in said and "model_state_dict" in said


def test_the_installed_package_loads_without_remote_code_and_equals_it(said):
    assert "equal (1, 25)" in said


def test_classes_register_at_once_where_transformers_is_imported_already(monkeypatch):
    monkeypatch.setattr(AutoModel._model_mapping, "_extra_content", {})
    assert SepsisCQLConfig not in AutoModel._model_mapping
    register_lazily()
    assert SepsisCQLConfig in AutoModel._model_mapping
