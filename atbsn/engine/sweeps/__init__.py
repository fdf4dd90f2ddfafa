"""Sweeps: grids of trainings and measurements. The sweep file, its points, the scheduler and the ledger of results."""
