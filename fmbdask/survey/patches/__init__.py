"""Training of networks on simulated exposures: the labelled patches, and the training itself."""
