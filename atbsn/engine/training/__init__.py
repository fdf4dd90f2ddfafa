"""The training loop and what it needs: checkpoints, states, logs, optimizers, interruptions."""
