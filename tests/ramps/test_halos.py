"""Around a snowball: rates without a ring, and hits at other times that stay events."""

from __future__ import annotations

import numpy as np

from fmbdask.ramps import detect

from .made_up import SIGMA, counts, labelled

FRAMES, SIZE, WHEN = 60, 128, 25
HITS = {(64, 86): 40, (40, 64): 10, (90, 64): 50}


def test_hits_at_other_times_and_rates_in_a_halo() -> None:
    data = counts(FRAMES, SIZE, SIZE, dtype=np.float32)
    y, x = np.indices((SIZE, SIZE))
    step = np.minimum(60 * SIGMA * np.exp(-(np.hypot(y - 64, x - 64) - 8) / 9), 50 * SIGMA)
    data[WHEN:] += step.astype(np.float32)
    for (row, column), frame in HITS.items():
        data[frame:, row, column] += 15 * SIGMA
    found = detect(labelled(np.rint(data).astype(np.uint16)), skip_first=0, skip_last=0)
    rays = found.events[found.events.type == "cosmic_ray"]
    assert (found.events.type == "snowball").sum() == 1
    assert {(r.peak_y, r.peak_x): r.first_frame for r in rays.itertuples()} == HITS
    rate, error = (found.maps[name].values[0] for name in ("rate", "rate_error"))
    for low, high in ((0.05, 0.3), (0.3, 1.0), (1.0, 3.0), (3.0, 30.0)):
        here = (step >= low * SIGMA) & (step < high * SIGMA)
        pull = rate[here] / error[here]
        assert abs(np.median(pull)) < 0.25
        assert np.std(np.clip(pull, -5, 5)) < 1.2
