"""The network that comes with fmbdask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need torch")

from fmbdask.config import resolve  # noqa: E402
from fmbdask.models.handles import ModelHandle  # noqa: E402
from fmbdask.models.unet import SMALL  # noqa: E402
from fmbdask.ramps.detect import detect  # noqa: E402
from fmbdask.ramps.network.hybrid import check_network  # noqa: E402
from fmbdask.ramps.network.shipped import SHIPPED, network_folder  # noqa: E402
from fmbdask.ramps.simulation import Limits, make_exposure, match  # noqa: E402
from fmbdask.survey.bench.settings import SETTINGS  # noqa: E402
from fmbdask.survey.patches.settings import UNetConfig  # noqa: E402

#: Hits of this signal-to-noise ratio count.
FAINT = Limits(snr=5.0)
CONFIGS = Path(__file__).parents[3] / "configs" / "ramps"


def test_names_are_folders_and_folders_stay() -> None:
    assert Path(network_folder("small")).is_dir()
    assert network_folder("./small") == "./small"
    assert network_folder(Path("runs/unet/model")) == "runs/unet/model"


def test_it_is_small_and_of_the_configuration_beside_it() -> None:
    folder = SHIPPED["small"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    network = ModelHandle.of(str(folder)).load(device="cpu")
    assert network.architecture.widths == SMALL
    check_network(network, "small")
    assert network.provenance["confidence"]["real"] > 300
    wanted = resolve(UNetConfig, "train.unet", CONFIGS / "unet.yaml", {}).value
    assert network.provenance["configuration"] == wanted.model_dump(mode="json")


def test_it_finds_faint_hits_that_the_rules_miss() -> None:
    found = false = 0
    for seed in (30_001, 30_002):  # no seeds of its training, of tuning or of the judge
        setting = (
            SETTINGS["dark"]
            .sized(100, 256, 256)
            .model_copy(
                update={"cosmic_ray_charge_range": (150.0, 600.0), "cosmic_ray_per_exp_range": (300, 300)}
            )
        )
        ramp, truth = make_exposure(setting, seed=seed)
        events = detect(ramp, model="small", model_confidence=0.8).events
        both = match(events, truth, FAINT)
        rules = match(events[events["found_by"] == "rules"], truth, FAINT)
        found += both.kinds["cosmic_ray"].found - rules.kinds["cosmic_ray"].found
        false += both.kinds["cosmic_ray"].false - rules.kinds["cosmic_ray"].false
        sure = events.loc[events["found_by"] == "network", "confidence"]
        assert np.isfinite(sure).all()
    assert found >= 6
    assert false <= 2
