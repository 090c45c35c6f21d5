"""Errors that a user can correct. Each says what was wrong, the value, and what to do.

Libraries raise them; only the command lines print them (one sentence, exit status 2).
"""


class DvccError(Exception):
    """Base of every error that dvcc raises on purpose."""


class ConfigError(DvccError, ValueError):
    """A setting, argument or command-line word is wrong."""


class VideoError(DvccError, ValueError):
    """A video or frame folder cannot be read as asked."""


class CodecError(DvccError, RuntimeError):
    """An encoder refused its options, failed, or would have ignored a QP map."""


class CheckpointError(DvccError, RuntimeError):
    """A file of weights is missing, damaged, or belongs to another model."""


class TimeLimitError(DvccError):
    """A command was not done within the time that it was given."""


class MissingExtraError(DvccError, ImportError):
    """What was asked for needs packages that the core of dvcc comes without."""
