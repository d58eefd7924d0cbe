"""The explorer in a real browser: it answers as the network in Python, and warns of what cannot be."""

import html
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sepsis_cql.checkpoints.example import example_patient
from sepsis_cql.checkpoints.hub_package import load_package, new_feature_extractor
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.evaluation.report.page import render_page
from sepsis_cql.feature_extraction_sepsis_cql import RATIOS
from sepsis_cql.publishing.card import load_facts
from sepsis_cql.publishing.explorer import (
    DEFER_WITHIN,
    SMALLEST_SHARE,
    explore_evaluated,
    made_up_courses,
    render_explorer,
    write_space,
)

DRIVE = """
<script>
const number = value => value === null ? NaN : value;
const given = patients.map(one => Object.fromEntries(Object.entries(one).map(([k, v]) => [k, number(v)])));
const seen = {all: given.map(forward), first: JSON.parse(byId("grid").dataset.answer)};
seen.defer = JSON.parse(byId("grid").dataset.defer); seen.shaded = document.querySelectorAll("td.defer").length;
byId("on").click(); seen.second = JSON.parse(byId("grid").dataset.answer); seen.step = byId("step").textContent;
byId("on").click(); byId("back").click(); seen.again = JSON.parse(byId("grid").dataset.answer);
seen.course = byId("course").textContent;
byId("within").value = "1000"; byId("within").dispatchEvent(new Event("input"));
seen.all_deferred = JSON.parse(byId("grid").dataset.defer);
const input = document.querySelector('input[type=number][data-name="map"]');
input.value = "140"; input.dispatchEvent(new Event("input"));
seen.moved = JSON.parse(byId("grid").dataset.answer); seen.warning = byId("warnings").textContent;
seen.cells = byId("grid").querySelectorAll("td").length; seen.wide = document.documentElement.scrollWidth;
document.body.dataset.seen = JSON.stringify(seen);
</script>"""


@pytest.fixture(scope="module")
def model():
    return load_package(ROOT)


@pytest.fixture(scope="module")
def page(model):
    return render_explorer(model, load_facts(ROOT)["evaluation"])


EXTRACTOR = new_feature_extractor()


@pytest.fixture(scope="module")
def patients():
    """Values anywhere in their plausible range, a third of them unknown, and the example."""
    rng = np.random.default_rng(5)
    rows = [
        {
            fact["name"]: None if rng.random() < 1 / 3 else float(rng.uniform(fact["low"], fact["high"]))
            for fact in EXTRACTOR.features
            if fact["name"] not in RATIOS
        }
        for _ in range(60)
    ]
    rows = [row for row in rows if _is_possible(row)]
    assert len(rows) > 5
    return [*rows, example_patient()]


