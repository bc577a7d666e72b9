"""Implements the method in PyTorch, in the way of the literature, as the reference for gradrev_jax.

There is one module per MLP and per classifier; loops run over attributes and pathways, with one mean per
attribute; faiss does the search, and Python loops compute the metrics. It is meant to be read beside the
paper, and the tests compare gradrev_jax with it: the same weights and batch give the same features, losses,
gradients and updates. It imports nothing from gradrev_jax.

- ``model``: the backbone, MLPs, classifiers, reversal and memory, named as in ADDE-M's checkpoints
- ``losses``: Eqs. 1, 2 and 5, the triplet losses, and the terms that stage 2 adds
- ``training``: one step of either stage
- ``prototypes``: Eq. 6, from single images drawn at random
- ``retrieval``: Eq. 7, the flat search and the metrics
- ``loading``: a ``DataLoader`` that reads photographs from their files
"""
