"""The pipeline of a run in a worker process: loaded once, made ready, and compared with that of the run."""

from __future__ import annotations

import json
import socket
import threading

from ...errors import RunError
from ...store.run.folder import RunFolder
from ..pipelines.protocol import Pipeline

_pipelines: dict[tuple[str, int, int], Pipeline] = {}
_loading = threading.Lock()


def load_pipeline(folder: RunFolder) -> Pipeline:
    """Pipeline of a run, loaded and made ready once a process, and again when the run was changed.

    Raises
    ------
    RunError
        If it cannot be loaded, or is not the one that the run was begun with.
    """
    try:
        state = folder.run_file.stat()
    except OSError as error:
        raise RunError(f"{folder.run_file} cannot be read ({error.strerror}): is it mounted here?") from None
    key = str(folder.path), state.st_mtime_ns, state.st_ino
    with _loading:
        if key not in _pipelines:
            from ..pipelines import load

            content = folder.read_json(folder.run_file)
            pipeline = load(content["pipeline"], content)
            here = json.loads(json.dumps(pipeline.fingerprint()))
            if content.get("fingerprint", here) != here:
                raise RunError(
                    f"the pipeline {content['pipeline']} is another one on {socket.gethostname()} than when "
                    f"the run in {folder.path} was begun: restore it, or resume with --accept-changes"
                )
            pipeline.warm()
            _pipelines.clear()
            _pipelines[key] = pipeline
        return _pipelines[key]
