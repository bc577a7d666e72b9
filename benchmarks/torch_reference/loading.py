"""Photographs from their files: a ``Dataset`` that decodes one when it is asked for, and a ``DataLoader``."""

import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.torch_reference.training import MEAN, STD


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """Training images as the paper has them: resized, mirrored at random, centre-cropped, normalised.

    Without ``normalize`` they stay uint8 [S, S, 3], a quarter of the bytes for the workers to hand over.

    Args:
      paths: image files.
      labels: [M, N], -1 = not labelled.
      size: pixels a side after the crop.
      resize: pixels a side before it.
      normalize: whether images are scaled and normalised, float32 [3, S, S].
    """

    def __init__(
        self,
        paths: Sequence[pathlib.Path],
        labels: np.ndarray,
        size: int = 224,
        resize: int = 256,
        *,
        normalize: bool = True,
    ) -> None:
        self.paths, self.size, self.resize, self.normalize = paths, size, resize, normalize
        self.labels = torch.from_numpy(labels.astype(np.int64))  # cross_entropy takes no other integers
        self.mean, self.std = (torch.tensor(part).view(3, 1, 1) for part in (MEAN, STD))

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Image and labels, int64 [N], of a row."""
        with Image.open(self.paths[row]) as image:
            resized = image.convert("RGB").resize((self.resize, self.resize), Image.Resampling.BILINEAR)
        if torch.rand(()) < 0.5:
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        margin = (self.resize - self.size) // 2
        cropped = resized.crop((margin, margin, margin + self.size, margin + self.size))
        pixels = torch.from_numpy(np.array(cropped))
        if self.normalize:
            pixels = (pixels.permute(2, 0, 1).float() / 255 - self.mean) / self.std
        return pixels, self.labels[row]


def loader(dataset: Photographs, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Shuffled full batches, decoded by worker processes that stay for the next epoch."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
