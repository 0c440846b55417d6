"""Where work runs: on this machine, under Slurm, inside one allocation, or on a scheduler that is there."""
