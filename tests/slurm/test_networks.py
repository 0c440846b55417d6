"""A survey that asks a network, on jobs that see it only by its path."""

from __future__ import annotations

import os

import pytest
import yaml

pytest.importorskip("torch", reason="networks need torch")

from fmbdask.survey.planning.plan import Plan
from fmbdask.survey.running.run import run

from ..survey.asked import exposures, network
from ..survey.whole import elsewhere, files
from .conftest import Survey


def test_workers_of_two_jobs_ask_a_network(survey: Survey) -> None:
    handle = network(survey.folder / "unet" / "model")
    inputs = exposures(survey.folder / "data", 4, frames=24, edge=96)
    settings = {
        "inputs": [str(path) for path in inputs],
        "output": str(survey.run.path),
        "edge": 48,
        "detection": {"model": handle.path, "model_confidence": 0.6},
        "span_seconds": 0.01,
        "memory": "1GB",
    }
    config = survey.folder / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    survey.call("run", config, "--cluster", survey.site(workers=2))
    about = survey.run.read_json(survey.run.run_file)
    assert about["config"]["detection"]["model_sha256"] == handle.sha256
    done = [r for r in survey.records() if r.kind == "ended" and r.unit.kind == "reduce" and r.unit.item >= 0]
    assert len(done) == len(inputs)
    assert os.uname().nodename not in {record.worker.partition("/")[0] for record in done}
    here = survey.folder / "here"
    assert run(elsewhere(Plan.load(survey.run.path), here), cluster="threads", workers=1).complete
    assert files(here) == files(survey.run.path)
