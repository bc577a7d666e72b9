"""AMNet against a sketch of it in PyTorch with the same weights, where torch is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.attributes import AttributeSchema
from gradrev_jax.systems.amnet.edit import Memory, edit_features
from gradrev_jax.systems.amnet.losses import EditedObjective, EntangledObjective
from gradrev_jax.systems.amnet.model import EntangledEncoder
from gradrev_jax.systems.objective import ENCODER, MEMORY, MemoryTargets, StepContext
from tests.parity.comparing import relative_difference

SCHEMA = AttributeSchema(("color", "size", "kind"), (("blue", "red", "green"), ("s", "m"), ("x", "y")))
H, D, B = 24, 16, 12
MODEL = EntangledEncoder(SCHEMA, feature_dim=D, backbone="embeddings", tap="raw", dropout=0.0)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def given(rng):
    """Parameters of stage 2, vectors, labels and changes."""
    x = rng.normal(size=(3 * B, H)).astype(np.float32)
    variables = MODEL.init(jax.random.key(3), jnp.asarray(x[:1]))
    memory = Memory(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((7, D), (D, D), (D, D))))
    labels = np.stack([rng.integers(-1, size, (3, B)) for size in SCHEMA.sizes], axis=-1).astype(np.int32)
    changes = np.zeros((B, 7), np.int32)
    changes[np.arange(B), rng.integers(0, 3, B)] = 1
    changes[::3] *= -1  # a third are removals
    changes[1::3, 5:] = -1, 1
    return {ENCODER: variables, MEMORY: memory}, x, MemoryTargets(labels, changes)


def as_torch(torch, params):
    """The same parameters as a module's, in the layout of ``torch.nn.Linear``."""
    layers = torch.nn.ModuleDict(
        {
            "mlp_hidden": torch.nn.Linear(H, D),
            "mlp_out": torch.nn.Linear(D, D),
            "heads": torch.nn.Linear(D, 7),
        }
    )
    for name, layer in layers.items():
        there = params[ENCODER]["params"][name]
        layer.weight.data = torch.tensor(np.asarray(there["kernel"]).T)
        layer.bias.data = torch.tensor(np.asarray(there["bias"]))
    memory = [torch.tensor(np.asarray(part), requires_grad=True) for part in params[MEMORY]]
    return layers, memory


def torch_edit(torch, features, changes, memory):
    prototypes, keep, change = memory
    asked = torch.zeros(len(changes), 7)
    for row, indicator in zip(asked, changes, strict=True):
        for block in (slice(0, 3), slice(3, 5), slice(5, 7)):
            part = torch.tensor(indicator[block]).float()
            row[block] = part.clamp(min=0) if (part > 0).any() else part
    return torch.nn.functional.linear(features, keep.T) + (asked @ prototypes) @ change


def torch_cross_entropies(torch, logits, labels):
    blocks = torch.split(logits, (3, 2, 2), dim=1)
    return sum(
        torch.nn.functional.cross_entropy(block, torch.tensor(labels[:, n]).long(), ignore_index=-1)
        for n, block in enumerate(blocks)
    )


def torch_loss(torch, layers, memory, x, targets):
    features = layers["mlp_out"](torch.relu(layers["mlp_hidden"](torch.tensor(x))))
    reference, positive, negative = features.reshape(3, B, D)
    edited = torch_edit(torch, reference, targets.indicators, memory)
    labels = targets.labels
    read = ((reference, labels[0]), (positive, labels[1]), (negative, labels[2]), (edited, labels[1]))
    loss_cls = sum(torch_cross_entropies(torch, layers["heads"](f), y) for f, y in read)
    unit = [torch.nn.functional.normalize(f, dim=1) for f in (edited, positive, negative)]
    near, far = ((unit[0] - other).norm(dim=1) for other in unit[1:])
    margin = torch.clamp(near - far + 0.5, min=0).mean()
    return 0.2 * loss_cls + margin, loss_cls, margin, edited


def test_stage_2_has_the_losses_and_gradients_of_torch(torch, given):
    params, x, targets = given
    layers, memory = as_torch(torch, params)
    total, loss_cls, margin, edited = torch_loss(torch, layers, memory, x, targets)
    total.backward()

    def loss(params):
        return EditedObjective().loss(MODEL, params, jnp.asarray(x), targets, StepContext(jax.random.key(0)))

    (found, parts), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    expected = [float(part.detach()) for part in (total, loss_cls, margin)]
    np.testing.assert_allclose([found, *parts.metrics[1:]], expected, rtol=1e-5)
    features = MODEL.apply(params[ENCODER], jnp.asarray(x[:B])).features
    ours = edit_features(features, jnp.asarray(targets.indicators), params[MEMORY], SCHEMA)[:, 0]
    assert relative_difference(np.asarray(ours), edited.detach().numpy()) < 1e-5
    for name, layer in layers.items():
        there = gradient[ENCODER]["params"][name]
        assert relative_difference(np.asarray(there["kernel"]), layer.weight.grad.numpy().T) < 1e-4
        assert relative_difference(np.asarray(there["bias"]), layer.bias.grad.numpy()) < 1e-4
    for part, there in zip(gradient[MEMORY], memory, strict=True):
        assert relative_difference(np.asarray(part), there.grad.numpy()) < 1e-4


def test_stage_1_has_the_loss_and_gradients_of_torch(torch, given):
    params, x, targets = given
    layers, _ = as_torch(torch, params)
    labels = targets.labels[0]
    logits = layers["heads"](layers["mlp_out"](torch.relu(layers["mlp_hidden"](torch.tensor(x[:B])))))
    expected = torch_cross_entropies(torch, logits, labels)
    expected.backward()

    def loss(variables):
        context = StepContext(jax.random.key(0))
        return EntangledObjective().loss(MODEL, variables, jnp.asarray(x[:B]), jnp.asarray(labels), context)[
            0
        ]

    found, gradient = jax.value_and_grad(loss)(params[ENCODER])
    np.testing.assert_allclose(found, float(expected.detach()), rtol=1e-5)
    for name, layer in layers.items():
        there = gradient["params"][name]["kernel"]
        assert relative_difference(np.asarray(there), layer.weight.grad.numpy().T) < 1e-4
