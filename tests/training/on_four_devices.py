"""Ten steps on one device and on four, in a process of its own: how far the parameters come apart.

In float64, because Adam turns rounding errors of gradients that are nearly 0 into whole steps.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.conditional_dependence import expected_labels
from gradrev_jax.core.decorrelation import decorrelation
from gradrev_jax.core.label_counts import conditionals, count_pairs
from gradrev_jax.models.adversaries import Adversaries
from gradrev_jax.models.backbones import BACKBONES, Backbone
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import PixelInputs
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.fsn.losses import LocalizedObjective
from gradrev_jax.systems.fsn.model import FashionSearchNet
from gradrev_jax.systems.memory_loss import MemoryObjective
from gradrev_jax.systems.objective import MemoryTargets
from gradrev_jax.training.adversarial_step import AdversarialTraining, make_adversarial_update
from gradrev_jax.training.encoder_step import init_state
from gradrev_jax.training.parallel import Parallel
from gradrev_jax.training.update import TrainState, make_update
from tests.small_backbone import LeftColour, NormedColour

SCHEMA = AttributeSchema(("color", "size"), (("blue", "green", "red"), ("s", "m")))
ENCODER = AttributeEncoder(SCHEMA, feature_dim=3, width=1 / 64, dtype=jnp.float64)
# Of a feature with a single live unit, which features of width 3 may have, the length does not matter.
UNIT = AttributeEncoder(SCHEMA, feature_dim=12, backbone="small", dtype=jnp.float64, unit_features=True)
LOCALIZED = FashionSearchNet(SCHEMA, feature_dim=3, width=1 / 64, dtype=jnp.float64)
NORMED = AttributeEncoder(SCHEMA, feature_dim=3, backbone="normed", dtype=jnp.float64)
STEPS = 10
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
LABELS = np.stack([RNG.integers(-1, size, 24) for size in SCHEMA.sizes], axis=1).astype(np.int32)
OPTIMIZER = optax.adam(1e-3)


def rows(step, size):
    return np.random.default_rng(step).permutation(len(PIXELS))[:size]


TRIPLETS = EncoderObjective(term_weights={"attribute_triplet": 0.2, "label_triplet": 1.0})
CORRELATED = np.repeat([[0, 0], [0, 1], [1, 1], [2, 0]], [90, 10, 60, 40], axis=0)
VARIANTS = EncoderObjective(
    term_weights={"compactness": 1.0, "conditional_dependence": 3.0},
    expected=expected_labels(CORRELATED, SCHEMA),
    decorrelation=decorrelation(CORRELATED, SCHEMA),
)


def encoder_stage(size, encoder=ENCODER, objective=TRIPLETS):
    update = make_update(
        encoder,
        OPTIMIZER,
        objective,
        seed=0,
        total_steps=STEPS,
    )
    params = init_state(encoder, OPTIMIZER, input_size=64, seed=0).params
    return update, params, size, lambda drawn: LABELS[drawn]


def memory_stage(size, encoder=ENCODER):
    update = make_update(encoder, OPTIMIZER, MemoryObjective(reversal=True), seed=0, total_steps=STEPS)
    params = init_state(encoder, OPTIMIZER, input_size=64, seed=0).params
    memory = np.random.default_rng(1).normal(size=(5, 2, 3))

    def targets(drawn):
        labels = LABELS[drawn].reshape(3, size, 2)
        indicators = np.asarray(SCHEMA.one_hot(labels[1]) - SCHEMA.one_hot(labels[0])).astype(np.int32)
        return MemoryTargets(labels, indicators)

    return update, {"encoder": params, "memory": memory}, 3 * size, targets


def as_double(leaf):
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def trained(stage, size, parallel, at_once, on_device=False):
    update, params, images, targets, *adversarial = stage(size)
    state = TrainState.begin(jax.tree.map(jnp.asarray, params), OPTIMIZER)
    for each in adversarial:
        state = each.begin(state, feature_dim=3, seed=0)
    state = parallel.replicate(jax.tree.map(as_double, state))
    resident = parallel.replicate(PIXELS) if on_device else None
    steps = parallel.compile(update, size=images, resident_inputs=resident)
    for start in range(0, STEPS, at_once):
        drawn = np.stack([rows(step, images) for step in range(start, start + at_once)])
        own = parallel.own_rows(drawn)
        inputs = parallel.place(own if on_device else PIXELS[own])
        state, taken = steps(
            state, inputs, jax.tree.map(lambda *leaves: np.stack(leaves), *map(targets, drawn))
        )
    return jax.device_get(((state.params, state.adversaries), taken.metrics))


def adversarial_stage(size, encoder=ENCODER):
    """Stage 1 against adversaries, whose state comes from the last of what this returns."""
    training = AdversarialTraining(
        Adversaries(SCHEMA, copies=2, hidden=8), conditionals(count_pairs(LABELS, SCHEMA), SCHEMA), OPTIMIZER
    )
    objective = EncoderObjective(weighting="fixed", beta=3.0)
    update = make_adversarial_update(training, encoder, OPTIMIZER, objective, seed=0, total_steps=STEPS)
    params = init_state(encoder, OPTIMIZER, input_size=64, seed=0).params
    return update, params, size, lambda drawn: LABELS[drawn], training


STAGES = {
    "encoder": encoder_stage,
    "adversarial encoder": adversarial_stage,
    "memory": memory_stage,
    "normed encoder": functools.partial(encoder_stage, encoder=NORMED),
    "variants": functools.partial(encoder_stage, encoder=UNIT, objective=VARIANTS),
    "localized encoder": functools.partial(
        encoder_stage,
        encoder=LOCALIZED,
        objective=LocalizedObjective(term_weights=TRIPLETS.term_weights, localization_share=0.3),
    ),
    "normed memory": functools.partial(memory_stage, encoder=NORMED),
}


def main(cases):
    """Print a line of JSON for each case, (stage, size of a batch, mode, steps at once, on the device)."""
    BACKBONES["small"] = Backbone(LeftColour, inputs=PixelInputs(4), taps=("fc6_relu",))
    BACKBONES["normed"] = Backbone(NormedColour, inputs=PixelInputs(8), taps=("pooled",))
    alone = {}
    for name, size, mode, at_once, on_device in cases:
        stage = STAGES[name]
        if (name, size) not in alone:
            alone[name, size] = trained(stage, size, Parallel.over(1, batch=size), 1)
        spread = Parallel.over(batch=size * (3 if "memory" in name else 1), mode=mode)
        together = trained(stage, size, spread, at_once, on_device)
        apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), alone[name, size], together)
        params, metrics = (max(map(float, jax.tree.leaves(part))) for part in apart)
        line = {"params": params, "metrics": metrics, "devices": len(spread.devices), "mode": spread.mode}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
