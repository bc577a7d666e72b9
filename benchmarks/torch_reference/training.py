"""A step of either stage."""

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
    """Stage 1 (Eqs. 1 to 5): all terms, and their ``total``.

    Args:
      encoder: the network.
      images: [B, 3, S, S], normalised.
      labels: int64 [B, N].
      reversal: whether classifiers read the other attributes' features too (Table 7 leaves it out).
      beta: of Eq. 5.
      scale: lambda of the reversal.
      w_cls: of Eq. 3.
      attribute_triplet_weight: ADDE-M's 0.2.
      label_triplet_weight: ADDE-M's 1.
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
    """Stage 2: all terms with ADDE-M's weights, and their ``total``.

    Args:
      encoder: the network.
      memory: the prototypes.
      images: references, positives and negatives, [B, 3, S, S] each.
      labels: of the same, int64 [B, N] each.
      indicators: [B, J], from the references' labels to the positives'.
    """
    sizes = encoder.sizes
    features = [encoder(part) for part in images]
    reference, positive, negative = (torch.cat(part, dim=1) for part in features)
    edited = reference + memory(indicators)
    edited_features = torch.chunk(edited, len(sizes), dim=1)

    losses: Losses = {}
    # All four are read by their own classifiers. The manipulated features should be as the positives are.
    read = [*zip(features, labels, strict=True), (edited_features, labels[1])]
    losses["loss_cls"] = torch.stack(
        [
            cross_entropy(logits, of_part[:, n])
            for part, of_part in read
            for n, logits in enumerate(encoder.own_logits(part))
        ]
    ).sum()
    embeddings = torch.cat(
        [functional.normalize(reference), functional.normalize(edited), functional.normalize(negative)]
    )
    # Rows of the labels: the references', the positives' for the manipulated features, the negatives'.
    losses["loss_semi_hard"] = semi_hard_triplet_loss(embeddings, torch.cat(list(labels)))
    losses["loss_margin"] = margin_loss(
        functional.normalize(edited), functional.normalize(positive), functional.normalize(negative)
    )
    composed = [(edited, labels[1]), (reference, labels[0]), (negative, labels[2])]
    losses["loss_consistency"] = torch.stack(
        [functional.l1_loss(memory(one_hot(of_part, sizes)), part) for part, of_part in composed]
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
    """Uint8 [B, S, S, 3] -> [B, 3, S, S] as ImageNet's statistics have it."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    mean, std = statistics(images.device)
    result = (scaled - mean) / std
    return result.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@functools.cache
def statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, [3, 1, 1]; kept there, since a GPU would wait for them at every step."""
    mean, std = (torch.tensor(part, device=device).view(3, 1, 1) for part in (MEAN, STD))
    return mean, std


def random_flip(images: Tensor) -> Tensor:
    """Mirror each image [B, 3, S, S] left to right with probability one half."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def step(losses: Callable[[], Losses], optimizer: torch.optim.Optimizer) -> Losses:
    """Gradients of the total, and an update."""
    optimizer.zero_grad(set_to_none=True)
    terms = losses()
    terms["total"].backward()
    optimizer.step()
    return terms
