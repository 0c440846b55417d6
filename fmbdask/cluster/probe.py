"""What a job of `fmbdask cluster check` looks at on its node; run with REQUEST ANSWER SCRATCH."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import psutil

#: How long the coordinator's machine may take to answer [s].
PATIENCE = 10.0


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Look at this node.

    Parameters
    ----------
    request : dict
        ``interface`` (or None), ``host`` and ``port`` of the coordinator, ``scratch``.

    Returns
    -------
    dict
        ``node``, ``version``, ``python``, ``interfaces`` (name -> address), ``reached`` (an empty string or
        the error), ``free`` [byte].
    """
    from .existing import installed_version

    addresses = {
        name: next((entry.address for entry in entries if entry.family == socket.AF_INET), "")
        for name, entries in psutil.net_if_addrs().items()
    }
    source = addresses.get(request["interface"] or "", "")
    try:
        place = (request["host"], int(request["port"]))
        with socket.create_connection(place, PATIENCE, (source, 0) if source else None):
            reached = ""
    except OSError as error:
        reached = str(error)
    return {
        "node": socket.gethostname(),
        "version": installed_version(),
        "python": platform.python_version(),
        "interfaces": addresses,
        "reached": reached,
        "free": shutil.disk_usage(request["scratch"]).free,
    }


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(probe(asked | {"scratch": sys.argv[3]})))
