"""What quality is judged on: named kinds of exposures with events, and kinds of noise without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fmbdask.ramps.simulation import Effects, SimulationConfig
from fmbdask.ramps.simulation.config import (
    AmplifierNoise,
    Dark,
    PinkNoise,
    ReadNoise,
    RowNoise,
    Sky,
    Snowballs,
)

#: Exposures of the benchmark are numbered from here: seeds that neither tests nor tuning use.
FIRST_SEED = 7001
#: Frame time of all exposures [s]: rates per frame are so many times those per second.
FRAME_TIME = 100.0
#: Events per pixel: hits, telegraph pixels, snowballs.
RAYS, TELEGRAPH, SNOWBALLS = 2.4e-3, 1.6e-3, 2.4e-5
#: Backgrounds of illuminated exposures, 0.5 to 10 electrons per frame in three parts [electron / s].
BACKGROUNDS = tuple(
    (low / FRAME_TIME, high / FRAME_TIME) for low, high in ((0.5, 1.4), (1.4, 4.0), (4.0, 10.0))
)
#: Read noise of the ramps without events [electron].
CLEAN_NOISE = 20.0

_DRIFTS = ("amplifier_noise", "row_noise")
_UNMODELLED = ("settling", "nonlinearity", "persistence", "glitches", "pink_noise")


@dataclass(frozen=True)
class Setting:
    """A kind of exposure: its name, what it is in a few words, and its configuration at one size."""

    name: str
    text: str
    config: SimulationConfig
    backgrounds: tuple[tuple[float, float], ...] = ()

    def sized(self, frames: int, rows: int, columns: int, number: int = 0) -> SimulationConfig:
        """The same detector in another size, with as many events per pixel.

        Exposures of consecutive ``number`` take turns among the ranges of background where there are several.
        """
        area = rows * columns
        counts = {
            "cosmic_ray_per_exp_range": (max(round(RAYS * area), 1),) * 2,
            "rtn_per_exp_range": (max(round(TELEGRAPH * area), 1),) * 2,
            "snowballs_per_exp_range": (max(round(SNOWBALLS * area), 1),) * 2,
        }
        config = self.config.resized(frames, rows, columns).model_copy(update=counts)
        sky = config.effects.sky
        if not self.backgrounds or sky is None:
            return config
        light = {"background_range": self.backgrounds[number % len(self.backgrounds)]}
        effects = config.effects.model_copy(update={"sky": sky.model_copy(update=light)})
        return config.model_copy(update={"effects": effects})


@dataclass(frozen=True)
class Noise:
    """Ramps without events: name, light [electron / frame], and noise beside that of reads and photons."""

    name: str
    rate: float
    effects: dict[str, Any]

    def sized(self, frames: int, rows: int, columns: int) -> SimulationConfig:
        """An exposure of such ramps."""
        bare = dict.fromkeys(("sky", "hot_pixels", "dead_pixels", "ipc", "saturation"))
        effects = _effects(without=(*_DRIFTS, *_UNMODELLED), **bare | self.effects)
        quiet = {"dark": Dark(pixel_scatter=0.0), "read_noise": ReadNoise(noisy_fraction=0.0)}
        config = SimulationConfig(
            exp_time=60 * FRAME_TIME,
            dark_current_range=(self.rate / FRAME_TIME,) * 2,
            read_noise_range=(CLEAN_NOISE,) * 2,
            gaussian_noise_range=(0.0, 0.0),
            effects=effects.model_copy(update=quiet),
        )
        return config.resized(frames, rows, columns)


def _effects(without: tuple[str, ...] = (), **changes: Any) -> Effects:
    # cores that saturate, and cores that do not
    snowballs = Snowballs(core_ratio_range=(0.3, 1.8))
    return Effects(snowballs=snowballs).model_copy(update=dict.fromkeys(without) | changes)


def _setting(
    name: str, text: str, effects: Effects, backgrounds: tuple[tuple[float, float], ...] = ()
) -> Setting:
    config = SimulationConfig(
        exp_time=60 * FRAME_TIME,
        # reaches below what is scored: fainter hits are there as well
        cosmic_ray_charge_range=(60.0, 6000.0),
        rtn_period_range=(6.0, 60.0),
        effects=effects,
    )
    return Setting(name, text, config, backgrounds)


#: ``dark`` has read noise, dark current, hot, dead and noisy pixels and the coupling of neighbours;
#: ``effects`` has all that the simulation knows.
SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        _setting("dark", "dark current and read noise", _effects((*_DRIFTS, *_UNMODELLED, "sky"))),
        _setting("drift", "1/f noise of amplifiers and row noise as well", _effects((*_UNMODELLED, "sky"))),
        _setting(
            "sky",
            "a background of 0.5 to 10 electrons per frame and stars as well",
            _effects(_UNMODELLED, sky=Sky(background_range=(BACKGROUNDS[0][0], BACKGROUNDS[-1][1]))),
            BACKGROUNDS,
        ),
        _setting(
            "effects",
            "faint sky, settling, non-linearity, persistence, glitches and pink noise per pixel as well",
            _effects(),
        ),
    )
}

#: Kinds of clean ramps that the stated false-alarm rate is held against.
CLEAN: tuple[Noise, ...] = (
    Noise("white, 0.05 e/frame", 0.05, {}),
    Noise("white, 1 e/frame", 1.0, {}),
    Noise("white, 20 e/frame", 20.0, {}),
    Noise("1/f per amplifier", 1.0, {"amplifier_noise": AmplifierNoise(amplifier_rms=0.3 * CLEAN_NOISE)}),
    Noise("pink, 0.3 sigma per pixel", 1.0, {"pink_noise": PinkNoise(rms_fraction=0.3)}),
    Noise("pink, 0.5 sigma per pixel", 1.0, {"pink_noise": PinkNoise(rms_fraction=0.5)}),
    Noise("row noise", 1.0, {"row_noise": RowNoise(rms=0.3 * CLEAN_NOISE)}),
)
