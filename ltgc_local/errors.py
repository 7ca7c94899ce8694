"""The exceptions that a user can cause. Messages say what is wrong, where, what was expected and what to type."""

from __future__ import annotations


class LtgcError(Exception):
    """Base of the errors that the command line prints without a traceback."""

    exit_code = 1


class RecipeError(LtgcError):
    """A recipe or the command line is wrong; the message lists every problem, one per line."""

    exit_code = 2


class ModelError(LtgcError):
    """A model card or its weights are missing, damaged or of the wrong kind."""

    exit_code = 3


class DataError(LtgcError):
    """The data set is missing, damaged or not what the recipe says."""

    exit_code = 4


class ArtefactError(LtgcError):
    """Something in the run directory is damaged, or was made with other settings."""

    exit_code = 5


class BackendError(LtgcError):
    """A backend failed: out of memory, a missing package, a process that ended."""

    exit_code = 6


class TryAgain(LtgcError):
    """Nothing is wrong, but not now: a signal asked to stop, another launcher is at work, or inputs are not ready."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h
