"""How good the detector of ramps is: simulated exposures and clean ramps with known truth."""
