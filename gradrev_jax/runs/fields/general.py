"""Fields of the whole run, of the model and of the reversal."""

import math

from gradrev_jax.core.losses import WEIGHTINGS
from gradrev_jax.core.removal import REMOVAL_TARGETS
from gradrev_jax.models.backbones import BACKBONES
from gradrev_jax.models.encoder import HEADS, REACHES
from gradrev_jax.systems.backbone import PRECISIONS
from gradrev_jax.systems.field import Field, Rule, at_least, number, one_of
from gradrev_jax.systems.objective import ENCODER, STAGES
from gradrev_jax.systems.registry import SYSTEMS

PARALLEL_MODES = ("pmap", "jit")


def _taps() -> str:
    """Returns the layers of every backbone that can be read, in words."""
    named = {name: ", ".join(f"`{tap}`" for tap in backbone.taps) for name, backbone in BACKBONES.items()}
    return "; ".join(f"{taps} of `{name}`" for name, taps in named.items())


RUN_FIELDS = {
    "seed": Field(
        default=0,
        meaning="Seed of the initial parameters, the batch order, flips, dropout and triplets; and of what "
        "is drawn of the catalogue, unless `data.seed` is set.",
        # JAX takes no larger seed.
        rule=Rule("at least 0 and below 2**63", lambda value: 0 <= value < 2**63),
        same_test=True,
    ),
    "precision": Field(
        default="float32",
        meaning="Floating-point type of the computation; parameters and losses are always float32.",
        rule=one_of(PRECISIONS),
    ),
    "parallel": Field(
        default="pmap",
        meaning="How several devices share a batch: `pmap`, or `jit` (shard_map over a mesh). The results "
        "are the same.",
        rule=one_of(PARALLEL_MODES),
        resumable=True,
    ),
    "devices": Field(
        default=0,
        meaning="Number of devices in use, of all that JAX finds in all processes; 0: all.",
        rule=at_least(0),
        resumable=True,
    ),
    "stages": Field(
        default=(ENCODER,),
        meaning="Stages in their order: `encoder` (stage 1), `memory` (stage 2: the prototypes are fine-"
        "tuned on triplets).",
        rule=Rule(
            f"{STAGES[:1]!r} or {STAGES!r}",
            lambda value: bool(value) and tuple(value) in (STAGES[:1], STAGES),
        ),
        resumable=True,
    ),
    "compilation_cache": Field(
        default=None,
        kind=str,
        meaning="Folder where compiled programs are kept for later starts, at most 512 MiB for each kind of "
        "machine; unset: $XDG_CACHE_HOME/gradrev_jax/programs or ~/.cache/gradrev_jax/programs, if JAX is "
        "0.10.2 or later; empty: none. JAX_COMPILATION_CACHE_DIR of the environment comes first.",
        resumable=True,
        descriptive=False,
        earlier=None,
    ),
}

