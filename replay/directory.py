"""Names, notice and writers of the files of a private replay directory."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sepsis_cql.replay.report_page import draw_attrition, render_page
from sepsis_cql.storage import write_json

PRIVATE_MARK = ".private-replay"
ROW_GROUP = 16384  # transitions; the share of a split that one process can take
NOTICE = """\
This directory holds patient-level data derived from MIMIC-IV tables.

If they came from credentialed MIMIC-IV, the PhysioNet Credentialed Health Data Use Agreement applies to
every file here: do not share, upload or publish any of them, do not send them to third-party services, do
not try to identify anyone, and keep the directory readable by credentialed users only. `sepsis-cql`
refuses to export or push a directory that carries the mark .private-replay.

provenance.json says which tables this directory was built from.
"""


def write_private_marks(directory: Path) -> None:
    """Write the data use notice and the mark publishing refuses."""
    (directory / "DATA_USE_NOTICE.txt").write_text(NOTICE, encoding="utf-8")
    (directory / PRIVATE_MARK).write_text("patient-level data; never publish\n", encoding="utf-8")


def write_tables(
    directory: Path, buffers: dict[str, pa.Table], stays: pa.Table, attrition: pd.DataFrame
) -> None:
    """Write one parquet file a split, the stays and the attrition table."""
    for split, table in buffers.items():
        pq.write_table(table, directory / f"{split}.parquet", row_group_size=ROW_GROUP)
    pq.write_table(stays, directory / "stays.parquet")
    attrition.to_csv(directory / "attrition.csv", index=False)


def write_report(directory: Path, report: dict[str, Any]) -> None:
    """Write the build report as JSON and as a page with its figure."""
    write_json(directory / "build_report.json", report)
    (directory / "build_report.md").write_text(render_page(report), encoding="utf-8")
    draw_attrition(report["attrition"], directory / "attrition.png")
