"""`sepsis-cql import-checkpoint`: a published `.pt` file to a model package."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sepsis_cql.commands.options import Force
from sepsis_cql.commands.output import console
from sepsis_cql.common.storage import new_directory


def import_checkpoint(
    file: Annotated[
        Path,
        typer.Argument(
            help="Published checkpoint, `cql_epochNNNN_stepNNNNNNN.pt`, or a directory with the model.safetensors of "
            "an actor."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Package directory to create.")],
    force: Force = False,
) -> None:
    """Turn a published checkpoint into a model package, without unpickling code."""
    # imported here, because torch would slow down every other command
    from sepsis_cql.checkpoints.hub_package import new_feature_extractor, save_package
    from sepsis_cql.checkpoints.iql_actor import read_actor_package
    from sepsis_cql.checkpoints.original_pt import model_from_checkpoint, read_original_checkpoint

    if file.is_dir():
        model, told = read_actor_package(file), ""
    else:
        checkpoint = read_original_checkpoint(file)
        model = model_from_checkpoint(checkpoint)
        told = f"epoch {checkpoint.epoch}, step {checkpoint.global_step:,}, alpha {model.config.alpha}, "
    with new_directory(out, "import-checkpoint", force=force, inputs=[file]) as directory:
        save_package(model, new_feature_extractor(), directory)
    console.print(
        f"[green]✓[/] {escape(str(file))}: {told}outputs {model.config.outputs}. It takes normalized inputs: such a "
        "file holds no statistics."
    )
    console.print(escape(str(out)))
    console.answer({"out": str(out), "outputs": model.config.outputs, "takes_normalized_inputs": True})
