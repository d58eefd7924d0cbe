import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sepsis_cql.common.errors import SepsisCQLError, TableError
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.interop.demo_download import DemoSettings, download_demo, load_demo_settings
from sepsis_cql.replay.mimic.raw_files import TablesSettings

FILES = {"LICENSE.txt": b"open", "hosp/patients.csv.gz": b"patients", "icu/icustays.csv.gz": b"stays"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def release(tmp_path):
    """A release on this machine, and the settings that point to it."""
    for name, content in FILES.items():
        (tmp_path / "release" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "release" / name).write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "release"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    yield DemoSettings(url=f"http://127.0.0.1:{server.server_port}", notice="ODbL", files=sums)
    server.shutdown()
    server.server_close()


def test_every_file_arrives_as_published(release, tmp_path):
    announced = []
    out = download_demo(tmp_path / "demo", release, announce=announced.append)
    assert announced == list(FILES)
    assert {name: (out / name).read_bytes() for name in FILES} == FILES


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"other"), "SHA-256"),
        (lambda file: file.write_bytes(b""), "SHA-256"),
        (lambda file: file.unlink(), "404"),
    ],
    ids=["changed", "empty", "absent"],
)
def test_a_file_that_is_not_the_published_one_leaves_nothing_behind(release, tmp_path, damage, message):
    damage(tmp_path / "release" / "icu/icustays.csv.gz")
    with pytest.raises(TableError, match=rf"icustays.*{message}.*--mimic"):
        download_demo(tmp_path / "demo", release)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_an_existing_folder_is_kept_without_force(release, tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine").touch()
    with pytest.raises(SepsisCQLError, match="--force"):
        download_demo(tmp_path / "demo", release)
    assert (tmp_path / "demo" / "mine").exists()


def test_the_shipped_list_holds_every_table_the_build_reads():
    tables = load_shipped(TablesSettings, "tables.yaml").tables
    needed = {f"{table.folder}/{name}.csv.gz" for name, table in tables.items()}
    assert needed <= set(load_demo_settings().files)


def test_the_shipped_checksums_are_those_of_the_demo_at_hand(mimic_demo):
    listing = (mimic_demo / "SHA256SUMS.txt").read_text().splitlines()
    published = {name: digest for digest, name in (line.split() for line in listing)}
    files = load_demo_settings().files
    assert files == {name: published[name] for name in files}
