import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.side_by_side import inputs, jax_side
from gradrev_jax.models.encoder import AttributeEncoder
from gradrev_jax.systems.encoder_loss import EncoderObjective
from gradrev_jax.systems.objective import StepContext

torch = pytest.importorskip("torch")
BATCH, WIDTH, DIM = 6, 10, 4


def test_both_sides_have_the_same_loss_and_gradient():
    from benchmarks.torch_reference import model, training

    schema = jax_side.schema_of(3)
    vectors, labels = inputs.random_vectors(BATCH, WIDTH), inputs.random_labels(BATCH, schema.sizes)
    encoder = AttributeEncoder(schema, feature_dim=DIM, backbone="embeddings", tap="raw", dropout=0.0)
    variables = jax_side.random_params(encoder, WIDTH)
    reference = model.AttributeEncoder(schema.sizes, feature_dim=DIM, vector=WIDTH, dropout=0.0)
    for name, tensor in reference.named_parameters():
        tensor.data = torch.from_numpy(np.array(part_of(variables["params"], name, schema)))

    def loss(params):
        seen = jnp.asarray(vectors), jnp.asarray(labels)
        given = {**variables, "params": params}
        return EncoderObjective().loss(encoder, given, *seen, StepContext(jax.random.key(0)))[0]

    value, gradients = jax.value_and_grad(loss)(variables["params"])
    expected = training.encoder_losses(reference, torch.from_numpy(vectors), torch.from_numpy(labels))
    expected["total"].backward()
    assert value == pytest.approx(float(expected["total"].detach()), rel=1e-5)
    for name, tensor in reference.named_parameters():
        found = part_of(gradients, name, schema)
        np.testing.assert_allclose(found, tensor.grad.numpy(), atol=1e-5 * np.abs(found).max(), err_msg=name)


def part_of(params, name, schema):
    """The part of our parameters that the reference calls by a name, as ``dis_proj.2.0.weight``."""
    module, n, layer, kind = name.split(".")
    if module == "dis_proj":
        part = params[{"0": "mlp_hidden", "2": "mlp_out"}[layer]]
        return part["kernel"][int(n)].T if kind == "weight" else part["bias"][int(n)]
    part = params["heads"]["kernel" if kind == "weight" else "bias"]
    return part[..., schema.offsets[int(n)] :][..., : schema.sizes[int(n)]].T
