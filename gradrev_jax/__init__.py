"""Attribute disentanglement with gradient reversal for interactive fashion retrieval, in JAX and Flax.

Research code imports its building blocks from here. They are typed with array shapes and documented with the
paper's equations:

- attributes and labels: ``AttributeSchema``
- gradient reversal: ``reverse_gradient``, ``ganin_schedule``
- losses: ``classification_loss``, ``reversal_loss``, ``balanced_reversal_weight``
- memory and manipulation: ``class_prototypes``, ``make_indicator``, ``manipulate``, ``replace_blocks``
- exact search: ``nearest_neighbors``, ``ManipulationIndex``, ``Neighbors``
- retrieval metrics: ``hit_rate``, ``precision``, ``ndcg``
- Flax modules: ``AttributeEncoder``, ``EncoderOutput``, ``AlexNet``
- a trained run in use: ``Retriever``
"""

from typing import TYPE_CHECKING, Any

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.gradient_reversal import ganin_schedule, reverse_gradient
from gradrev_jax.core.indicators import make_indicator
from gradrev_jax.core.losses import balanced_reversal_weight, classification_loss, reversal_loss
from gradrev_jax.core.manipulation import class_prototypes, manipulate
from gradrev_jax.core.metrics import hit_rate, ndcg, precision
from gradrev_jax.core.replacement import replace_blocks
from gradrev_jax.search.index import ManipulationIndex
from gradrev_jax.search.neighbors import Neighbors, nearest_neighbors

if TYPE_CHECKING:
    from gradrev_jax.models.alexnet import AlexNet
    from gradrev_jax.models.encoder import AttributeEncoder
    from gradrev_jax.models.interface import EncoderOutput
    from gradrev_jax.serving.retriever import Retriever

__all__ = [
    "AlexNet",
    "AttributeEncoder",
    "AttributeSchema",
    "EncoderOutput",
    "ManipulationIndex",
    "Neighbors",
    "Retriever",
    "balanced_reversal_weight",
    "class_prototypes",
    "classification_loss",
    "ganin_schedule",
    "hit_rate",
    "make_indicator",
    "manipulate",
    "ndcg",
    "nearest_neighbors",
    "precision",
    "replace_blocks",
    "reversal_loss",
    "reverse_gradient",
]


def __getattr__(name: str) -> Any:
    """Imports what needs Flax on first use, so that the pure functions cost none."""
    if name == "AlexNet":
        from gradrev_jax.models.alexnet import AlexNet

        return AlexNet
    if name == "AttributeEncoder":
        from gradrev_jax.models.encoder import AttributeEncoder

        return AttributeEncoder
    if name == "EncoderOutput":
        from gradrev_jax.models.interface import EncoderOutput

        return EncoderOutput
    if name == "Retriever":
        from gradrev_jax.serving.retriever import Retriever

        return Retriever
    raise AttributeError(f"module 'gradrev_jax' has no attribute {name!r}")
