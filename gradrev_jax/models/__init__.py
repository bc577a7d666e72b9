"""Flax modules, and running them over images."""
