"""The benchmark of the kernels: that it runs, and that what it compares does the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.survey.bench import kernels
from fmbdask.survey.bench.measure import make_problem
from fmbdask.survey.bench.vectorised import vectorised_features


@pytest.mark.parametrize("frames", [12, 31])
def test_numpy_and_fused_pass_do_the_same(frames: int) -> None:
    p = make_problem(frames, 24)
    got = vectorised_features(p.data, p.used, p.tables, p.prior, p.offsets, p.pattern)
    np.testing.assert_allclose(got, p.run(), rtol=2e-3, atol=2e-3)


def test_every_row_has_a_positive_value() -> None:
    rows = kernels(frames=12, size=16, repeats=1)
    assert len({(row.name, row.unit) for row in rows}) == len(rows)
    assert all(np.isfinite(row.value) and row.value > 0 for row in rows)


def test_command_prints_json() -> None:
    result = CliRunner().invoke(app, ["bench", "kernels", "--frames", "12", "--size", "16", "--json"])
    assert result.exit_code == 0, result.output
    names = [row["name"] for row in json.loads(result.output)]
    assert "fused pass" in names
