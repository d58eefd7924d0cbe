"""Values of patients planted wherever a run keeps something, and looked for in everything that would be uploaded.

A case holds where the export is refused without repeating what was planted, or where nothing of it is found in the
files that would go up, in their names and in the message of the commit: as text in five encodings, base64, hexadecimal,
or as a number of 4 or 8 bytes; also inside archives, pictures and streams that were packed.
"""

import base64
import gzip
import io
import json
import os
import random
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sepsis_cql.benchmarks.attacks.processes import Tally
from sepsis_cql.common.errors import SepsisCQLError
from sepsis_cql.evaluation.record import Evaluation
from sepsis_cql.evaluation.study import Study
from sepsis_cql.publishing import export
from sepsis_cql.publishing.dataset import make_dataset
from sepsis_cql.publishing.guard import files as guard
from sepsis_cql.publishing.guard.files import Export
from sepsis_cql.publishing.guard.png import decode_png, draw_pictures
from sepsis_cql.publishing.hub import _message
from sepsis_cql.tests.publishing.containers import CHECKPOINTS, PICTURES, WEIGHTS
from sepsis_cql.tests.publishing.leaks import places, put

NOTE = "Jane Doe, 71 years, was admitted with urosepsis"
OF_CONTAINERS = 10012345  # what the planted containers of the tests hold
EVERY = 12  # one case in so many is exported as a page, too


class Secret:
    """Values of one patient who does not exist, drawn anew for every seed."""

    def __init__(self, rng: random.Random) -> None:
        self.subject = rng.randrange(10_000_000, 20_000_000)
        year, month, day, hour = (rng.randrange(*ends) for ends in ((10, 99), (1, 10), (10, 28), (10, 24)))
        self.day = f"21{year}-0{month}-{day} {hour}:17:43"
        self.value = round(rng.uniform(30, 150), 9)
        self.note = f"{NOTE} on {self.day}"

    def forms(self) -> dict[str, Any]:
        """Return the spellings in which something is planted."""
        text = str(self.subject)
        return {
            "number": self.subject,
            "float": float(self.subject),
            "fraction": self.value,
            "text": text,
            "sentence": self.note,
            "time": self.day,
            "row": [self.subject, 71, 1, self.value],
            "rows": {text: {"note": self.note}},
            "base64": base64.b64encode(self.note.encode()).decode(),
            "hexadecimal": self.note.encode().hex(),
            "packed": base64.b64encode(zlib.compress(self.note.encode())).decode(),
            "full width": "".join(chr(ord(digit) + 0xFEE0) for digit in text),
            "zero width": "\u200b".join(text),
            "shifted": "".join(chr(ord(letter) + 1) for letter in self.note),
        }

    def needles(self) -> set[bytes]:
        """Return the bytes by which any of the forms would be found again."""
        found = {struct.pack(f"{end}{kind}", self.subject) for end in "<>" for kind in "qi"}
        found |= {struct.pack(f"{end}{kind}", number) for end in "<>" for kind in "df" for number in (
            float(self.subject), self.value)}  # fmt: skip
        texts = {str(self.subject), str(self.value), self.day, NOTE}
        texts |= {form for name, form in self.forms().items() if isinstance(form, str) and name != "time"}
        for text in texts:
            found |= {
                text.encode(),
                text.encode("utf-16-le"),
                text.encode("utf-16-be"),
                text.encode("utf-32-le"),
            }
            found |= {json.dumps(text)[1:-1].encode(), text.encode().hex().encode()}
            for start in range(3):  # the first and last letters depend on what stands beside it
                found.add(base64.b64encode(b"\0" * start + text.encode())[4:-4])
        return {needle for needle in found if len(needle) >= 4}


def attack(prepared: Path, place: Path, seed: int, per_document: int) -> Tally:
    """Plant, export and look, with so many places of each document."""
    rng, tally = random.Random(seed), Tally()
    secret, drawn = Secret(rng), draw_pictures
    warnings.filterwarnings("ignore", "Duplicate name")  # planted
    made: dict[str, dict[str, bytes]] = {}

    def draw_once(evaluation: Evaluation, study: Study | None = None, report: Any = None) -> dict[str, bytes]:
        key = repr((evaluation, study))
        return made[key] if key in made else made.setdefault(key, drawn(evaluation, study))

    guard.draw_pictures = draw_once
    clean = _everything(export.export_run(prepared, with_moments=True))
    needles = [needle for needle in secret.needles() if needle not in clean]
    for number, (case, change) in enumerate(_cases(prepared, secret, rng, per_document)):
        run = place / "planted"
        shutil.copytree(prepared, run, ignore=shutil.ignore_patterns("mimic"), copy_function=os.link)
        change(run)
        tally.note(case, _search(run, needles, place, with_page=number % EVERY == 0))
        shutil.rmtree(run)
    for case, change in _in_a_replay(secret):
        replay = place / "replay"
        shutil.copytree(prepared / "replay", replay)
        change(replay)
        try:
            found = _everything(make_dataset(replay))
        except SepsisCQLError as error:
            found = str(error).encode()
        tally.note(f"dataset: {case}", _found(found, needles))
        shutil.rmtree(replay)
    return tally


def _search(run: Path, needles: list[bytes], place: Path, *, with_page: bool) -> str:
    """Return what was found of the planted value in what an export would send."""
    try:
        found = _everything(export.export_run(run, with_moments=True))
        if with_page:
            explorer_of = place / "page"
            export.write_explorer(run, explorer_of)
            found += _everything(Export({path.name: path.read_bytes() for path in explorer_of.rglob("*.*")}))
            shutil.rmtree(explorer_of)
    except SepsisCQLError as error:
        found = str(error).encode()
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return _found(found, needles)


