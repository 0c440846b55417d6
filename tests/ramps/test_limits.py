"""Every limit leaves out what lies beyond it, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from fmbdask.ramps import detect
from fmbdask.ramps.config import DetectionConfig, Limits
from fmbdask.ramps.limits import ONE_SIDED, apply_limits

from .made_up import counts, labelled

KINDS = ("cosmic_ray", "telegraph_noise", "snowball")


def events() -> pd.DataFrame:
    """Three of each kind with values 1, 2 and 3 in every column."""
    names = {column for _, _, column, _ in ONE_SIDED} | {"amplitude"}
    table = pd.DataFrame({"type": np.repeat(KINDS, 3)})
    values = np.tile([1.0, 2.0, 3.0], 3)
    table = table.assign(**dict.fromkeys(sorted(names), values))
    table["confidence"] = values / 10
    # half the transitions per frame: 1 / (dwell_high + dwell_low) = 0.1, 0.2, 0.3
    return table.assign(dwell_high=5 / values, dwell_low=5 / values)


CASES: list[tuple[str, Any, tuple[str, ...]]] = [
    ("min_anomaly_pixels", 2, KINDS),
    ("min_confidence", 0.2, KINDS),
    ("cosmic_ray_min_intensity", 2, KINDS[:1]),
    ("cosmic_ray_max_spatial_extent", 2, KINDS[:1]),
    ("cosmic_ray_min_step", 2, KINDS[:1]),
    ("rtn_min_transitions", 2, KINDS[1:2]),
    ("rtn_max_transitions", 2, KINDS[1:2]),
    ("rtn_fit_quality_threshold", 2, KINDS[1:2]),
    ("rtn_min_confidence", 0.2, KINDS[1:2]),
    ("rtn_amplitude_range", (1.5, 2.5), KINDS[1:2]),
    ("rtn_frequency_range", (0.15, 0.25), KINDS[1:2]),
    ("snowball_min_confidence", 0.2, KINDS[2:]),
    ("snowball_min_intensity", 2, KINDS[2:]),
    ("snowball_max_intensity", 2, KINDS[2:]),
    ("snowball_min_radius", 2, KINDS[2:]),
    ("snowball_max_radius", 2, KINDS[2:]),
    ("snowball_circularity_threshold", 2, KINDS[2:]),
    ("snowball_expansion_rate", 2, KINDS[2:]),
    ("snowball_min_area", 2, KINDS[2:]),
    ("snowball_max_area", 2, KINDS[2:]),
]


def test_every_field_is_tried() -> None:
    assert {name for name, _, _ in CASES} == set(Limits.model_fields)


@pytest.mark.parametrize(("name", "value", "kinds"), CASES)
def test_each_limit(name: str, value: Any, kinds: tuple[str, ...]) -> None:
    # model_validate would refuse a quality of 2, which is what tells one event from the next here
    kept = apply_limits(events(), Limits.model_construct(**(Limits().model_dump() | {name: value})))
    left = kept.groupby("type")["spatial_extent"].apply(list).to_dict()
    wanted = [2.0] if "range" in name else [1.0, 2.0] if "max" in name or "expansion" in name else [2.0, 3.0]
    assert left == {kind: wanted if kind in kinds else [1.0, 2.0, 3.0] for kind in KINDS}
    assert kept.index.tolist() == list(range(len(kept)))


#: Fields of ohana's DetectorConfig.
OHANA = {
    "sigma_threshold", "min_anomaly_pixels", "min_confidence", "cosmic_ray_min_intensity",
    "cosmic_ray_max_spatial_extent", "cosmic_ray_min_step", "rtn_min_transitions",
    "rtn_max_transitions", "rtn_amplitude_range", "rtn_frequency_range", "rtn_fit_quality_threshold",
    "rtn_min_confidence", "snowball_min_confidence", "snowball_min_intensity", "snowball_max_intensity",
    "snowball_min_radius", "snowball_max_radius", "snowball_circularity_threshold",
    "snowball_expansion_rate", "snowball_min_area", "snowball_max_area",
}  # fmt: skip


def test_the_configuration_of_ohana_has_every_field_of_it() -> None:
    path = Path(__file__).parents[2] / "configs" / "ramps" / "ohana.yaml"
    config = DetectionConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert set(Limits.model_fields) | {"sigma_threshold"} == OHANA
    assert config.sigma_threshold == 5.0
    assert all(value is not None for value in config.limits.model_dump().values())


def test_what_is_not_known_breaks_no_limit() -> None:
    table = events().assign(expansion=np.nan)
    assert len(apply_limits(table, Limits(snowball_expansion_rate=0.1))) == len(table)


def test_a_fixed_threshold_acts() -> None:
    data = counts(16, 40, 40)
    data[5:, 10, 10] += 110
    data[8:, 20, 20] += 400
    ramp = labelled(data)
    assert len(detect(ramp, sigma_threshold=5.0).events) == 2
    assert len(detect(ramp, sigma_threshold=15.0).events) == 1


def test_no_limits_and_no_events() -> None:
    pd.testing.assert_frame_equal(apply_limits(events(), Limits()), events())
    assert apply_limits(events()[:0], Limits(min_anomaly_pixels=2)).empty


def test_limits_reach_the_catalogue_and_the_mask() -> None:
    data = counts(16, 40, 40)
    data[5:, 10, 10] += 200
    data[8:, 20, 20:23] += 400
    ramp = labelled(data)
    every = detect(ramp)
    assert every.events.spatial_extent.tolist() == [1, 3]
    found = detect(ramp, limits={"min_anomaly_pixels": 2})
    assert found.events.spatial_extent.tolist() == [3]
    assert found.events.event_id.tolist() == [0]
    assert found.maps["mask"].values.sum() == 3
    bright = detect(ramp, limits={"cosmic_ray_max_spatial_extent": 1})
    assert bright.events.spatial_extent.tolist() == [1]
