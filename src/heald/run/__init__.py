"""The engine and what runs attempts: spawner, workers, commands, executors."""
