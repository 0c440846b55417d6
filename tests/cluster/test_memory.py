"""What the C library is told about memory."""

from __future__ import annotations

import platform
import subprocess
import sys

SCRIPT = """
import threading, numpy as np
from fmbdask.cluster.memory import bound_arenas
obeyed = bound_arenas(1)
def work(): [np.ones(200_000).sum() for _ in range(20)]
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(obeyed)
"""


def test_glibc_obeys_and_threads_go_on_working() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(platform.libc_ver()[0] == "glibc")]
