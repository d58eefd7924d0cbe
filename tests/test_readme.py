"""What README shows runs as it is pasted, and the installed package loads the same without remote code."""

import json
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
PASTED = """
import json, sys
assert "sepsis_cql" not in sys.modules and type(model).__module__.startswith("transformers_modules")
print("VALUES", json.dumps([outputs.q_values[0].tolist(), answer["q_values"]]))
"""
INSTALLED = f"""
import json, sys
import sepsis_cql
assert not {{"torch", "transformers", "pandas"}} & set(sys.modules)  # the import stays light
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline
patient = sepsis_cql.example_patient()
config, extractor, model = (
    auto.from_pretrained({str(ROOT)!r}) for auto in (AutoConfig, AutoFeatureExtractor, AutoModel)
)
assert {{type(one).__module__.split(".")[0] for one in (config, extractor, model)}} == {{"sepsis_cql"}}
answer = pipeline("sepsis-treatment", model=model, feature_extractor=extractor)(patient)[0]
values = model(**extractor(patient, return_tensors="pt")).q_values[0].tolist()
print("VALUES", json.dumps([values, answer["q_values"]]))
"""


def run(code, folder):
    """What an interpreter of its own prints."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(text):
    return json.loads(text.split("VALUES ")[1])


@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    """What README's Python prints where only the libraries are imported, with the checkout in place of the Hub id."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4 and sum(HUB_ID in block for block in blocks) == 2
    code = "\n".join([*blocks, PASTED]).replace(HUB_ID, str(ROOT))
    return run(code, tmp_path_factory.mktemp("modules"))


def test_python_of_the_readme_runs(pasted):
    assert "Treatment(action=" in pasted and "'unit': 'mL'" in pasted and "model_state_dict" in pasted
    first, second = values(pasted)
    assert first == second and len(first) == 25


@pytest.mark.slow
def test_the_installed_package_loads_without_remote_code_and_equals_it(pasted, tmp_path):
    assert values(run(INSTALLED, tmp_path)) == values(pasted)


def test_classes_register_at_once_where_transformers_is_imported_already(monkeypatch):
    monkeypatch.setattr(AutoModel._model_mapping, "_extra_content", {})
    assert SepsisCQLConfig not in AutoModel._model_mapping
    register_lazily()
    assert SepsisCQLConfig in AutoModel._model_mapping
