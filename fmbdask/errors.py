"""Errors a user meets: one base class, and beside it the builtin each kind refines.

Every message is one sentence that names the file, extension, keyword or field and says what to do.
"""

from __future__ import annotations


class FmbdaskError(Exception):
    """Base of every error that fmbdask raises on purpose."""


class InputError(FmbdaskError, ValueError):
    """Data that cannot be used: a file, an extension, an array or a header value."""


class ConfigError(FmbdaskError, ValueError):
    """A configuration value that cannot be used."""


class OutputExistsError(FmbdaskError, FileExistsError):
    """A result is already there and was not to be overwritten."""


class RunError(FmbdaskError, RuntimeError):
    """A survey run that cannot begin, go on or be read."""


class LockedError(RunError):
    """Another coordinator works on the run."""


class SupersededError(RunError):
    """Another coordinator has taken the run over: this one must stop."""


class ChangedError(RunError):
    """Inputs or the configuration are not those that a run was begun with."""


class RefusedError(RunError, ValueError):
    """A plan that cannot work, with the reasons and their cures."""


class ClusterError(FmbdaskError, RuntimeError):
    """Workers that cannot be had, with what to change in the site's file."""
