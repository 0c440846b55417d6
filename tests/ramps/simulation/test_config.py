"""The simulation's configuration: the YAML files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fmbdask.errors import ConfigError
from fmbdask.ramps.simulation import SimulationConfig

CONFIGS = Path(__file__).parents[3] / "configs" / "ramps"


def test_the_yaml_shows_the_defaults() -> None:
    values = yaml.safe_load((CONFIGS / "simulate.yaml").read_text())
    assert SimulationConfig.read(values) == SimulationConfig()
    assert set(values) == set(SimulationConfig.model_fields)


def test_the_full_size_yaml_is_valid() -> None:
    config = SimulationConfig.read(yaml.safe_load((CONFIGS / "simulate_ohana.yaml").read_text()))
    assert (config.image_shape, config.num_frames, config.frame_time) == ((2048, 2048), 450, 100.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"read_noise_range": [25, 15]}, "read_noise_range"),
        ({"image_shape": [64, 66]}, "66 columns do not divide into 4 amplifiers"),
        ({"overlap": 64}, "overlap"),
        ({"patch_size": [512, 512]}, "patch_size"),
        ({"num_frames": 3}, "num_frames"),
        ({"injection_type": "stars"}, "injection_type"),
        ({"gain_library": {"a": 0}}, "gain_library.a"),
        ({"rtn_duty_fraction_range": [0, 1]}, "rtn_duty_fraction_range"),
        ({"effects": {"ipc": {"neighbor": 0.1}}}, "effects.ipc.neighbor"),
        ({"effects": {"reference_pixels": {"border": 128}}}, "all reference pixels"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SimulationConfig.read(values)


def test_another_size_keeps_the_detector() -> None:
    config = SimulationConfig().resized(30, 64, 90)
    assert config.frame_time == pytest.approx(SimulationConfig().frame_time)
    assert (config.image_shape, config.num_frames, config.amplifiers) == ((64, 90), 30, 3)
    assert config.cosmic_ray_per_exp_range == (4, 7)
