"""Defines the networks, with the parameter names of ADDE-M's checkpoints, so state dicts can be exchanged."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

TAPS = ("fc6", "fc6_relu", "fc7", "fc7_relu")


class GradientReversal(torch.autograd.Function):
    """Identity in the forward pass; multiplies the gradient by -scale (Ganin & Lempitsky, 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        """Returns the input unchanged."""
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient times -scale; the scale itself has no gradient."""
        return -ctx.scale * gradients[0], None


class AlexNet(nn.Module):
    """torchvision's AlexNet up to a tap in its fully connected layers; ``width`` scales all layers."""

    def __init__(self, tap: str = "fc6_relu", width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        if tap not in TAPS:
            raise ValueError(f"tap must be one of {', '.join(TAPS)}, got {tap!r}")
        c1, c2, c3, c4, c5 = (max(1, round(width * filters)) for filters in (64, 192, 384, 256, 256))
        units = max(1, round(width * 4096))
        self.features = nn.Sequential(
            nn.Conv2d(3, c1, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(c1, c2, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(c2, c3, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c3, c4, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c4, c5, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        layers = [
            nn.Dropout(dropout),
            nn.Linear(c5 * 6 * 6, units),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(units, units),
            nn.ReLU(),
        ]
        self.classifier = nn.Sequential(*layers[: {"fc6": 2, "fc6_relu": 3, "fc7": 5, "fc7_relu": 6}[tap]])
        self.units = units

    def forward(self, images: Tensor) -> Tensor:
        """Maps images [B, 3, S, S] to the outputs of the tap, [B, units]."""
        x = self.avgpool(self.features(images))
        return self.classifier(torch.flatten(x, 1))


class Embeddings(nn.Module):
    """Stands in for a backbone whose outputs were computed before; only dropout is left of it."""

    def __init__(self, units: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.units = units
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        """Applies dropout to vectors, [B, units]."""
        return self.dropout(vectors)


class AttributeEncoder(nn.Module):
    """A backbone, one MLP per attribute, and classifiers that read every feature (Sections 3.1, 3.2).

    ``attr_classifier[n]`` is the classifier of attribute n, whichever feature it reads (N of them).
    With ``pairwise`` heads, ``attr_classifier[j][n]`` is the classifier of attribute n that reads feature j
    (N x N of them).

    Args:
      sizes: the number of values of each attribute.
      feature_dim: the dimension d of each attribute's feature.
      heads: the arrangement of the classifiers, ``shared`` or ``pairwise``.
      tap: the layer whose output the backbone returns.
      width: the factor of the backbone's layer widths.
      dropout: the dropout rate of the backbone.
      vector: the size of the vectors that stand in for images; None: the backbone reads images.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        feature_dim: int = 340,
        heads: str = "shared",
        tap: str = "fc6_relu",
        width: float = 1.0,
        dropout: float = 0.5,
        vector: int | None = None,
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.heads = heads
        self.backbone = AlexNet(tap, width, dropout) if vector is None else Embeddings(vector, dropout)

        def classifiers() -> nn.ModuleList:
            return nn.ModuleList(nn.Sequential(nn.Linear(feature_dim, size)) for size in sizes)

        self.dis_proj = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.backbone.units, feature_dim), nn.ReLU(), nn.Linear(feature_dim, feature_dim)
            )
            for _ in sizes
        )
        if heads == "shared":
            self.attr_classifier = classifiers()
        elif heads == "pairwise":
            self.attr_classifier = nn.ModuleList(classifiers() for _ in sizes)
        else:
            raise ValueError(f"heads must be shared or pairwise, got {heads!r}")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images [B, 3, S, S], or vectors [B, units], to N features [B, d]."""
        x = self.backbone(images)
        return [mlp(x) for mlp in self.dis_proj]

    def classifier(self, feature: int, attribute: int) -> nn.Module:
        """Returns the classifier of an attribute that reads a feature."""
        heads: Any = self.attr_classifier
        return heads[attribute] if self.heads == "shared" else heads[feature][attribute]

    def own_logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Returns the logits of each feature's own classifier: N tensors [B, J_n]."""
        return [self.classifier(n, n)(feature) for n, feature in enumerate(features)]

    def all_logits(self, features: Sequence[Tensor], scale: float = 1.0) -> list[list[Tensor]]:
        """Returns ``logits[j][n]`` [B, J_n] of classifier n on feature j, through the reversal if j != n."""
        logits = []
        for j, feature in enumerate(features):
            reversed_feature = GradientReversal.apply(feature, scale)
            logits.append(
                [
                    self.classifier(j, n)(feature if j == n else reversed_feature)
                    for n in range(len(self.sizes))
                ]
            )
        return logits


class Memory(nn.Module):
    """Prototypes of all values, as the columns of one weight [N * d, J] (Eq. 6)."""

    def __init__(self, sizes: Sequence[int], feature_dim: int = 340) -> None:
        super().__init__()
        self.Memory = nn.Linear(sum(sizes), len(sizes) * feature_dim, bias=False)

    def forward(self, indicator: Tensor) -> Tensor:
        """Returns the change of the concatenated feature by an indicator [B, J], [B, N * d] (Eq. 7)."""
        return self.Memory(indicator)
