"""What a simulated survey looks like: the fields of the simulation YAML, each with its unit.

The top level carries the fields of ohana's ``creator_config.yaml`` under their own names; ``effects`` holds
what makes an exposure real, one section an effect. An effect that is ``null`` (or ``false``) is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fmbdask.errors import ConfigError


def _ordered(value: tuple[Any, Any]) -> tuple[Any, Any]:
    if value[0] > value[1]:
        raise ValueError(f"a range must be [smallest, largest], not {list(value)}")
    return value


NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
FractionRange = Annotated[tuple[OpenFraction, OpenFraction], AfterValidator(_ordered)]
Count = Annotated[int, Field(ge=0)]
CountRange = Annotated[tuple[Count, Count], AfterValidator(_ordered)]
Length = Annotated[int, Field(ge=1)]

Injection = Literal["cosmic_ray", "snowball", "rtn", "all"]


class Section(BaseModel):
    """A part of the configuration: fixed once made, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Bias(Section):
    """Zero level of every pixel, with the charge left by its reset."""

    level: NonNegative = Field(5000.0, description="mean level [DN]")
    pixel_scatter: NonNegative = Field(250.0, description="standard deviation among pixels [DN]")
    amplifier_scatter: NonNegative = Field(120.0, description="standard deviation among amplifiers [DN]")
    parity_offset: NonNegative = Field(20.0, description="difference of odd and even columns [DN]")
    reset_noise: NonNegative = Field(35.0, description="kTC noise, drawn once an exposure [electron]")


class Dark(Section):
    """Dark current; its level comes from ``dark_current_range``."""

    pixel_scatter: NonNegative = Field(0.3, description="log-normal scatter among pixels [natural log]")


class Sky(Section):
    """Light: a uniform background and stars."""

    background_range: Range = Field((0.0, 0.01), description="background [electron / s / pixel]")
    star_density: NonNegative = Field(2.0e-4, description="stars per pixel")
    star_flux_range: PositiveRange = Field((0.2, 100.0), description="flux of one star [electron / s]")
    star_flux_slope: NonNegative = Field(0.8, description="index a of the star counts, N(>flux) ~ flux^-a")
    star_fwhm: Positive = Field(2.2, description="width of the stars' Gaussian profile [pixel]")


class HotPixels(Section):
    """Pixels with a large dark current, the same in all exposures of a detector."""

    fraction: Fraction = Field(2.0e-3, description="share of the pixels")
    rate_range: PositiveRange = Field((0.1, 20.0), description="dark current, log-uniform [electron / s]")


class DeadPixels(Section):
    """Pixels that gather no charge at all."""

    fraction: Fraction = Field(1.0e-3, description="share of the pixels")


class ReadNoise(Section):
    """White noise of every read; its level comes from ``read_noise_range``."""

    pixel_scatter: NonNegative = Field(0.1, description="log-normal scatter among pixels [natural log]")
    noisy_fraction: Fraction = Field(2.0e-3, description="share of pixels with a larger noise")
    noisy_factor: Positive = Field(3.0, description="factor on the noise of those pixels")


class PinkNoise(Section):
    """1/f noise of every pixel by itself."""

    rms_fraction: NonNegative = Field(
        0.2, description="standard deviation, as a share of the pixel's read noise"
    )
    slope: Annotated[float, Field(gt=0, lt=2)] = Field(
        1.0, description="index of the power spectrum, f^-slope"
    )


class AmplifierNoise(Section):
    """1/f noise of the read-out, continuous in time: bands of rows and drifts between frames."""

    amplifier_rms: NonNegative = Field(5.0, description="standard deviation of one amplifier [electron]")
    common_rms: NonNegative = Field(
        4.0, description="standard deviation of what all amplifiers share [electron]"
    )
    slope: Annotated[float, Field(ge=0, le=2)] = Field(
        1.0, description="index of the power spectrum, f^-slope"
    )
    overhead_rows: Count = Field(12, description="pause between two frames, in row times [row]")


class RowNoise(Section):
    """An offset of a whole row in one read."""

    rms: NonNegative = Field(2.0, description="standard deviation [electron]")


class ReferencePixels(Section):
    """A border of pixels that sees the electronics and no light."""

    border: Length = Field(4, description="width on each side [pixel]")
    noise_factor: Positive = Field(0.8, description="read noise relative to the light-sensitive pixels")


class InterPixelCapacitance(Section):
    """Share of a pixel's signal that its neighbours see."""

    neighbour: Annotated[float, Field(ge=0, lt=0.2)] = Field(
        0.008, description="share of each of the 4 neighbours"
    )
    corner: Annotated[float, Field(ge=0, lt=0.05)] = Field(
        0.0008, description="share of each of the 4 corners"
    )


class NonLinearity(Section):
    """Signal ``q (1 - deficit q / full_well)`` for a charge ``q``."""

    deficit: Annotated[float, Field(ge=0, lt=0.4)] = Field(0.06, description="share missing at the full well")
    pixel_scatter: Annotated[float, Field(ge=0, le=0.2)] = Field(
        0.05, description="relative scatter among pixels"
    )


