"""Floor 2: models of camera noise, estimated from noisy pictures or drawn at random."""
