"""Speed of the kernels on this machine, as ratios measured in one run."""

from fmbdask.survey.bench.measure import Row, kernels

__all__ = ["Row", "kernels"]
