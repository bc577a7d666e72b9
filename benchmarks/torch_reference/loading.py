"""Loads photographs: a ``Dataset`` that decodes one image file per access, and its ``DataLoader``."""

import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.torch_reference.training import MEAN, STD


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """Training images prepared as in the paper: resized, mirrored at random, centre-cropped, normalised.

    Without ``normalize`` they stay uint8 [S, S, 3], so the workers transfer only a quarter of the bytes.

    Args:
      paths: the image files.
      labels: the value indices, [M, N]; -1 means not labelled.
      size: the height and width after the crop, in pixels.
      resize: the height and width before the crop, in pixels.
      normalize: whether images are scaled and normalised to float32 [3, S, S].
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
        self.labels = torch.from_numpy(labels.astype(np.int64))  # cross_entropy accepts no other integer type
        self.mean, self.std = (torch.tensor(part).view(3, 1, 1) for part in (MEAN, STD))

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Returns the image and the labels, int64 [N], of one row."""
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
    """Returns a loader of shuffled full batches, decoded by worker processes that persist across epochs."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
