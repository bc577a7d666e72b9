"""The command lines: flags, and one call of a function of gradrev_jax each."""
