"""sepsis-cql: MIMIC-IV in, an audited Conservative Q-Learning sepsis policy out.

Names below are imported when they are first used; docs/api.md says what they do.
"""

from importlib import import_module
from typing import Any

from sepsis_cql.checkpoints.registration import register_lazily

PUBLIC = {
    "Evaluation": "evaluation.record",
    "SepsisEnv": "synthetic.environment",
    "evaluate": "evaluation.api",
    "example_patient": "checkpoints.example",
    "load_evaluation": "evaluation.record",
    "load_policy": "evaluation.policies.load",
    "load_replay": "replay.interop.huggingface",
    "open_replay": "replay.directory",
    "write_evaluation": "evaluation.evaluate",
}
__all__ = sorted(PUBLIC)

register_lazily()


def __getattr__(name: str) -> Any:
    """Return a public name, or the version of the installed package."""
    if name == "__version__":
        from importlib.metadata import version

        return version("sepsis-cql")
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"sepsis_cql.{PUBLIC[name]}"), name)
