"""A network beside the rules: what it sees of a ramp, what it is asked about, and how its answers count."""
