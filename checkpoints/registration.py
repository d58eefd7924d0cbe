"""What other libraries learn from `import sepsis_cql`, when they are imported themselves.

`register_lazily` imports none of them: it only asks to be told when the modules below are imported. Our classes then
join transformers' Auto classes, so that `AutoModel.from_pretrained(package)` runs no code of the package, and gymnasium
knows the simulated ICU by its name.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

ENVIRONMENT = "sepsis_cql/SepsisICU-v0"


def _register_config(auto: ModuleType) -> None:
    from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig

    auto.AutoConfig.register(SepsisCQLConfig.model_type, SepsisCQLConfig, exist_ok=True)


def _register_model(auto: ModuleType) -> None:
    from sepsis_cql.modeling_sepsis_cql import SepsisCQLConfig, SepsisCQLModel

    auto.AutoModel.register(SepsisCQLConfig, SepsisCQLModel, exist_ok=True)


def _register_feature_extractor(auto: ModuleType) -> None:
    from sepsis_cql.configuration_sepsis_cql import SepsisCQLConfig
    from sepsis_cql.feature_extraction_sepsis_cql import SepsisCQLFeatureExtractor

    auto.AutoFeatureExtractor.register(SepsisCQLConfig, SepsisCQLFeatureExtractor, exist_ok=True)


def _register_pipeline(auto: ModuleType) -> None:
    importlib.import_module("sepsis_cql.pipeline_sepsis_cql")  # registers its task


def _register_environment(registration: ModuleType) -> None:
    if ENVIRONMENT not in registration.registry:
        registration.register(ENVIRONMENT, entry_point="sepsis_cql.synthetic.environment:SepsisEnv")


STEPS: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.models.auto.feature_extraction_auto": _register_feature_extractor,
    "transformers.pipelines": _register_pipeline,
    "gymnasium.envs.registration": _register_environment,
}


class _Finder:
    """Finds the modules of `STEPS` as Python does, and runs their step once they are imported.

    It names no base class, which would have to be imported.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        step = STEPS.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if step else None
        if step is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            step(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_lazily() -> None:
    """Register classes and environment: now where those who ask for them are imported already, else when they are."""
    for name, step in STEPS.items():
        if name in sys.modules:
            step(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
