r"""The planes that the temporal kernels fill, in order, and the constants of their definitions.
 Reads ``x_1..x_n`` are the used reads of a pixel in DN, ``d`` the differences of reads that follow each
other directly, ``m`` their number. The median of m values is the k-th smallest with ``k = (m + 1) // 2``:
the middle one, or the lower of the two in the middle. "+" marks what is measured after offsets were taken
out. Frames are numbers of the whole ramp, not of the used reads.

========================  ===========================================================================
slope                     + least squares; differences beyond ``WINSOR`` sigma from the median are
                          replaced by the mean of the others
minimum, maximum          smallest and largest read
median_difference         median of d
mad_difference            median of the distances of d from its median
largest_difference        largest distance of d from zero
largest_difference_frame  frame after it, the first on a tie
first_appearance          first frame above ``x_1 + floor(s)``, -1 if none; s is ``appearance_sigma``
                          times 1.4826 times the MAD of d, which counts as 1 DN at least
persistence_count         number of reads above that level
max_intensity             maximum minus the first read
intensity_variance        variance of the reads (mean square)
transition_count          how often the ramp crosses that level
step_frame                + first frame after the strongest positive step, the first on a tie
step_amplitude            + its size, with level and slope refitted
step_significance         + size over error, with the moderated variance, as a Gaussian quantile
step_r2                   + part of the residual sum of squares that it explains
drop_significance         + significance of the strongest negative step (negative)
read_variance             + residual sum of squares of the line over its degrees of freedom
noise                     + moderated standard deviation of one read, the positive step taken out
roughness                 + mean square of the step statistic, in DN^2
rate                      + slope by generalised least squares
rho_bin                   + bin of Poisson over read variance in the tables
reads                     number of reads used
========================  ===========================================================================
"""

from __future__ import annotations

#: Planes of the result, in order, with their units.
PLANES: dict[str, str] = {
    "slope": "DN / interval",
    "minimum": "DN",
    "maximum": "DN",
    "median_difference": "DN",
    "mad_difference": "DN",
    "largest_difference": "DN",
    "largest_difference_frame": "frame",
    "first_appearance": "frame",
    "persistence_count": "frame",
    "max_intensity": "DN",
    "intensity_variance": "DN^2",
    "transition_count": "1",
    "step_frame": "frame",
    "step_amplitude": "DN",
    "step_significance": "sigma",
    "step_r2": "1",
    "drop_significance": "sigma",
    "read_variance": "DN^2",
    "noise": "DN",
    "roughness": "1",
    "rate": "DN / interval",
    "rho_bin": "1",
    "reads": "frame",
}
(
    SLOPE, MINIMUM, MAXIMUM, MEDIAN, MAD, LARGEST, LARGEST_FRAME, FIRST, PERSISTENCE, MAX_INTENSITY,
    VARIANCE, TRANSITIONS, STEP_FRAME, STEP_AMPLITUDE, STEP_SIGNIFICANCE, STEP_R2, DROP_SIGNIFICANCE,
    READ_VARIANCE, NOISE, ROUGHNESS, RATE, RHO_BIN, READS,
) = range(len(PLANES))  # fmt: skip
COUNT = len(PLANES)

#: Differences further than this many (Gaussian) sigma from the median do not enter slope and rho.
WINSOR = 4.5
#: Sigma of a Gaussian in units of its median absolute deviation.
MAD_SIGMA = 1.4826
