"""dask-jobqueue's classes, without what importing them does to Ctrl-C.

Importing dask_jobqueue.runner (0.9.0) lets SIGINT end the process at once, so that a coordinator could not
stop cleanly any more: the handler from before is put back.
"""

from __future__ import annotations

import signal

_before = signal.getsignal(signal.SIGINT)

from dask_jobqueue.slurm import SLURMJob, SLURMRunner  # noqa: E402

if _before is not None:
    signal.signal(signal.SIGINT, _before)

__all__ = ["SLURMJob", "SLURMRunner"]