def _found(data: bytes, needles: list[bytes]) -> str:
    return ", ".join(repr(needle[:40]) for needle in needles if needle in data)


def _everything(files: Export) -> bytes:
    """Return all that goes up, as it is and unpacked."""
    parts = [_message(files).encode(), "\n".join(files.files).encode()]
    for content in files.files.values():
        parts += [content, *_unpacked(content)]
    return b"\0".join(parts)


def _unpacked(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield what lies inside: members of archives, pixels, streams, and decoded texts."""
    found = []
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found += [entry.comment + archive.read(entry) for entry in archive.infolist()] + [archive.comment]
    elif content.startswith(b"\x89PNG"):
        found.append(decode_png(content).tobytes())
    elif content.startswith(b"\x1f\x8b"):
        found.append(gzip.decompress(content))
    for token in re.findall(rb"[A-Za-z0-9+/]{24,}", content[:2_000_000]):
        found.append(base64.b64decode(token[: len(token) // 4 * 4]))
    for inner in list(found):
        if inner[:1] == b"\x78":
            try:
                found.append(zlib.decompress(inner))
            except zlib.error:
                continue
    if depth < 2:
        for inner in found:
            yield inner
            yield from _unpacked(inner, depth + 1)


def _cases(run: Path, secret: Secret, rng: random.Random, per_document: int) -> Iterator[tuple[str, Any]]:
    """Yield a name and a change of a copy of the run, whose files are those of the run until one is written anew."""
    forms = secret.forms()
    documents = [path.relative_to(run) for path in sorted(run.rglob("*.json")) if "mimic" not in path.parts]
    for document in documents:
        values = json.loads((run / document).read_text())
        for place, _ in rng.sample(found := places(values), min(per_document, len(found))):
            for name in rng.sample(list(forms), 2):
                yield f"{document}: {name} at {place}", _document(document, put(values, place, forms[name]))
                yield (
                    f"{document}: {name} beside {place}",
                    _document(document, _beside(values, place, forms[name])),
                )
        text = (run / document).read_text()
        for name, form in forms.items():
            yield f"{document}: comment {name}", _bytes(document, f"{text}// {form}\n".encode())
        yield (
            f"{document}: a key twice",
            _bytes(document, text.replace("{", f'{{"note": "{secret.note}",' * 2, 1).encode()),
        )
    for document in (path.relative_to(run) for path in sorted(run.rglob("*.yaml"))):
        for name, form in forms.items():
            yield (
                f"{document}: comment {name}",
                _bytes(document, (run / document).read_bytes() + f"# {form}\n".encode()),
            )
    for document in (path.relative_to(run) for path in sorted(run.rglob("*.parquet"))):
        yield f"{document}: metadata", _parquet(document, secret)
    yield from _containers(run, secret)
    for folder in (
        "",
        "replay",
        "training",
        "training/package",
        "training/model",
        "evaluation",
        "evaluation/figures",
    ):
        for suffix in (".json", ".yaml", ".png", ".pt", ".safetensors", "_epoch0001_step0000001.pt"):
            yield f"a further file in {folder or '.'} {suffix}", _bytes(
                Path(folder, f"{secret.subject}{suffix}"), secret.note.encode())  # fmt: skip


def _containers(run: Path, secret: Secret) -> Iterator[tuple[str, Any]]:
    """Yield the changes of weights, checkpoints and figures, which hold another number until it is replaced."""
    (checkpoint,) = (run / "training" / "model").glob("*.pt")
    weights = Path("training", "package", "model.safetensors")
    figures = sorted((run / "evaluation" / "figures").glob("*.png"))
    for places_of, plants in (
        ([run / weights], WEIGHTS),
        ([checkpoint], CHECKPOINTS),
        (figures[:2], PICTURES),
    ):
        for path in places_of:
            for name, plant in plants.items():
                try:
                    content = plant(path.read_bytes()).replace(b"10012345", str(secret.subject).encode())
                except (ValueError, KeyError, struct.error, zlib.error):
                    content = path.read_bytes() + secret.note.encode()  # not a container of ours
                yield f"{path.name}: {name}", _bytes(path.relative_to(run), content)


def _in_a_replay(secret: Secret) -> Iterator[tuple[str, Any]]:
    """Yield changes of a simulated replay, which is pushed as a dataset."""
    yield "metadata of a table", _parquet(Path("train.parquet"), secret)
    yield "a further file", _bytes(Path(f"{secret.subject}.csv"), secret.note.encode())
    for name in ("provenance.json", "statistics.json", "build_report.json"):
        yield f"a comment in {name}", lambda replay, name=name: (replay / name).write_text(
            (replay / name).read_text() + f"// {secret.note}")  # fmt: skip


def _document(path: Path, value: Any) -> Any:
    return _bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def _bytes(path: Path, content: bytes) -> Any:
    def change(run: Path) -> None:
        (run / path).unlink(missing_ok=True)
        (run / path).write_bytes(content)

    return change


def _parquet(path: Path, secret: Secret) -> Any:
    def change(run: Path) -> None:
        table = pq.read_table(run / path)
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), b"note": secret.note.encode()}
        )
        (run / path).unlink()
        pq.write_table(table, run / path)

    return change


def _beside(values: Any, place: tuple[str | int, ...], form: Any) -> Any:
    """A copy with a further field named and filled by the form, in the object that holds a place."""
    holder = place
    while holder:
        inner = values
        for part in holder:
            inner = inner[part]
        if isinstance(inner, dict):
            break
        holder = holder[:-1]
    return put(values, (*holder, str(form)[:60]), form) if isinstance(values, dict) else [values, form]
