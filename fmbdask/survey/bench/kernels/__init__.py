"""Speed of the kernels on this machine, as ratios measured in one run."""

from fmbdask.survey.bench.kernels.measure import Row, kernels

__all__ = ["Row", "kernels"]
