"""Untrained networks for runs that ask one, and what they are asked about."""

from __future__ import annotations

from pathlib import Path

from fmbdask.models.handles import ModelHandle, save_network
from fmbdask.models.unet import Architecture, build_unet
from fmbdask.ramps.network.evidence import Confidence
from fmbdask.ramps.network.hybrid import normalisation
from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.survey.exposures.simulate import simulate_survey


def network(folder: Path, *, seed: int = 1, widths: tuple[int, ...] = (4, 8)) -> ModelHandle:
    """A network whose confidence is decided by the significance of the proposals: it accepts some."""
    confidence = Confidence(intercept=0.0, evidence=0.0, score=2.0).as_dict()
    return save_network(
        folder,
        build_unet(Architecture(channels=3, widths=widths), seed=seed),
        normalisation=normalisation(),
        provenance={"confidence": confidence},
        overwrite=True,
    )


def exposures(folder: Path, count: int, *, frames: int = 30, edge: int = 128) -> list[Path]:
    """Simulated exposures with hits."""
    settings = SimulationConfig.read(
        {"image_shape": (edge, edge), "num_frames": frames, "cosmic_ray_per_exp_range": (30, 30)}
    )
    found = simulate_survey(settings, folder, end_index=count - 1, seed=5, workers=1)
    return sorted(path for path in found if path.suffix == ".fits")
