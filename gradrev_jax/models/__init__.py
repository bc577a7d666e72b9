"""Flax modules: AlexNet and the attribute encoder."""