MODEL_FIELDS = {
    "system": Field(
        default="gradrev",
        meaning="System: what is trained, and how it edits; "
        + ", ".join(f"`{name}`: {system.meaning}" for name, system in SYSTEMS.items())
        + ".",
        rule=one_of(SYSTEMS),
        earlier="gradrev",
    ),
    "backbone": Field(
        default="alexnet",
        meaning="Network from images to what the attribute MLPs read: `alexnet` (the paper's), "
        "`efficientnet_lite0`, or `embeddings`: none, the MLPs read the vectors of `data.embeddings`.",
        rule=one_of(BACKBONES),
        earlier="alexnet",
    ),
    "tap": Field(
        default=None,
        kind=str,
        meaning=f"Layer of the backbone that the attribute MLPs read: {_taps()}. Unset: the first of these; "
        "of AlexNet that is the paper's `Linear 1`. Of embeddings, `scaled` is centred and has one factor, "
        "`standardized` one for each number, `balanced` a tenth of that, `raw` none.",
        paper="Table 2",
    ),
    "heads": Field(
        default="shared",
        meaning="Classifiers: `shared` has N that read every feature, `pairwise` N x N, one per feature and "
        "attribute.",
        rule=one_of(HEADS),
        paper="Section 3.2",
    ),
    "feature_dim": Field(
        default=340, meaning="Width d of the feature of one attribute.", rule=at_least(1), paper="Table 2"
    ),
    "width": Field(
        default=1.0,
        meaning="Factor of the backbone's numbers of filters and units.",
        rule=Rule("above 0, at most 16", lambda value: 0 < value <= 16),
    ),
    "dropout": Field(
        default=0.5,
        meaning="Dropout rate before each fully connected layer of AlexNet; for other backbones, and frozen "
        "ones, that of what the attribute MLPs read.",
        rule=Rule("in [0, 1)", lambda value: 0 <= value < 1),
    ),
    "pretrained": Field(
        default=None,
        kind=str,
        meaning="Weights that the backbone starts from: `imagenet` (those that the extra `pretrained` "
        "installs), or a file: torchvision's AlexNet, or the PyTorch EfficientNet-Lite0; unset: random ones. "
        "Batch normalisation then keeps its statistics.",
    ),
    "freeze_backbone": Field(
        default=False,
        meaning="Whether the backbone stays as it is: it computes its features of every image once, they are "
        "cached, and training reads them.",
        earlier=False,
    ),
    "unit_features": Field(
        default=False,
        meaning="Whether features have length 1, and logits are their cosines with the classifiers' weights, "
        "times `logit_scale`, without a bias.",
        earlier=False,
    ),
    "logit_scale": Field(
        default=20.0,
        meaning="Logit of a cosine of 1, where `unit_features` is on.",
        rule=Rule("above 0", lambda value: value > 0 and math.isfinite(value)),
        earlier=20.0,
    ),
}

REVERSAL_FIELDS = {
    "weighting": Field(
        default="balanced",
        meaning="Rule for w_rev: `balanced` (Eq. 5), `fixed` at beta, `schedule` (Ganin's ramp from 0 to "
        "beta over all `train.epochs`, of which `train.max_steps` may cut off the end) or `off` (the "
        "ablation of Table 7).",
        rule=one_of(WEIGHTINGS),
        paper="Eq. 5",
    ),
    "beta": Field(
        default=0.1,
        meaning="Share of the reversal in the loss: the ratio of the weighted reversal loss to the weighted "
        "classification loss.",
        rule=at_least(0),
        paper="Eq. 5",
    ),
    "scale": Field(
        default=1.0, meaning="Factor lambda of the reversed gradient.", rule=number(), paper="Section 3.2"
    ),
    "strengths": Field(
        default=(),
        meaning="Factors of lambda per pathway, N rows of N numbers: one row per feature, one column per "
        "classifier; (): all 1.",
    ),
    "reach": Field(
        default="backbone",
        meaning="How far the reversed gradient goes: to the `backbone`, or only to the `mlp` of its "
        "attribute.",
        rule=one_of(REACHES),
    ),
    "adversaries": Field(
        default=0,
        meaning="Number of adversaries per feature, in place of the classifiers' reversal (not the paper's): "
        "small MLPs that read the feature's direction and its own label, with an optimizer of their own. "
        "w_rev, `fixed` or by `schedule`, then weighs what they still read; 0: none.",
        rule=at_least(0),
        earlier=0,
    ),
    "adversary_target": Field(
        default="clipped",
        meaning="The target of features against the adversaries. `clipped`: the true value is no more "
        "probable than the feature's own label makes it; `prior`: all probabilities are those that the own "
        "label gives.",
        rule=one_of(REMOVAL_TARGETS),
        earlier="clipped",
    ),
    "adversary_steps": Field(
        default=3,
        meaning="Steps of the adversaries per step of the encoder, on the same features.",
        rule=at_least(1),
        earlier=3,
    ),
    "adversary_rate": Field(
        default=10.0,
        meaning="Learning rate of the adversaries, as a multiple of the encoder's.",
        rule=at_least(0),
        earlier=10.0,
    ),
}
