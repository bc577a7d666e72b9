"""Computes one training step of either stage."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.torch_reference.losses import (
    attribute_triplet_loss,
    balanced_weight,
    classification_loss,
    cross_entropy,
    margin_loss,
    off_block_loss,
    one_hot,
    reversal_loss,
    semi_hard_triplet_loss,
)
from benchmarks.torch_reference.model import AttributeEncoder, Memory

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Losses = dict[str, Tensor]


def encoder_losses(
    encoder: AttributeEncoder,
    images: Tensor,
    labels: Tensor,
    *,
    reversal: bool = True,
    beta: float = 0.1,
    scale: float = 1.0,
    w_cls: float = 1.0,
    attribute_triplet_weight: float = 0.0,
    label_triplet_weight: float = 0.0,
) -> Losses:
    """Computes all terms of stage 1 (Eqs. 1 to 5) and their ``total``.

    Args:
      encoder: the network.
      images: the normalised images, [B, 3, S, S].
      labels: the value indices, int64 [B, N].
      reversal: whether classifiers also read the features of other attributes (Table 7 omits it).
      beta: the factor beta of Eq. 5.
      scale: the factor lambda of the reversed gradient.
      w_cls: the weight w_cls of Eq. 3.
      attribute_triplet_weight: the weight of the triplet loss per attribute; 0.2 in ADDE-M.
      label_triplet_weight: the weight of the triplet loss on whole label rows; 1 in ADDE-M.
    """
    features = encoder(images)
    losses: Losses = {}
    if reversal:
        logits = encoder.all_logits(features, scale)
        losses["loss_cls"] = classification_loss([row[n] for n, row in enumerate(logits)], labels)
        losses["loss_rev"] = reversal_loss(logits, labels)
        losses["w_rev"] = balanced_weight(losses["loss_cls"], losses["loss_rev"], w_cls, beta)
        losses["total"] = w_cls * losses["loss_cls"] + losses["w_rev"] * losses["loss_rev"]
    else:
        losses["loss_cls"] = classification_loss(encoder.own_logits(features), labels)
        losses["total"] = w_cls * losses["loss_cls"]
    if attribute_triplet_weight:
        losses["loss_attribute_triplet"] = attribute_triplet_loss(features, labels)
        losses["total"] = losses["total"] + attribute_triplet_weight * losses["loss_attribute_triplet"]
    if label_triplet_weight:
        embeddings = functional.normalize(torch.cat(features, dim=1))
        losses["loss_label_triplet"] = semi_hard_triplet_loss(embeddings, labels)
        losses["total"] = losses["total"] + label_triplet_weight * losses["loss_label_triplet"]
    return losses


def memory_losses(
    encoder: AttributeEncoder,
    memory: Memory,
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    indicators: Tensor,
) -> Losses:
    """Computes all terms of stage 2 and their ``total`` with ADDE-M's weights.

    Args:
      encoder: the network.
      memory: the prototypes.
      images: the references, positives and negatives, [B, 3, S, S] each.
      labels: the value indices of the three, int64 [B, N] each.
      indicators: the changes from the references' labels to the positives', [B, J].
    """
    sizes = encoder.sizes
    features = [encoder(part) for part in images]
    reference, positive, negative = (torch.cat(part, dim=1) for part in features)
    edited = reference + memory(indicators)
    edited_features = torch.chunk(edited, len(sizes), dim=1)

    losses: Losses = {}
    # The classifiers read all four; the manipulated features should have the labels of the positives.
    read = [*zip(features, labels, strict=True), (edited_features, labels[1])]
    losses["loss_cls"] = torch.stack(
        [
            cross_entropy(logits, part_labels[:, n])
            for part, part_labels in read
            for n, logits in enumerate(encoder.own_logits(part))
        ]
    ).sum()
    embeddings = torch.cat(
        [functional.normalize(reference), functional.normalize(edited), functional.normalize(negative)]
    )
    # The labels are in the same order; those of the manipulated features are the positives'.
    losses["loss_semi_hard"] = semi_hard_triplet_loss(embeddings, torch.cat(list(labels)))
    losses["loss_margin"] = margin_loss(
        functional.normalize(edited), functional.normalize(positive), functional.normalize(negative)
    )
    composed = [(edited, labels[1]), (reference, labels[0]), (negative, labels[2])]
    losses["loss_consistency"] = torch.stack(
        [functional.l1_loss(memory(one_hot(part_labels, sizes)), part) for part, part_labels in composed]
    ).sum()
    losses["loss_off_block"] = off_block_loss(memory.Memory.weight, sizes)
    losses["total"] = (
        0.2 * losses["loss_cls"]
        + losses["loss_semi_hard"]
        + losses["loss_margin"]
        + losses["loss_consistency"]
        + 0.4 * losses["loss_off_block"]
    )
    return losses


def normalized(images: Tensor, *, channels_last: bool = False) -> Tensor:
    """Normalises images from uint8 [B, S, S, 3] to [B, 3, S, S] with ImageNet's statistics."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    mean, std = statistics(images.device)
    result = (scaled - mean) / std
    return result.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@functools.cache
def statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the mean and the standard deviation, [3, 1, 1].

    They stay on the device, because copying them at every step would make a GPU wait.
    """
    mean, std = (torch.tensor(part, device=device).view(3, 1, 1) for part in (MEAN, STD))
    return mean, std


def random_flip(images: Tensor) -> Tensor:
    """Mirrors each image of [B, 3, S, S] left to right with probability one half."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def step(losses: Callable[[], Losses], optimizer: torch.optim.Optimizer) -> Losses:
    """Computes the gradients of the total, and updates the parameters."""
    optimizer.zero_grad(set_to_none=True)
    terms = losses()
    terms["total"].backward()
    optimizer.step()
    return terms
