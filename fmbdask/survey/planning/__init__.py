"""What a run will do and cost, and whether it can work at all: inputs, calibration, projections, refusals."""
