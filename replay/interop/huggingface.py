"""Replay buffers as Hugging Face `datasets`: load a replay directory, or build one from MIMIC-IV tables."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from sepsis_cql.common.errors import ReplayError, TableError
from sepsis_cql.common.storage import sha256_json
from sepsis_cql.common.strict import load_shipped
from sepsis_cql.replay.build import build_replay, replay_fingerprint
from sepsis_cql.replay.directory import ReplayDirectory, write_private_marks
from sepsis_cql.replay.mimic.raw_files import TablesSettings
from sepsis_cql.replay.mimic.sources.registry import open_source
from sepsis_cql.replay.rows.actions import ACTION_NAMES
from sepsis_cql.replay.rows.splits import SPLITS
from sepsis_cql.replay.settings import BuildSettings, Features, load_build_settings
from sepsis_cql.replay.transitions import REWARD_VARIANTS

DESCRIPTION = """\
Transitions of septic ICU stays in 4-hour steps: what was known before the step (`state`, clinical units, NaN
where nothing is known, in the published order of the 62 inputs), the dose given in it (`action`, a 5 x 5
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
            "step_start": datasets.Value("timestamp[us]"),
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


def load_replay(path: Path, reward_variant: str = "sparse") -> datasets.DatasetDict:
    """Splits of a replay directory, in memory: no copy of the rows lands in a cache elsewhere.

    Args:
        path: a directory written by `sepsis-cql build`.
        reward_variant: sparse or sofa_shaped.

    Raises:
        ReplayError: a file or column is missing.
    """
    replay = ReplayDirectory(Path(path))
    path, features = replay.path, replay_features(replay.provenance.features)
    return datasets.DatasetDict(
        {
            split: datasets.Dataset(
                _select(_open(path, split).read(), features, reward_variant, path / f"{split}.parquet"),
                info=datasets.DatasetInfo(description=DESCRIPTION, features=features),
                split=datasets.NamedSplit(split),
                fingerprint=sha256_json([replay.fingerprint, split, reward_variant])[:16],
            )
            for split in SPLITS
        }
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
        return datasets.DatasetInfo(
            description=DESCRIPTION, features=replay_features(self.config.build_settings().features)
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        """Build once for all reward variants; one shard a row group, so that processes can share a split."""
        directory = Path(self._cache_dir_root) / f"replay-{self.hash}"
        if not directory.exists():
            build_replay(self.config.data_dir, directory, self.config.build_settings())
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "shards": [
                        (str(directory), split, group)
                        for group in range(_open(directory, split).num_row_groups)
                    ]
                },
            )
            for split in SPLITS
        ]

    def _generate_tables(self, shards: list[tuple[str, str, int]]) -> Iterator[tuple[Any, pa.Table]]:
        for number, (directory, split, group) in enumerate(shards):
            file = Path(directory) / f"{split}.parquet"
            table = _open(Path(directory), split).read_row_group(group)
            yield (
                datasets.builder.Key(number, group),
                _select(table, self.info.features, self.config.reward_variant, file),
            )


def replay_builder(
    mimic: Path | str,
    cache_dir: Path,
    *,
    reward_variant: str = "sparse",
    settings: BuildSettings | None = None,
) -> ReplayBuilder:
    """A `datasets` builder of the replay of MIMIC-IV tables.

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
