"""Tables and figures over many runs and sweeps."""
