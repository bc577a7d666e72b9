"""Computes the losses of both stages. Labels are value indices [B, N], -1 where not labelled."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_LOSS = 1e-6


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes the mean cross-entropy of the labelled samples; 0 if there are none."""
    total = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return total / (labels != -1).sum().clamp(min=1)


def classification_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Computes Eq. 1: the cross-entropy of each attribute's own classifier, summed over attributes."""
    losses = [cross_entropy(attribute_logits, labels[:, n]) for n, attribute_logits in enumerate(logits)]
    return torch.stack(losses).sum()


def reversal_loss(logits: Sequence[Sequence[Tensor]], labels: Tensor) -> Tensor:
    """Computes Eq. 2: the cross-entropy of all other classifiers on each feature, summed over pathways.

    It is positive: the gradient reversal, which the logits have passed through, supplies the minus of Eq. 2.
    """
    losses = [
        cross_entropy(pathway_logits, labels[:, n])
        for j, feature_logits in enumerate(logits)
        for n, pathway_logits in enumerate(feature_logits)
        if j != n
    ]
    return torch.stack(losses).sum() if losses else labels.new_zeros((), dtype=torch.float32)


def balanced_weight(loss_cls: Tensor, loss_rev: Tensor, w_cls: float = 1.0, beta: float = 0.1) -> Tensor:
    """Computes Eq. 5: beta * w_cls * L_cls / L_rev, or 0 if L_rev is 0.

    It is detached, because with a gradient through the weight, L_rev would cancel out of w_rev * L_rev.
    """
    ratio = beta * w_cls * loss_cls / loss_rev.clamp(min=SMALLEST_LOSS)
    return torch.where(loss_rev == 0, torch.zeros_like(ratio), ratio).detach()


def semi_hard_triplet_loss(embeddings: Tensor, labels: Tensor, margin: float = 0.5) -> Tensor:
    """Computes the semi-hard triplet loss on squared distances (Schroff et al., 2015).

    A class is a whole label row of [B, N]. For each anchor a and positive p, the negative is the nearest one
    that is farther than p, or else the farthest. The mean is over all pairs whose anchor has a negative; 0
    without any images.
    """
    if not len(labels):
        return embeddings.sum()  # over none, with a gradient of none
    squares = embeddings.square().sum(dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    distances = (squares[:, None] + squares[None, :] - 2 * embeddings @ embeddings.T).clamp(min=0)
    distances = distances.masked_fill(itself, 0)
    same = (labels[:, None] == labels[None, :]).all(dim=-1)
    infinity = torch.full_like(distances, torch.inf)
    # Axes [a, p, n]: the distances from a to the negatives that are farther than p.
    farther = ~same[:, None, :] & (distances[:, None, :] > distances[:, :, None])
    semi_hard = torch.where(farther, distances[:, None, :], infinity[:, None, :]).amin(dim=-1)
    farthest = torch.where(same, -infinity, distances).amax(dim=-1, keepdim=True)
    negative = torch.where(semi_hard < torch.inf, semi_hard, farthest)  # -inf where a has no negative
    pairs = same & ~itself & (~same).any(dim=-1, keepdim=True)
    violations = torch.where(pairs, distances - negative + margin, torch.zeros_like(distances))
    return violations.clamp(min=0).sum() / pairs.sum().clamp(min=1)


def attribute_triplet_loss(features: Sequence[Tensor], labels: Tensor, margin: float = 0.5) -> Tensor:
    """Computes ADDE-M's semi-hard triplet loss of each feature by its attribute's labels, summed.

    Images that are not labelled for an attribute do not enter the term of that attribute.
    """
    total = torch.zeros((), device=labels.device)
    for n, feature in enumerate(features):
        labelled = labels[:, n] != -1
        embeddings = functional.normalize(feature[labelled])
        total = total + semi_hard_triplet_loss(embeddings, labels[labelled, n : n + 1], margin)
    return total


def margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.5) -> Tensor:
    """Computes the mean of max(0, |a - p| - |a - n| + margin) over given triplets."""
    difference = (anchor - positive).norm(dim=-1) - (anchor - negative).norm(dim=-1)
    return (difference + margin).clamp(min=0).mean()


def one_hot(labels: Tensor, sizes: Sequence[int]) -> Tensor:
    """Converts labels [B, N] to one-hot rows [B, J], zero where not labelled."""
    columns = [  # -1 becomes the first column, which is dropped
        functional.one_hot(labels[:, n] + 1, size + 1)[:, 1:].to(torch.float32)
        for n, size in enumerate(sizes)
    ]
    return torch.cat(columns, dim=1)


def off_block_loss(weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """Computes the sum of |memory| outside its blocks; the weight is [N * d, J]."""
    dim = len(weight) // len(sizes)
    outside = torch.ones_like(weight)
    start = 0
    for n, size in enumerate(sizes):
        outside[n * dim : (n + 1) * dim, start : start + size] = 0
        start += size
    return (outside * weight).abs().sum()
