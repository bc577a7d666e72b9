"""Defines the cases to measure, and the variants of both sides that are measured on them."""

import dataclasses
from typing import Any

# The side of each variant, and the options that it adds.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradrev_jax": ("jax", {}),
    "gradrev_jax bfloat16": ("jax", {"precision": "bfloat16"}),
    "torch": ("torch", {}),
    "torch channels_last": ("torch", {"channels_last": True}),
    "torch compile": ("torch", {"compile": True}),
    "torch compile channels_last autocast": (
        "torch",
        {"compile": True, "channels_last": True, "autocast": True},
    ),
}
NUM_VALUES = 151  # J of Shopping100k; it stays the same when the number of attributes changes
SHOPPING100K = {"gallery": 20_000, "references": 1_581, "queries": 14_361, "dim": 340, "deepest": 50}
ATTRIBUTES = (3, 6, 12, 24, 48)
BATCHES = (32, 64, 128)
IMAGE_SIZES = (96, 224)
EMBEDDING_STEPS = 10  # steps per turn, for the same reason as below
GPU_BATCHES = (64, 128, 256)
GPU_STEPS = 20  # steps per turn: a step takes milliseconds, and training does not wait for single steps
MIXED = ("gradrev_jax bfloat16", "torch compile channels_last autocast")


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
      kind: the name of the function on each side: train_step, embedding_step, inference, efficientnet_lite0,
        prototypes, evaluation or loading.
      sizes: the sizes by name, such as ``batch`` and ``image`` (the height and width in pixels).
      variants: the names of the variants to measure.
      repeats: the number of measurements per variant.
      unit: the unit that is counted per second.
      warm_up: the number of runs after the first one and before the measurements.
      options: the arguments of both sides' functions in addition to the sizes.
    """

    kind: str
    sizes: dict[str, Any]
    variants: tuple[str, ...]
    repeats: int
    unit: str = "images"
    warm_up: int = 2
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Returns the kind and the sizes in words."""
        return " ".join([self.kind, *(f"{name} {size}" for name, size in self.sizes.items())])


def plan(device: str, *, repeats: int, photographs: bool) -> list[Case]:
    """Returns all cases for a device, ``cpu`` or ``cuda``."""
    on_gpu = device == "cuda"
    plain: tuple[str, ...] = ("gradrev_jax", "torch", "torch channels_last")
    compiled: tuple[str, ...] = (*plain, "torch compile")
    if on_gpu:
        plain, compiled = (*compiled, *MIXED), (*compiled, *MIXED)
    options = {"steps": GPU_STEPS} if on_gpu else {}
    # Compiling the reference takes minutes on a CPU, and far longer with many attributes, so it is compiled
    # only once per image size.
    cases = [
        Case(
            "train_step",
            {"image": image, "batch": batch, "attributes": 12},
            compiled if batch == 64 else plain,
            repeats,
            options=options,
        )
        for image in IMAGE_SIZES
        for batch in BATCHES
    ]
    cases += [
        Case(
            "train_step",
            {"image": 224, "batch": 64, "attributes": n},
            ("gradrev_jax", "torch"),
            repeats,
            options=options,
        )
        for n in ATTRIBUTES
        if n != 12
    ]
    cases.append(
        Case(
            "embedding_step",
            {"vector": 1280, "batch": 128, "attributes": 12},  # the vectors of EfficientNet-Lite0
            ("gradrev_jax", "torch", "torch compile"),
            repeats,
            options={"steps": GPU_STEPS if on_gpu else EMBEDDING_STEPS},
        )
    )
    cases += [
        Case("inference", {"image": image, "batch": 128}, plain, repeats, options=options)
        for image in IMAGE_SIZES
    ]
    cases += [
        Case("efficientnet_lite0", {"image": image, "batch": batch}, plain, repeats, options=options)
        for image, batch in ((96, 32), (224, 8), (224, 32))
    ]
    both = ("gradrev_jax", "torch")
    cases += [
        Case("prototypes", {"image": image, "images": 512, "draws": 100}, both, repeats, "prototype members")
        for image in IMAGE_SIZES
    ]
    cases.append(Case("evaluation", SHOPPING100K, both, min(repeats, 3), "queries", warm_up=0))
    if photographs:  # no warm-up, because the first run is already a whole epoch
        cases += [
            Case("loading", {"image": 224, "batch": 64, "dtype": dtype}, both, min(repeats, 3), warm_up=0)
            for dtype in ("uint8", "float32")
        ]
    return cases


def quick_plan(*, repeats: int) -> list[Case]:
    """Returns the cases for a few minutes on a GPU: the paper's sizes, and few compiled variants."""
    eager = ("gradrev_jax", "gradrev_jax bfloat16", "torch", "torch channels_last")
    compiled = MIXED[1:]
    options = {"steps": GPU_STEPS}
    steps = [
        Case(
            "train_step",
            {"image": 224, "batch": batch, "attributes": 12},
            (*eager, "torch compile", *compiled) if batch == GPU_BATCHES[0] else (*eager, *compiled),
            repeats,
            options=options,
        )
        for batch in GPU_BATCHES
    ]
    inference = {"image": 224, "batch": 128}
    return [*steps, Case("inference", inference, (*eager, *compiled), repeats, options=options)]


def tiny(photographs: bool) -> list[Case]:
    """Returns every kind at a size that takes seconds, which shows whether it works, not how fast it is."""
    small = {"width": 1 / 32, "dim": 4}
    both = ("gradrev_jax", "torch")
    retrieval = {"gallery": 200, "references": 10, "queries": 40, "dim": 4, "deepest": 5}
    cases = [
        Case("train_step", {"image": 64, "batch": 4, "attributes": 3, **small}, both, 2),
        Case("embedding_step", {"vector": 32, "batch": 4, "attributes": 3, "dim": small["dim"]}, both, 2),
        Case("inference", {"image": 64, "batch": 4, **small}, both, 2),
        Case("efficientnet_lite0", {"image": 32, "batch": 2}, both, 2),
        Case("prototypes", {"image": 64, "images": 160, "draws": 2, **small}, both, 2, "prototype members"),
        Case("evaluation", retrieval, both, 2, "queries"),
    ]
    return (
        [*cases, Case("loading", {"image": 64, "batch": 4, "dtype": "float32"}, both, 2)]
        if photographs
        else cases
    )


def attribute_sizes(num_attributes: int) -> tuple[int, ...]:
    """Returns numbers of values that are as equal as possible and add up to ``NUM_VALUES``.

    Example:
      >>> attribute_sizes(4)
      (38, 38, 38, 37)
    """
    whole, rest = divmod(NUM_VALUES, num_attributes)
    return tuple(whole + (n < rest) for n in range(num_attributes))
