"""`sepsis-cql card`, `export` and `push`: results to a model card, to a checked directory and to the Hub."""

import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.markup import escape

from sepsis_cql.commands.options import Again, Force, Ledger, Run
from sepsis_cql.commands.output import Work, console
from sepsis_cql.common.errors import PublishingError
from sepsis_cql.common.ownership import one_writer, scratch_directory

SHOWN = 10  # differences of a comparison; --json has all
OTHER_VERSION = (
    "The files are those of the manifest, so the package may be of another version of this program. Its card says "
    '"Made from commit", and "Evaluated from commit" where that is another: verify it with a checkout of the latter.'
)

Key = Annotated[
    Path | None, typer.Option("--sign", help="Private Ed25519 key (PEM) that signs the manifest.")
]


def card(
    run: Annotated[Path | None, typer.Option(help="Run directory to render the card of.")] = None,
    out: Annotated[
        Path,
        typer.Option(help="Package directory: receives the card, or already holds package and evidence."),
    ] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Only compare README.md with its evidence.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --run: replace what is in --out.")] = False,
) -> None:
    """Render the model card README.md from configuration, training record, evaluation and build report."""
    from sepsis_cql.common.storage import new_directory
    from sepsis_cql.publishing.card import check_card, write_card
    from sepsis_cql.publishing.export import write_package

    if check:
        if run is not None:
            raise PublishingError("--check compares --out with itself; leave --run away.")
        check_card(out)
        console.print(f"[green]✓[/] card: {escape(str(out / 'README.md'))} is what its evidence gives")
        console.answer({"out": str(out), "matches": True})
        return
    if run is None:
        with one_writer(out, "card"):
            file = write_card(out)
    else:
        parts = run / "replay", run / "training", run / "evaluation", run / "audit"
        with new_directory(out, "card", force=force, inputs=parts) as directory, Work("card") as work:
            write_package(run, directory, work)
        file = out / "README.md"
    console.print(f"[green]✓[/] card: {escape(str(file))}")
    console.answer({"out": str(file)})


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="Directory to create.")],
    format: Annotated[
        Literal["package", "pt", "space"],
        typer.Option(
            help="package: everything; pt: only the checkpoint; space: a page that runs the network."
        ),
    ] = "package",
    force: Force = False,
    with_optimizer_state: Annotated[
        bool,
        typer.Option(
            "--with-optimizer-state",
            help="Put Adam's moments, averages of gradients on patients, into the checkpoint.",
        ),
    ] = False,
    sign: Key = None,
) -> None:
    """Write the files of a run for the Hub, each made anew from what may be published."""
    if sign is not None and format != "package":
        raise PublishingError(f"--sign: found --format {format}, expected package: only that has a manifest.")
    from sepsis_cql.publishing.export import write_checkpoint, write_explorer, write_export

    if format == "space":
        page = write_explorer(run, out, force=force)
        console.print(f"[green]✓[/] export: {escape(str(page))}, a static Space; open it in a browser")
        console.answer({"out": str(page)})
        return
    if format == "pt":
        file = write_checkpoint(run, out, force=force, with_moments=with_optimizer_state)
        console.print(f"[green]✓[/] export: {escape(str(file))}")
        console.answer({"out": str(file)})
        return
    with Work("export") as work:
        files = write_export(
            run, out, force=force, with_moments=with_optimizer_state, key=sign, report=work
        ).list_files()
    size = sum(row[1] for row in files)
    console.print(f"[green]✓[/] export: {len(files)} files, {size / 2**20:.1f} MiB, in {escape(str(out))}")
    console.answer({"out": str(out), "files": _list(files)})


