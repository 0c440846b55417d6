"""Ranks of many scores are those of all of them at once, ties and missing ones included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmbdask.anomaly.fusion import share_of_rank
from fmbdask.survey.objects.ranking import ordered, ranks, shares

VALUES = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf]), st.floats(-1e300, 1e300)), max_size=400
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=VALUES, repeat=st.integers(1, 5))
def test_sorted_on_disk_as_in_memory(tmp_path: Path, values: list[float], repeat: int) -> None:
    scores = np.array(values * repeat, float)
    whole = ordered(scores, tmp_path)
    assert np.array_equal(whole, sorted(np.flatnonzero(~np.isnan(scores)), key=lambda i: (-scores[i], i)))
    pieces = ordered(scores, tmp_path, rows=32)
    assert np.array_equal(whole, pieces)
    found = ranks(pieces, len(scores), tmp_path, rows=32)
    assert np.array_equal(found[whole], np.arange(1, len(whole) + 1))
    assert (found[np.isnan(scores)] == 0).all()
    for rows in (32, 10**6):
        share = shares(scores, ordered(scores, tmp_path, rows=rows), tmp_path, rows=rows)
        np.testing.assert_array_equal(share, share_of_rank(scores))


def test_classes_stay_small_however_scores_are_distributed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for scores in (rng.standard_cauchy(20_000), np.zeros(20_000), rng.integers(0, 3, 20_000).astype(float)):
        found = ordered(scores, tmp_path, rows=1000)
        np.testing.assert_array_equal(found, np.argsort(-scores, kind="stable"))
