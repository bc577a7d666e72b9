"""A run: its config, its folder and its checkpoints."""
