"""Attribute disentanglement with gradient reversal for interactive fashion retrieval, in JAX and Flax."""
