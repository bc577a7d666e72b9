"""Shapes in signatures are checked in every test: jaxtyping's annotations, enforced by beartype."""

from jaxtyping import install_import_hook

# Before the first import of the package, so that every function in it is wrapped.
install_import_hook("gradrev_jax", "beartype.beartype")
