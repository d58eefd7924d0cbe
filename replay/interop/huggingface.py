"""Replay buffers as Hugging Face `datasets`: load a replay directory, or build one from MIMIC-IV tables."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.iterable_dataset import ArrowExamplesIterable

from sepsis_cql.common.errors import ReplayError, TableError
from sepsis_cql.common.storage import sha256_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.build import build_replay, replay_fingerprint
from sepsis_cql.replay.directory import ReplayDirectory, write_private_marks
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.sources.registry import open_source
from sepsis_cql.replay.records import Source
from sepsis_cql.replay.report.dataset_card import load_terms, version_of
from sepsis_cql.replay.rows.actions import ACTION_NAMES
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import BuildSettings, Features, load_build_settings
from sepsis_cql.replay.transitions import REWARD_VARIANTS

Shard = tuple[str, str, int]  # directory, split, row group
DESCRIPTION = """\
Transitions of septic ICU stays in steps of equal length: what was known before the step (`state`, clinical units,
NaN where nothing is known, in the order of `state_names`), the dose given in it (`action`, a 5 x 5
grid), the reward, and what was known before the next step. `subject_id`, `hadm_id`, `stay_id` and
`step_start` identify patients of a credentialed database: keep every row local.
"""


def replay_features(features: Features) -> datasets.Features:
    """Return the types of the columns for these features of a state; the reward variants share the name `reward`."""
    n_states = len(features.state_names)
    state = datasets.List(datasets.Value("float32"), length=n_states)
    return datasets.Features(
        {
            "subject_id": datasets.Value("int64"),
            "hadm_id": datasets.Value("int64"),
            "stay_id": datasets.Value("int64"),
            "step_index": datasets.Value("int32"),
            "step_start": datasets.Value("int64"),  # microseconds since 1970: a time has no place in a tensor
            "state": state,
            "action": datasets.ClassLabel(names=list(ACTION_NAMES)),
            "reward": datasets.Value("float32"),
            "terminal": datasets.Value("bool"),
            "next_state": state,
            "norepinephrine_equivalent": datasets.Value("float32"),  # mcg/kg/min
            "fluid_volume": datasets.Value("float32"),  # mL
            "sofa": datasets.Value("int32"),
            "is_ventilated": datasets.Value("bool"),
        }
    )


@overload
def load_replay(
    path: Path, reward_variant: str = ..., *, streaming: Literal[False] = ...
) -> datasets.DatasetDict: ...
@overload
def load_replay(
    path: Path, reward_variant: str = ..., *, streaming: Literal[True]
) -> datasets.IterableDatasetDict: ...
def load_replay(
    path: Path, reward_variant: str = "sparse", *, streaming: bool = False
) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    """Load the splits of a replay directory, in memory or streamed: no copy of the rows lands in a cache elsewhere.

    Every column fits `with_format("torch")`; `view_column` gives one without a copy.

    Args:
        path: a directory written by `sepsis-cql build`.
        reward_variant: sparse or sofa_shaped.
        streaming: read one row group after the other instead of a split at once; one shard a row group.

    Raises:
        ReplayError: a file or column is missing.
    """
    replay = ReplayDirectory(Path(path))
    info = replay_info(replay.provenance.features, replay.source)

    def load(split: str) -> datasets.Dataset:
        file = _open(replay.path, split)
        rows = _select(file.read(), info.features, reward_variant, replay.path / f"{split}.parquet")
        key = sha256_json([replay.fingerprint, split, reward_variant])[:16]
        return datasets.Dataset(
            rows.combine_chunks(), info=info, split=datasets.NamedSplit(split), fingerprint=key
        )

    def stream(split: str) -> datasets.IterableDataset:
        shards = _shards(replay.path, split)
        tables = partial(_read_shards, features=info.features, reward_variant=reward_variant)
        return datasets.IterableDataset(
            ArrowExamplesIterable(tables, {"shards": shards}), info=info, split=datasets.NamedSplit(split)
        )

    if streaming:
        return datasets.IterableDatasetDict({split: stream(split) for split in SPLITS})
    return datasets.DatasetDict({split: load(split) for split in SPLITS})


def view_column(dataset: datasets.Dataset, name: str) -> pa.Array:
    """Return the numbers of a column as they lie in memory, those of states one row after the other.

    The array follows the DLPack protocol: `torch.from_dlpack(view_column(train, "state")).view(len(train), -1)` copies
    nothing, and what is written to the tensor is written to the dataset.

    Args:
        dataset: a split of `load_replay`, with all its rows in their order.
        name: of a column of numbers; `terminal` and `is_ventilated` are bits.

    Raises:
        ReplayError: rows were selected or shuffled, so that the column does not lie in memory as it is.
    """
    column = dataset.data.table[name]
    if dataset._indices is not None or column.num_chunks != 1:
        raise ReplayError(
            f"{name}: rows were selected, shuffled or put together. Expected a split as load_replay gives it; "
            "`dataset.with_format('torch')` copies others."
        )
    values = column.chunk(0)
    return values.flatten() if pa.types.is_fixed_size_list(values.type) else values


def replay_info(features: Features, source: Source | None = None) -> datasets.DatasetInfo:
    """Return types, description, licence, citation and version of a replay of these features and this source."""
    terms = load_terms(source.name if source else "")
    return datasets.DatasetInfo(
        description=DESCRIPTION,
        features=replay_features(features),
        license=terms.license,
        citation=terms.citation,
        homepage=terms.homepage,
        version=version_of(source) if source else None,
    )


@dataclass
class ReplayConfig(datasets.BuilderConfig):
    """A reward variant of the replay.

    Attributes:
        reward_variant: sparse or sofa_shaped; the configuration's name.
        settings: of the build, as JSON.
    """

    reward_variant: str = "sparse"
    settings: str = ""

    def build_settings(self) -> BuildSettings:
        """Return the settings of the build; the shipped ones where none were given."""
        if not self.settings:
            return load_build_settings()
        return BuildSettings.model_validate_json(self.settings, strict=False)


class ReplayBuilder(datasets.ArrowBasedBuilder):
    """Builds the replay from the MIMIC-IV tables in `data_dir`; make one with `replay_builder`."""

    BUILDER_CONFIG_CLASS = ReplayConfig
    BUILDER_CONFIGS = [ReplayConfig(name=name, reward_variant=name) for name in REWARD_VARIANTS]  # noqa: RUF012

    def _info(self) -> datasets.DatasetInfo:
        return replay_info(self.config.build_settings().features)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        """Build once for all reward variants; one shard a row group, so that processes can share a split."""
        directory = Path(self._cache_dir_root) / f"replay-{self.hash}"
        if not directory.exists():
            build_replay(self.config.data_dir, directory, self.config.build_settings())
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"shards": _shards(directory, split)})
            for split in SPLITS
        ]

    def _generate_tables(self, shards: list[Shard]) -> Iterator[tuple[Any, pa.Table]]:
        for number, (_, table) in enumerate(
            _read_shards(shards, self.info.features, self.config.reward_variant)
        ):
            yield datasets.builder.Key(number, shards[number][2]), table


def replay_builder(
    mimic: Path | str,
    cache_dir: Path,
    *,
    reward_variant: str = "sparse",
    settings: BuildSettings | None = None,
) -> ReplayBuilder:
    """Return a `datasets` builder of the replay of MIMIC-IV tables.

    Its cache is keyed by the files, the settings and the code, so nothing stale is used again, and is
    private to its owner. Use it as `replay_builder(...)`, then `.download_and_prepare(num_proc=...)` and
    `.as_dataset()`.

    Args:
        mimic: where they are kept, as `build_replay` takes it.
        cache_dir: private directory for the replay and its Arrow files.
        reward_variant: sparse or sofa_shaped.
        settings: of the build; the shipped ones by default.

    Raises:
        TableError: the place is not usable, or does not say whether rows changed, as PostgreSQL.
    """
    settings = settings or load_build_settings()
    with closing(open_source(mimic, load_shipped(TablesSettings, "tables.yaml"))) as source:
        keys = {name: table.key() for name, table in source.tables.items()}
    if None in keys.values():
        raise TableError(
            f"{source.where}: does not say whether its rows changed, which a cache needs. Run `sepsis-cql build`, and "
            "give its directory to load_replay."
        )
    cache_dir = Path(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    cache_dir.chmod(0o700)
    write_private_marks(cache_dir)
    return ReplayBuilder(
        config_name=reward_variant,
        settings=settings.model_dump_json(),
        data_dir=str(mimic),
        cache_dir=str(cache_dir),
        dataset_name="sepsis_replay",
        hash=replay_fingerprint(sha256_json(keys), settings)[:16],
    )


def _shards(directory: Path, split: str) -> list[Shard]:
    return [(str(directory), split, group) for group in range(_open(directory, split).num_row_groups)]


def _read_shards(
    shards: list[Shard], features: datasets.Features, reward_variant: str
) -> Iterator[tuple[str, pa.Table]]:
    for directory, split, group in shards:
        file = Path(directory) / f"{split}.parquet"
        table = _open(Path(directory), split).read_row_group(group)
        yield f"{split}-{group}", _select(table, features, reward_variant, file)


def _open(directory: Path, split: str) -> pq.ParquetFile:
    file = directory / f"{split}.parquet"
    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise ReplayError(
            f"{file}: not a readable parquet file ({error}). Expected what `sepsis-cql build` writes."
        ) from error


def _select(table: pa.Table, features: datasets.Features, reward_variant: str, file: Path) -> pa.Table:
    """The columns of one reward variant, typed; a column that is not there is an error, never nulls."""
    if reward_variant not in REWARD_VARIANTS:
        raise ReplayError(
            f"{reward_variant}: not a reward variant; expected one of {', '.join(REWARD_VARIANTS)}."
        )
    names = [f"reward_{reward_variant}" if name == "reward" else name for name in features]
    if missing := sorted(set(names) - set(table.column_names)):
        raise ReplayError(f"{file}: columns {', '.join(missing)} missing. Rebuild with `sepsis-cql build`.")
    return table.select(names).rename_columns(list(features)).cast(features.arrow_schema)
