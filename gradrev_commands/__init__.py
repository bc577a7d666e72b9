"""The command lines: each defines flags and calls one function of gradrev_jax."""
