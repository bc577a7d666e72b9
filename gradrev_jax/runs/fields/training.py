"""Fields of the two stages of training."""

import math

from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.core.memory_losses import BLOCKS
from gradrev_jax.core.optimizers import SCHEDULES
from gradrev_jax.data.changes import KINDS
from gradrev_jax.runs.loggers.registry import LOGGERS
from gradrev_jax.systems.field import Field, Rule, any_of, at_least, one_of, some_of

TRAIN_FIELDS = {
    "batch_size": Field(default=128, meaning="Images per step.", rule=at_least(1), paper="Section 4.2"),
    "mirror": Field(
        default=True,
        meaning="Whether training images are mirrored left to right at random, in both stages.",
        paper="Section 4.2",
    ),
    "epochs": Field(
        default=25,
        meaning="Passes over the training part.",
        rule=at_least(1),
        paper="Section 4.2",
        resumable=True,
    ),
    "max_steps": Field(
        default=None,
        kind=int,
        meaning="Step that ends the stage early; 0: the encoder of the run stays as it is; unset: after all "
        "epochs. A cosine learning rate reaches 0 at this step; the ramp of `reversal.weighting=schedule` "
        "and `fsn.localization_share` count towards all epochs all the same.",
        rule=at_least(0),
        resumable=True,
    ),
    "learning_rate": Field(
        default=1e-4, meaning="Learning rate of Adam.", rule=at_least(0), paper="Section 4.2"
    ),
    "schedule": Field(
        default="step",
        meaning="Schedule of the learning rate: `step`, `cosine` (to 0) or `constant`.",
        rule=one_of(SCHEDULES),
        paper="Section 4.2",
    ),
    "decay_rate": Field(
        default=0.5,
        meaning="Factor of the learning rate at each decay of the step schedule.",
        rule=at_least(0),
        paper="Section 4.2",
    ),
    "decay_epochs": Field(
        default=10,
        meaning="Epochs between two decays of the step schedule.",
        rule=at_least(1),
        paper="Section 4.2",
    ),
    "warmup_steps": Field(
        default=0,
        meaning="Steps over which the learning rate first rises linearly from 0.",
        rule=at_least(0),
    ),
    "weight_decay": Field(
        default=0.0,
        meaning="Decoupled weight decay (AdamW) of the weights; biases have none.",
        rule=at_least(0),
    ),
    "clip_norm": Field(
        default=None,
        kind=float,
        meaning="Largest global norm of the gradient; unset: no clipping.",
        rule=Rule("above 0", lambda value: value > 0),
    ),
    "patience": Field(
        default=None,
        kind=int,
        meaning="Epochs without a better validation score that end a stage; unset: no early stopping.",
        rule=at_least(1),
        resumable=True,
    ),
    "classification_weight": Field(
        default=1.0, meaning="Weight w_cls of the classification loss.", rule=at_least(0), paper="Eq. 3"
    ),
    **{
        f"{name}_weight": Field(default=0.0, meaning=term.meaning, rule=at_least(0), earlier=0.0)
        for name, term in TERMS.items()
    },
    "decorrelate": Field(
        default=0.0,
        meaning="Largest weight of an image in an attribute's classification loss, where images are weighted "
        "as if the labels of different attributes were independent; the smallest is its inverse; 0: off.",
        rule=Rule("0 or at least 1", lambda value: value == 0 or 1 <= value < math.inf),
        earlier=0.0,
    ),
    "triplet_margin": Field(
        default=0.5, meaning="Margin of both triplet losses, in squared distance.", rule=at_least(0)
    ),
    "validation_fraction": Field(
        default=0.1,
        meaning="Fraction of the train split that is held out to choose the best checkpoint.",
    ),
    "log_every": Field(default=20, meaning="Steps between two records.", rule=at_least(1), resumable=True),
    "loggers": Field(
        default=("tensorboard",),
        meaning="Where records go besides `metrics.jsonl`: `tensorboard`, and with the extra of its name "
        "`wandb`, `trackio` or `mlflow`.",
        rule=any_of(LOGGERS),
        resumable=True,
        descriptive=False,
        earlier=("tensorboard",),
    ),
    "steps_per_call": Field(
        default=1,
        meaning="Steps compiled into one program; more than 1 pays where a step takes only milliseconds.",
        rule=at_least(1),
        resumable=True,
    ),
    "checkpoint_every": Field(
        default=0,
        meaning="Steps between two checkpoints besides those at the end of every epoch; 0: none.",
        rule=at_least(0),
        resumable=True,
    ),
}

MEMORY_FIELDS = {
    "triplets": Field(
        default=20000,
        meaning="Number of triplets, drawn from the training part, or the first of those that come with the "
        "catalogue.",
        rule=at_least(1),
    ),
    "kinds": Field(
        default=("swap", "add"),
        meaning="Kinds of changes that are drawn: `swap`, `add`, `remove` (a value without another).",
        rule=some_of(KINDS),
    ),
    "num_changes": Field(default=1, meaning="Number of attributes that change at once.", rule=at_least(1)),
    "batch_size": Field(default=64, meaning="Triplets per step.", rule=at_least(1), paper="Section 4.2"),
    "epochs": Field(default=2, meaning="Passes over the triplets.", rule=at_least(1), resumable=True),
    "max_steps": Field(
        default=None,
        kind=int,
        meaning="Step that ends the stage early; unset: after all epochs.",
        rule=at_least(1),
        resumable=True,
    ),
    "learning_rate": Field(default=1e-4, meaning="Learning rate of Adam.", rule=at_least(0)),
    "block": Field(
        default="soft",
        meaning="Entries of the memory outside the block of a value: `soft` penalises them, `hard` masks "
        "them.",
        rule=one_of(BLOCKS),
    ),
    "freeze_encoder": Field(default=False, meaning="Whether the memory alone is trained."),
    "reversal": Field(
        default=False,
        meaning="Whether the reversal loss stays on, with a balanced weight. L_cls of Eq. 5 is here one mean "
        "cross-entropy of the three images, while the loss has the sum of four: the share of the weighted "
        "reversal loss is about a quarter of `reversal.beta`.",
    ),
    "margin": Field(default=0.5, meaning="Margin of both triplet losses.", rule=at_least(0)),
}

MEMORY_WEIGHTS_FIELDS = {
    "classification": Field(
        default=0.2,
        meaning="Weight of the cross-entropies of the three images' features and the manipulated one.",
        rule=at_least(0),
    ),
    "semi_hard": Field(default=1.0, meaning="Weight of the semi-hard triplet loss.", rule=at_least(0)),
    "margin": Field(
        default=1.0,
        meaning="Weight of the triplet loss with the manipulated feature as anchor.",
        rule=at_least(0),
    ),
    "consistency": Field(
        default=1.0,
        meaning="Weight of the difference between features and what the memory composes of their labels.",
        rule=at_least(0),
    ),
    "off_block": Field(
        default=0.4, meaning="Weight of the memory's entries outside its blocks.", rule=at_least(0)
    ),
}
