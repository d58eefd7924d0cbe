"""What strangers do with a package: load it by the libraries alone, where this repository is not installed."""

import json
import os
import re
import sysconfig

import pandas as pd
import pytest
from transformers import AutoFeatureExtractor, AutoModel, pipeline

from sepsis_cql.checkpoints.example import example_patient
from sepsis_cql.checkpoints.hub_package import load_package, new_feature_extractor, save_package
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.publishing.hub import push
from sepsis_cql.publishing.verify import verify

from ..forked import Fresh
from .hub_server import HubServer, Repository

HUB_ID = "morpeN1/mimic-sepsis-cql"
NAME = "someone/sepsis"
LIBRARIES = """
import importlib.util, socket, sys
import pandas, torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline

def refuse_others(event, arguments):
    if event == "socket.connect" and arguments[0].family != socket.AF_UNIX:
        assert arguments[1][0] == "127.0.0.1", f"contacts {arguments[1]}"

sys.addaudithook(refuse_others)
assert importlib.util.find_spec("sepsis_cql") is None
"""


@pytest.fixture(scope="module")
def hub():
    server = HubServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stranger(hub, tmp_path_factory):
    """Run a program with arguments in a folder, where there are the libraries alone; return what it prints."""
    home = tmp_path_factory.mktemp("home")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": sysconfig.get_path("purelib")}
    environment |= {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules"), "HF_ENDPOINT": hub.url}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    # -S leaves out the .pth file by which the editable install finds sepsis_cql
    libraries = Fresh(LIBRARIES, home, environment, "-S")

    def run(program, folder, *arguments):
        done = libraries.run(program, folder, *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    yield run
    libraries.close()


PACKAGE = """
import json, sys
import pandas as pd
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, pipeline

package, rows_file, copy = sys.argv[1:]
rows = pd.read_json(rows_file)
config = AutoConfig.from_pretrained(package, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(package, trust_remote_code=True)
model = AutoModel.from_pretrained(package, trust_remote_code=True)
answers = pipeline(model=package, trust_remote_code=True, device="cpu")(rows)
model.save_pretrained(copy)
again = AutoModel.from_pretrained(copy, trust_remote_code=True)
inputs = extractor(rows, return_tensors="pt")
print(json.dumps({
    "classes": [type(thing).__name__ for thing in (config, extractor, model)],
    "q_values": model(**inputs).q_values.tolist(),
    "copied_q_values": again(**inputs).q_values.tolist(),
    "actions": model.greedy_action(inputs["states"]).tolist(),
    "fluid_edges": config.fluid_edges,
    "answers": answers,
}))
"""


@pytest.mark.slow
def test_a_package_serves_a_stranger_like_its_author(stranger, hub, tmp_path):
    model, extractor, patient = load_package(ROOT), new_feature_extractor(), example_patient()
    save_package(model, extractor, tmp_path / "package")
    rows = pd.DataFrame(
        [patient, patient | {"lactate": None, "heart_rate": 84.5}, patient | {"age_years": 35}]
    )
    rows.to_json(tmp_path / "rows.json")
    places = [tmp_path / name for name in ("package", "rows.json", "copy")]
    answer = json.loads(stranger(PACKAGE, tmp_path, *places).splitlines()[-1])
    expected = model(extractor(rows, return_tensors="pt")["states"]).q_values.tolist()
    assert answer["classes"] == ["SepsisCQLConfig", "SepsisCQLFeatureExtractor", "SepsisCQLModel"]
    assert answer["q_values"] == expected
    assert answer["copied_q_values"] == expected
    assert answer["fluid_edges"] == model.config.fluid_edges
    assert [row["q_values"] for row in answer["answers"]] == expected
    assert [row["action"] for row in answer["answers"]] == answer["actions"]
    assert hub.requests == []  # of what lies in a folder nothing is asked elsewhere


PASTED = """
import json, sys
assert type(model).__module__.startswith("transformers_modules")
print("VALUES", json.dumps([outputs.q_values[0].tolist(), answer["q_values"]]))
"""


def test_python_of_the_readme_runs_as_pasted_and_equals_the_installed_package(stranger, hub, clean, tmp_path):
    hub.repositories[HUB_ID] = Repository(private=False)
    hub.repositories[HUB_ID].commit("main", clean)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4 and sum(HUB_ID in block for block in blocks) == 3
    printed = stranger("\n".join([*blocks, PASTED]), tmp_path)
    assert "Treatment(action=" in printed and "'unit': 'mL'" in printed and "model_state_dict" in printed
    first, second = json.loads(printed.split("VALUES ")[1])
    assert first == second and len(first) == 25
    installed, extractor = (auto.from_pretrained(ROOT) for auto in (AutoModel, AutoFeatureExtractor))
    assert {type(one).__module__.split(".")[0] for one in (installed, extractor)} == {"sepsis_cql"}
    answers = pipeline("sepsis-treatment", model=installed, feature_extractor=extractor)(example_patient())
    assert answers[0]["q_values"] == first


LOAD = """
import sys
import torch
from transformers import AutoFeatureExtractor, AutoModel

name, folder = sys.argv[1:]
def load(place, **revision):
    model = AutoModel.from_pretrained(place, trust_remote_code=True, **revision)
    extractor = AutoFeatureExtractor.from_pretrained(place, trust_remote_code=True, **revision)
    rows = [{fact["name"]: share if fact["name"] == "shock_index"
             else fact["low"] + share * (fact["high"] - fact["low"]) for fact in extractor.features}
            for share in (0.2, 0.5, 0.8)]
    inputs = extractor(rows, return_tensors="pt")
    return model.config.gamma, model(**inputs).q_values

gamma, expected = load(folder)
assert expected.shape == (3, 25) and not torch.equal(expected[0], expected[1])
for revision in ({"revision": "v1"}, {}):
    found_gamma, found = load(name, **revision)
    assert torch.equal(found, expected), revision
    print(revision.get("revision", "main"), "gamma", found_gamma, "here", gamma)
"""


def test_a_hub_id_loads_with_the_q_values_of_the_export(stranger, export, hub, api, tmp_path):
    push(export, NAME, tag="v1", api=api)
    repository = hub.repositories[NAME]
    tagged = repository.commits[repository.tags["v1"]]
    later = tagged["config.json"].replace(b'"gamma": 0.99', b'"gamma": 0.5')
    assert later != tagged["config.json"]
    repository.commit("main", tagged | {"config.json": later})
    printed = stranger(LOAD, tmp_path, NAME, export)
    assert "v1 gamma 0.99 here 0.99" in printed
    assert "main gamma 0.5 here 0.99" in printed
    assert hub.seen("HEAD", "/resolve/.*/config.json$")  # what download counts are made of
    hf = "from huggingface_hub.cli.hf import main; main()"
    stranger(hf, tmp_path, "download", NAME, "--revision", "v1", "--local-dir", "there")
    found = verify(tmp_path / "there")
    assert {one.result for one in found} == {"matches", "not checked"}, found
    (tmp_path / "there" / ".cache" / "notes.txt").touch()
    assert "differs" in {one.result for one in verify(tmp_path / "there")}
