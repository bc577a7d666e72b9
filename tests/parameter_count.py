import jax


def parameter_count(params):
    """The number of parameters in a tree, or in a tree of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
