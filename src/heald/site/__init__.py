"""Machines, their schedulers and their launchers: floor 1, imports `core` only."""
