"""The method in PyTorch, written as the literature writes it: what gradrev_jax is measured against.

A module for every MLP and every classifier, loops over attributes and pathways, a mean for each attribute,
faiss for the search and Python loops for the metrics. It is meant to be read beside the paper, and the tests
hold gradrev_jax to its numbers: the same weights and batch give the same features, losses, gradients and
updates. It imports nothing of gradrev_jax.

- ``model``: backbone, MLPs, classifiers, reversal and memory, named as in ADDE-M's checkpoints
- ``losses``: Eqs. 1, 2 and 5, triplets, and what stage 2 adds
- ``training``: a step of either stage
- ``prototypes``: Eq. 6 from single images drawn at random
- ``retrieval``: Eq. 7, flat search and the metrics
- ``loading``: photographs from their files, by a ``DataLoader``
"""
