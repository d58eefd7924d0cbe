"""Errors a user can act on; the command line prints them and exits with code 2."""


class SepsisCQLError(Exception):
    """Says what was found, what was expected and what to do; never shows patient rows."""


class StoppedError(SepsisCQLError):
    """The user stopped a command that can be continued; it exits with code 130."""


class SettingsError(SepsisCQLError):
    """A YAML setting or command-line option is unknown, of the wrong type or out of range."""


class TableError(SepsisCQLError):
    """A MIMIC-IV table is missing, unreadable or not what its name promises."""


class CohortError(SepsisCQLError):
    """The tables hold no usable septic stay, or a split would be empty."""


class ReplayError(SepsisCQLError):
    """A replay buffer is missing, foreign or inconsistent."""


class CheckpointError(SepsisCQLError):
    """A checkpoint or model package is damaged, foreign or disagrees with its configuration."""


class TrainingError(SepsisCQLError):
    """Training cannot start, continue or finish honestly."""


class EvaluationError(SepsisCQLError):
    """A policy cannot be evaluated on the given replay."""


class PublishingError(SepsisCQLError):
    """The card, the export or the push would claim or reveal something it must not."""