def _is_possible(row):
    try:
        EXTRACTOR(row)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Open a page of a new folder in a browser; return what its script puts into `data-seen` of its body."""
    if (browser := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("explorer")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command += ["--allow-file-access-from-files", "--window-size=500,900", "--dump-dom"]

    def open_page(**pages):
        for name, page in pages.items():
            (folder / f"{name}.html").write_text(page, encoding="utf-8")
        place = (folder / f"{next(iter(pages))}.html").as_uri()
        done = subprocess.run([*command, place], capture_output=True, text=True, timeout=120, check=True)
        return json.loads(html.unescape(re.search(r'data-seen="(.*?)"', done.stdout)[1]))

    return open_page


@pytest.fixture(scope="module")
def seen(browse, page, patients):
    drive = DRIVE.replace("<script>", f"<script>const patients = {json.dumps(patients)};", 1)
    return browse(page=page.replace("</body>", f"{drive}</body>"))


@torch.no_grad()
def values(model, patients):
    """(n, 25) of one patient or a list of them."""
    return model(**EXTRACTOR(patients, return_tensors="pt")).q_values.numpy()


def test_the_browser_answers_as_python(model, patients, seen):
    expected = values(model, patients)
    np.testing.assert_allclose(seen["all"], expected, atol=2e-3)
    np.testing.assert_allclose(seen["first"], expected[-1], atol=2e-3)
    assert np.ptp(expected[:, 0]) > 1  # patients differ


def test_a_moved_slider_moves_the_answer_and_what_cannot_be_is_said(model, seen):
    assert seen["cells"] == 25 and seen["moved"] != seen["first"]
    assert "map is above sbp" in seen["warning"]
    assert seen["wide"] <= 500


FRAMES = """<body>{}<script>
addEventListener("load", () => {{
  document.body.dataset.seen = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument.documentElement;
    for (const part of page.querySelectorAll("details")) part.open = true;
    return [frame.clientWidth, page.scrollWidth, page.scrollHeight];
  }}));
}});
</script></body>"""


def test_report_and_explorer_fit_a_telephone_and_a_screen(browse, page):
    """A browser without a screen has no window below 500 pixels; a frame can be as narrow as a telephone."""
    figures = {file: file.stem for file in sorted((ROOT / "model" / "figures").glob("*.png"))}
    report = render_page(load_facts(ROOT)["evaluation"], figures, explorer="explorer.html")
    frame = '<iframe src="{}.html" style="border:0;width:{}px;height:900px"></iframe>'
    frames = "".join(frame.format(name, width) for name in ("report", "explorer") for width in (390, 1280))
    found = browse(frames=FRAMES.format(frames), report=report, explorer=page)
    assert [width for width, _, _ in found] == [390, 1280, 390, 1280]
    assert all(content <= width for width, content, _ in found), found
    assert all(height > 900 for _, _, height in found), found


def test_a_course_is_stepped_through_and_answered_as_in_python(model, seen):
    course = made_up_courses()["septic shock that resolves"]
    assert seen["step"] == f"step 2 of {len(course)}" and seen["second"] == seen["again"] != seen["first"]
    np.testing.assert_allclose(seen["second"], values(model, course[1])[0], atol=2e-3)
    assert seen["course"].count("→") == 1


def test_the_doses_to_defer_among_are_nearly_best_and_known_to_the_records(model, seen):
    (answer,) = values(model, example_patient())
    shares = np.array(load_facts(ROOT)["evaluation"].diagnostics.clinician_actions)
    known = shares >= SMALLEST_SHARE
    near = answer >= answer.max() - DEFER_WITHIN
    assert seen["defer"] == np.flatnonzero(near & known).tolist() and seen["shaded"] == len(seen["defer"])
    assert seen["all_deferred"] == np.flatnonzero(known).tolist()


def test_every_step_of_a_made_up_course_is_a_possible_patient():
    for course in made_up_courses().values():
        assert all(_is_possible(step) for step in course) and course[0] != course[-1]


def test_the_page_contacts_nobody_and_warns_first(page):
    assert not re.search(r"https?:|//cdn|<link|<img|fetch\(|XMLHttp", page)
    body = page[page.index("<body>") :]
    assert body.index("never use it for patient care") < body.index("<main>")


def test_a_space_is_written_whole_and_other_networks_are_refused(model, tmp_path):
    records = load_facts(ROOT)["records"]
    written = write_space(model, records, tmp_path / "space", force=False, inputs=[])
    assert {"index.html", "README.md"} <= {file.name for file in written.parent.iterdir()}
    assert "sdk: static" in (written.parent / "README.md").read_text(encoding="utf-8")
    model.config.normalization, before = "identity", model.config.normalization
    try:
        with pytest.raises(SepsisCQLError, match="25 values or logits that take clinical units"):
            write_space(model, records, tmp_path / "other", force=False, inputs=[])
    finally:
        model.config.normalization = before
    assert not (tmp_path / "other").exists()


def test_the_report_of_a_network_that_no_page_runs_does_without(model, tmp_path):
    found, settings = load_facts(ROOT)["evaluation"], load_facts(ROOT)["records"].build.settings
    built, file = (SimpleNamespace(provenance=one) for one in (SimpleNamespace(settings=settings), None))
    assert explore_evaluated(ROOT, found, built) == render_explorer(model, found)
    assert explore_evaluated(ROOT, found, file) is None
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(ROOT / "model.safetensors", package)
    config = (ROOT / "config.json").read_text(encoding="utf-8")
    other = config.replace('"decision_interval_hours": 4', '"decision_interval_hours": 1')
    (package / "config.json").write_text(other, encoding="utf-8")
    assert explore_evaluated(package, found, built) is None
    assert "href" not in render_page(found, {}) and 'href="x.html"' in render_page(found, {}, "x.html")