class Saturation(Section):
    """Largest charge of a pixel (the converter's end is ``saturation_dn``)."""

    full_well: Positive = Field(1.2e5, description="largest charge [electron]")
    pixel_scatter: Annotated[float, Field(ge=0, le=0.2)] = Field(
        0.03, description="relative scatter among pixels"
    )


class Persistence(Section):
    """Charge trapped in an earlier exposure and released in this one, as a decaying current."""

    density: NonNegative = Field(1.0e-4, description="stimulated spots per pixel")
    radius_range: PositiveRange = Field((0.7, 2.5), description="radius of a spot [pixel]")
    charge_range: PositiveRange = Field(
        (50.0, 2000.0), description="charge released in all, log-uniform [electron]"
    )
    decay_range: PositiveRange = Field((200.0, 3000.0), description="decay time, log-uniform [s]")


class Settling(Section):
    """Offset of the first and last reads, different from pixel to pixel."""

    first_offset: float = Field(-40.0, description="offset of the first read [electron]")
    first_decay: Positive = Field(1.0, description="decay of that offset [frame]")
    last_offset: float = Field(15.0, description="offset of the last read [electron]")
    last_decay: Positive = Field(0.3, description="growth towards the last read [frame]")
    pixel_scatter: NonNegative = Field(0.3, description="relative scatter of the offsets among pixels")


class Glitches(Section):
    """An offset of one amplifier during one read."""

    probability: Fraction = Field(1.0e-3, description="probability per amplifier and read")
    amplitude_range: PositiveRange = Field(
        (20.0, 150.0), description="size of the offset, either sign [electron]"
    )


class CosmicRays(Section):
    """Straight tracks; counts and charges come from the ``cosmic_ray_*`` ranges."""

    track_length: NonNegative = Field(2.5, description="mean length of a track, exponential [pixel]")
    diffusion: NonNegative = Field(0.25, description="standard deviation of the charge cloud [pixel]")


class Snowballs(Section):
    """Round showers of charge; sizes and halos come from the ``snowball_*`` ranges."""

    core_ratio_range: PositiveRange = Field(
        (1.1, 1.8), description="charge of a core pixel in units of the charge that saturates it"
    )
    max_axis_deficit: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.12, description="largest 1 - minor / major axis of the core"
    )


class Effects(Section):
    """What happens to an exposure besides its events; ``null`` or ``false`` switches an effect off."""

    poisson: bool = Field(True, description="shot noise of dark current and light")
    bias: Bias | None = Field(Bias(), description="zero level and reset noise")
    dark: Dark | None = Field(Dark(), description="dark current")
    sky: Sky | None = Field(Sky(), description="background and stars")
    hot_pixels: HotPixels | None = Field(HotPixels(), description="pixels with a large dark current")
    dead_pixels: DeadPixels | None = Field(DeadPixels(), description="pixels without charge")
    read_noise: ReadNoise | None = Field(ReadNoise(), description="white noise of each read")
    gaussian_noise: bool = Field(True, description="additional white noise, from gaussian_noise_range")
    pink_noise: PinkNoise | None = Field(PinkNoise(), description="1/f noise per pixel")
    amplifier_noise: AmplifierNoise | None = Field(AmplifierNoise(), description="1/f noise per amplifier")
    row_noise: RowNoise | None = Field(RowNoise(), description="offsets of rows")
    reference_pixels: ReferencePixels | None = Field(ReferencePixels(), description="border without light")
    ipc: InterPixelCapacitance | None = Field(InterPixelCapacitance(), description="coupling of neighbours")
    nonlinearity: NonLinearity | None = Field(
        NonLinearity(), description="signal that falls short of the charge"
    )
    saturation: Saturation | None = Field(Saturation(), description="full well")
    persistence: Persistence | None = Field(Persistence(), description="memory of an earlier exposure")
    settling: Settling | None = Field(Settling(), description="offsets of the first and last reads")
    glitches: Glitches | None = Field(Glitches(), description="offsets of one amplifier in one read")
    cosmic_rays: CosmicRays | None = Field(CosmicRays(), description="tracks of cosmic rays")
    snowballs: Snowballs | None = Field(Snowballs(), description="snowballs")
    telegraph: bool = Field(True, description="telegraph noise: two levels, Markov switching")
    quantisation: bool = Field(True, description="whole numbers; off gives float32 exposures, still clipped")


