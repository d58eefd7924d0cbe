"""A simulated replay as a dataset on the Hub: simulated and built anew, so that no row comes from a directory."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.ownership import scratch_directory
from sepsis_cql.common.provenance import ROOT
from sepsis_cql.publishing.guard.files import Export
from sepsis_cql.publishing.guard.strict_json import dump_json
from sepsis_cql.publishing.manifest import MANIFEST, dump_manifest
from sepsis_cql.replay.build import build_replay
from sepsis_cql.replay.directory import PROVENANCE, STATISTICS, STAYS, ReplayDirectory
from sepsis_cql.replay.records import Provenance
from sepsis_cql.replay.report.dataset_card import CARD, COLUMNS, SYNTHETIC, load_terms, version_of
from sepsis_cql.replay.report.page import BUILD_REPORT
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import BuildSettings, load_build_settings
from sepsis_cql.synthetic.rendering.render import synthesize
from sepsis_cql.synthetic.settings import SyntheticSettings

CROISSANT = "croissant.json"
REASONS = {
    CARD: "dataset card",
    **{f"{split}.parquet": "transitions of simulated patients" for split in SPLITS},
    STAYS: "episodes of simulated patients",
    PROVENANCE: "what the rows were made from",
    STATISTICS: "normalizer and dose bins",
    BUILD_REPORT: "counts of the build",
    CROISSANT: "description for machines, in Croissant",
    "LICENSE": "licence",
    MANIFEST: "sha256 of every file",
}
KINDS = {
    "int": "sc:Integer",
    "float": "sc:Float",
    "double": "sc:Float",
    "bool": "sc:Boolean",
    "timestamp": "sc:DateTime",
}
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "recordSet": "cr:recordSet",
    "repeated": "cr:repeated",
    "source": "cr:source",
}


@dataclass(frozen=True)
class DatasetExport(Export):
    """Files of a simulated replay, by path."""

    @property
    def kind(self) -> str:
        """What the Hub calls a repository of it."""
        return "dataset"

    def list_files(self) -> list[tuple[str, int, str]]:
        """Return path, size in bytes and the reason it may be published, of each file."""
        return [(name, len(content), REASONS[name]) for name, content in sorted(self.files.items())]


def make_dataset(replay: Path) -> DatasetExport:
    """Simulate and build again what a replay directory says it was made from; nothing else of it is read.

    Whatever its rows are, those that are published are the simulator's own.

    Raises:
        PublishingError: it is not of simulated tables, has features of its own, or another version built it.
    """
    provenance = ReplayDirectory(replay).provenance
    settings = BuildSettings(
        replay=provenance.settings, features=provenance.features, fluids=provenance.fluids
    )
    _check_simulated(replay, provenance, settings)
    assert provenance.synthetic is not None
    with scratch_directory(Path(tempfile.gettempdir())) as folder:
        simulator = SyntheticSettings.model_validate(provenance.synthetic.settings, strict=False)
        synthesize(folder / "tables", provenance.synthetic.patients, provenance.synthetic.seed, simulator)
        build_replay(folder / "tables", folder / "replay", settings)
        made = ReplayDirectory(folder / "replay").provenance
        if made.fingerprint != provenance.fingerprint:
            raise PublishingError(
                f"{replay}: found the fingerprint {provenance.fingerprint[:12]}, but the same settings and seed give "
                f"{made.fingerprint[:12]} now. Another version built it: run `synthesize` and `build` again."
            )
        files = {
            name: (folder / "replay" / name).read_bytes()
            for name in REASONS
            if (folder / "replay" / name).exists()
        }
        schemas = {split: pq.read_schema(folder / "replay" / f"{split}.parquet") for split in SPLITS}
    files["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files[CROISSANT] = dump_json(describe(files, schemas, made))
    return DatasetExport(files | {MANIFEST: dump_manifest(files)})


def describe(
    files: Mapping[str, bytes], schemas: Mapping[str, pa.Schema], made: Provenance
) -> dict[str, Any]:
    """Return the Croissant 1.0 metadata of the splits: every file with its SHA-256, every column with its type.

    Args:
        files: of the dataset, by path.
        schemas: columns of each split.
        made: provenance of the rows.
    """
    terms = load_terms(SYNTHETIC)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "synthetic-sepsis-replay",
        "description": "Transitions of simulated septic ICU stays: state, dose, reward, next state. Nobody is real.",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "url": terms.homepage,
        "citeAs": terms.citation,
        "version": version_of(made.source),
        "distribution": [_file_object(f"{split}.parquet", files[f"{split}.parquet"]) for split in schemas],
        "recordSet": [_record_set(split, schema) for split, schema in schemas.items()],
    }


def _check_simulated(replay: Path, provenance: Provenance, settings: BuildSettings) -> None:
    if provenance.source.name != SYNTHETIC or provenance.synthetic is None:
        raise PublishingError(
            f"{replay}: holds rows of {provenance.source.name}; only a replay of simulated tables may be published. "
            "Share the code and the settings instead."
        )
    shipped = load_build_settings()
    if (settings.features, settings.fluids) != (shipped.features, shipped.fluids):
        raise PublishingError(
            f"{replay}: has features or fluids of its own, whose names nobody checked. Build it with the shipped ones."
        )


def _file_object(name: str, content: bytes) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{len(content)} B",
        "encodingFormat": "application/x-parquet",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _record_set(split: str, schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": split,
        "name": split,
        "field": [_field(split, column) for column in schema],
    }


def _field(split: str, column: pa.Field) -> dict[str, Any]:
    is_list = pa.types.is_fixed_size_list(column.type)
    text = str(column.type.value_type if is_list else column.type)
    kind = next((kind for name, kind in KINDS.items() if text.startswith(name)), "sc:Text")
    return {
        "@type": "cr:Field",
        "@id": f"{split}/{column.name}",
        "name": column.name,
        "description": COLUMNS.get(column.name, column.name.replace("_", " ")),
        "dataType": kind,
        **({"repeated": True} if is_list else {}),
        "source": {"fileObject": {"@id": f"{split}.parquet"}, "extract": {"column": column.name}},
    }
