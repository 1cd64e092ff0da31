"""Several Triodes on one shared log, and what may happen to them."""
