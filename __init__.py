"""sepsis-cql: MIMIC-IV in, an audited Conservative Q-Learning sepsis policy out."""


def __getattr__(name: str) -> str:
    """Return the version of the installed package, looked up when asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("sepsis-cql")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