class SimulationConfig(Section):
    """A simulated survey: sizes, counts, ranges and effects.

    A range is [smallest, largest]: detector levels are drawn once an exposure, sizes of events
    once an event.
    """

    output_dir: str = Field("data", description="folder of the exposures when no -o is given")
    image_shape: tuple[Length, Length] = Field((256, 256), description="rows, columns [pixel]")
    num_frames: Annotated[int, Field(ge=4)] = Field(60, description="frames of a ramp")
    patch_size: tuple[Length, Length] = Field((64, 64), description="training patches: rows, columns [pixel]")
    overlap: Count = Field(16, description="overlap of adjacent training patches [pixel]")
    num_exposure_events: Count = Field(1, description="exposures with events, per index and detector")
    num_baseline_exposures: Count = Field(0, description="exposures without events, per index and detector")
    injection_type: Injection = Field("all", description="kinds of events: cosmic_ray, snowball, rtn or all")
    num_classes: Annotated[int, Field(ge=2, le=4)] = Field(4, description="classes of the training labels")

    cosmic_ray_per_exp_range: CountRange = Field((40, 80), description="cosmic rays per exposure")
    snowballs_per_exp_range: CountRange = Field((1, 2), description="snowballs per exposure")
    rtn_per_exp_range: CountRange = Field((40, 80), description="telegraph pixels per exposure")

    gain_library: dict[str, Positive] = Field(
        {"18220_SCA": 1.062}, min_length=1, description="gain of each detector [electron / DN]"
    )
    amplifiers: Length = Field(4, description="read-out amplifiers, each a block of adjacent columns")
    exp_time: Positive = Field(6000.0, description="time from reset to the last read [s]")
    saturation_dn: Annotated[int, Field(ge=1, le=65535)] = Field(
        65535, description="end of the converter [DN]"
    )
    dark_current_range: Range = Field((0.01, 0.02), description="dark current [electron / s / pixel]")
    read_noise_range: Range = Field((15.0, 25.0), description="noise of one read [electron]")
    gaussian_noise_range: Range = Field((0.5, 10.0), description="additional noise of one read [electron]")

    cosmic_ray_charge_range: PositiveRange = Field(
        (200.0, 6000.0), description="charge of one cosmic ray, log-uniform [electron]"
    )
    rtn_offset_range: PositiveRange = Field(
        (30.0, 300.0), description="height of the telegraph step [electron]"
    )
    rtn_period_range: PositiveRange = Field(
        (10.0, 40.0), description="mean time of one high and one low [frame]"
    )
    rtn_duty_fraction_range: FractionRange = Field(
        (0.2, 0.8), description="share of the time in the high level"
    )

    snowball_radius_range: PositiveRange = Field((5.0, 12.0), description="radius of the core [pixel]")
    snowball_halo_amplitude_ratio_range: FractionRange = Field(
        (0.02, 0.15), description="halo at the core's edge relative to the charge that saturates a pixel"
    )
    snowball_halo_decay_scale_range: PositiveRange = Field(
        (2.0, 6.0), description="e-folding length of the halo, counted from the core's edge [pixel]"
    )

    effects: Effects = Field(Effects(), description="what makes an exposure real")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rows, columns = self.image_shape
        if columns % self.amplifiers:
            raise ValueError(
                f"image_shape: {columns} columns do not divide into {self.amplifiers} amplifiers"
            )
        if self.overlap >= min(self.patch_size):
            raise ValueError(
                f"overlap: {self.overlap} must be smaller than patch_size {list(self.patch_size)}"
            )
        if self.patch_size[0] > rows or self.patch_size[1] > columns:
            raise ValueError(
                f"patch_size: {list(self.patch_size)} is larger than image_shape {list(self.image_shape)}"
            )
        if 2 * self.border >= min(rows, columns):
            raise ValueError(f"image_shape: {list(self.image_shape)} is all reference pixels")
        return self

    @property
    def border(self) -> int:
        """Width of the reference border [pixel]."""
        return self.effects.reference_pixels.border if self.effects.reference_pixels else 0

    @property
    def frame_time(self) -> float:
        """Time between two reads [s]."""
        return self.exp_time / self.num_frames

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> SimulationConfig:
        """Validate plain values (from YAML).

        Raises
        ------
        ConfigError
            For the first field that cannot be used.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "simulation"
            reason = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{field}: {reason}; correct this field of the simulation.") from None

    def resized(self, frames: int, rows: int, columns: int) -> SimulationConfig:
        """Give the same detector another size: equal frame time, counts of events scaled with the pixels.

        Amplifiers become the largest number up to ``amplifiers`` that divides the columns; patches are cut to
        fit.
        """
        share = rows * columns / (self.image_shape[0] * self.image_shape[1])
        patch = (min(self.patch_size[0], rows), min(self.patch_size[1], columns))
        counts = ("cosmic_ray_per_exp_range", "snowballs_per_exp_range", "rtn_per_exp_range")
        scaled = {name: tuple(round(n * share) for n in getattr(self, name)) for name in counts}
        change = {
            "image_shape": (rows, columns),
            "num_frames": frames,
            "exp_time": self.frame_time * frames,
            "patch_size": patch,
            "overlap": min(self.overlap, min(patch) - 1),
            "amplifiers": next(n for n in range(min(self.amplifiers, columns), 0, -1) if columns % n == 0),
        }
        return self.read(self.model_dump() | scaled | change)
