"""The JAX side of a case, through what training calls itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.core.loss_terms import TERMS
from gradrev_jax.core.optimizers import make_optimizer
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.models.inputs import normalize_images
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.objective import ENCODER, MEMORY
from gradrev_jax.training.encoder_step import make_train_step
from gradrev_jax.training.memory_step import make_memory_step
from gradrev_jax.training.update import TrainState
from gradrev_jax.weights.adde import (
    encoder_from_torch,
    encoder_to_torch,
    memory_from_torch,
    memory_to_torch,
)
from tests.parity.cases import LEARNING_RATE, STEPS, Batch, Case, Result, Retrieval


def make_schema(sizes: tuple[int, ...]) -> AttributeSchema:
    """Attributes of these sizes."""
    values = tuple(tuple(f"v{v}" for v in range(size)) for size in sizes)
    return AttributeSchema(tuple(f"a{n}" for n in range(len(sizes))), values)


def run(case: Case, weights: dict[str, np.ndarray], batch: Batch) -> Result:
    """Features, terms and gradients with these weights, and what they are after 20 steps of Adam.

    All but the features is what the training steps give, so that a case is compiled once.
    """
    schema = make_schema(case.sizes)
    encoder = AttributeEncoder(schema, case.feature_dim, case.heads, case.tap, case.width, dropout=0.0)
    images = batch.images.reshape(-1, *batch.images.shape[2:])
    inputs = normalize_images(images)
    of_encoder, of_memory = dict(weights), {}
    if case.stage == 2:
        of_memory["Memory.weight"] = of_encoder.pop("Memory.weight")
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), inputs)
    params = encoder_from_torch(shapes, of_encoder, schema)
    features = jax.jit(lambda params, inputs: encoder.apply(params, inputs).features)(params, inputs)

    optimizer = optax.chain(keep_gradients(), make_optimizer(optax.constant_schedule(LEARNING_RATE)))
    if case.stage == 1:
        objective = objective_of(case)
        step = make_train_step(encoder, optimizer, objective, seed=0, total_steps=STEPS, mirror=False)
        arguments = (images, batch.labels.reshape(-1, schema.num_attributes))
    else:
        params = {ENCODER: params, MEMORY: memory_from_torch(of_memory, schema, case.feature_dim)}
        step = make_memory_step(encoder, optimizer, seed=0, total_steps=STEPS, mirror=False)
        arguments = tuple(batch)

    def to_torch(tree):
        if case.stage == 1:
            return encoder_to_torch(tree, schema)
        return encoder_to_torch(tree[ENCODER], schema) | memory_to_torch(tree[MEMORY])

    state, metrics = step(TrainState.begin(params, optimizer), *arguments)
    gradients = to_torch(state.opt_state[0])
    for _ in range(case.steps - 1):
        state, _ = step(state, *arguments)
    terms = metrics._asdict()
    terms |= {f"loss_{name}": term for name, term in terms.pop("terms", {}).items()}
    terms = {name: np.asarray(term) for name, term in terms.items()}
    terms["total"] = terms.pop("loss")
    return Result(np.asarray(features), terms, gradients, to_torch(state.params))


def objective_of(case: Case) -> EncoderObjective:
    """The reference's options as an objective."""
    settings = dict(case.options)
    settings["weighting"] = "balanced" if settings.pop("reversal", True) else "off"
    settings["reversal_scale"] = settings.pop("scale", 1.0)
    weights = {name: settings.pop(f"{name}_weight", 0.0) for name in TERMS}
    return EncoderObjective(term_weights=weights, **settings)


def keep_gradients() -> optax.GradientTransformation:
    """Hands gradients on as they are; its state is the last ones."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda gradients, state, params=None: (gradients, gradients),
    )


def retrieval_inputs(queries: Retrieval, schema: AttributeSchema) -> tuple[np.ndarray, jax.Array]:
    """The gallery [G, N, d] and the memory [J, N, d]."""
    gallery = queries.gallery.reshape(len(queries.gallery), schema.num_attributes, -1)
    return gallery, memory_from_torch({"Memory.weight": queries.weight}, schema, gallery.shape[-1])