def push(
    repository: Annotated[str, typer.Argument(metavar="REPO", help="Hub id, OWNER/NAME.")],
    run: Annotated[Path | None, typer.Option(help="Run directory to export first.")] = None,
    export: Annotated[Path | None, typer.Option(help="Directory written by `export`.")] = None,
    replay: Annotated[
        Path | None,
        typer.Option(help="Replay directory of simulated tables: made anew and pushed as a dataset."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as private.")] = False,
    pr: Annotated[bool, typer.Option("--pr", help="Open a pull request; the main branch stays.")] = False,
    tag: Annotated[str | None, typer.Option(help="Name for the new revision, such as v1.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would go up and why; contacts nobody.")
    ] = False,
    sign: Key = None,
) -> None:
    """Put an export, or a simulated replay, on the Hub in one commit, download it again to compare, then tag it.

    The login is the Hub's own: `hf auth login`.
    """
    from sepsis_cql.publishing.export import export_run
    from sepsis_cql.publishing.guard.files import Export, read_export
    from sepsis_cql.publishing.hub import check_hub_id
    from sepsis_cql.publishing.hub import push as push_export

    if [run, export, replay].count(None) != 2:
        raise PublishingError("push: give exactly one of --run, --export and --replay.")
    if sign is not None and run is None:
        raise PublishingError("--sign: signs what --run exports; an export is signed by `export --sign`.")
    check_hub_id(repository)
    with nullcontext() if dry_run else one_writer(f"Hub repository {repository}", "push"):
        if replay is not None:
            from sepsis_cql.publishing.dataset import make_dataset

            checked: Export = make_dataset(replay)
        elif export is not None:
            checked = read_export(export)
        else:
            with Work("export") as work:
                checked = export_run(cast("Path", run), key=sign, report=work)
        files = checked.list_files()
        if dry_run:
            for name, size, reason in files:
                console.print(f"{size:>10,}  {escape(name)}  [dim]{escape(reason)}[/]")
            size = sum(row[1] for row in files)
            console.print(
                f"[green]✓[/] dry run: {len(files)} files, {size / 2**20:.1f} MiB, may go to {escape(repository)}"
            )
            console.answer({"repository": repository, "is_dry_run": True, "files": _list(files)})
            return
        published = push_export(checked, repository, private=private, pull_request=pr, tag=tag)
    state = "pushed" if published.is_new else "was there already"
    console.print(f"[green]✓[/] push: {state}: {escape(published.url)}")
    if tag:
        console.print(f"[green]✓[/] tag: {escape(tag)}, revision {published.commit}")
    facts = {"url": published.url, "commit": published.commit, "is_new": published.is_new, "tag": tag}
    console.answer({"repository": repository, "is_dry_run": False, "files": _list(files), **facts})


def _list(files: list[tuple[str, int, str]]) -> list[dict[str, Any]]:
    return [{"file": name, "bytes": size, "reason": reason} for name, size, reason in files]


def verify(
    target: Annotated[str, typer.Argument(metavar="REPO@REV", help="Hub id with revision, or a directory.")],
    replay: Annotated[
        Path | None, typer.Option(help="Replay directory: recompute the metrics if it is the recorded one.")
    ] = None,
    ledger: Ledger = None,
    again: Again = False,
    why: Annotated[str | None, typer.Option(help="Reason for --again.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Public Ed25519 key (PEM) of its maintainer, who must have signed it.")
    ] = None,
) -> None:
    """Check a published package: hashes, signature, card, q-values and, with its replay, metrics."""
    if Path(target).is_dir() and not Path(target, "manifest.json").is_file():  # told before torch is imported
        raise PublishingError(
            f"{target}: no manifest.json, so this is not an export. Expected what `sepsis-cql export` writes."
        )
    from sepsis_cql.publishing.hub import download
    from sepsis_cql.publishing.signature import read_public_key
    from sepsis_cql.publishing.verify import CONTENTS, FILES, TestUse
    from sepsis_cql.publishing.verify import verify as verify_export
    from sepsis_cql.replay.directory import open_replay

    signed_by = None if key is None else read_public_key(key)
    with scratch_directory(Path(tempfile.gettempdir())) as folder:
        directory = Path(target)
        if not directory.is_dir():
            repository, _, revision = target.partition("@")
            if not revision:
                raise PublishingError(f"{target}: not a directory. Expected one, or OWNER/NAME@REVISION.")
            directory = folder / "export"  # beside the lock of the folder
            console.print(f"revision {download(repository, revision, directory)}")
        with Work("verify") as work:
            comparisons = verify_export(
                directory,
                None if replay is None else open_replay(replay),
                TestUse(ledger, again, why),
                signed_by=signed_by,
                report=work,
            )
    for comparison in comparisons:
        color = {"matches": "green", "differs": "red", "not checked": "yellow"}[comparison.result]
        detail = f": {escape(comparison.detail)}" if comparison.detail else ""
        console.print(f"[{color}]{comparison.result}[/] {comparison.what}{detail}")
        for line in comparison.differences[:SHOWN]:
            console.print(f"  {escape(line)}")
        if (more := len(comparison.differences) - SHOWN) > 0:
            console.print(f"  and {more:,} more")
    found = [asdict(comparison) for comparison in comparisons]
    results = {comparison.what: comparison.result for comparison in comparisons}
    if (results.get(FILES), results.get(CONTENTS)) == ("matches", "differs"):
        console.print(OTHER_VERSION, soft_wrap=False)
    console.answer({"comparisons": found}, failed=any(one["result"] == "differs" for one in found))
