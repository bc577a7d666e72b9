import jax
import jax.numpy as jnp
import numpy as np

from gradrev_jax.models.attribute_linear import AttributeLinear, he_normal_batched


def test_layers_of_one_input_and_of_one_each():
    """Of one input for all layers, and of as many that are equal; beside a loop in float64."""
    rng = np.random.default_rng(0)
    layer = AttributeLinear(3, 5, he_normal_batched)
    x = rng.normal(size=(4, 7)).astype(np.float32)
    params = layer.init(jax.random.key(0), jnp.asarray(x))
    kernel = np.asarray(params["params"]["kernel"], np.float64)
    expected = np.stack([x.astype(np.float64) @ kernel[n] for n in range(3)], axis=1)
    weight = rng.normal(size=expected.shape).astype(np.float32)

    def outputs_and_gradients(repeat):
        def weighted(params, x):
            outputs = layer.apply(params, jnp.stack([x] * 3, axis=1) if repeat else x)
            return (outputs * weight).sum(), outputs

        return jax.jit(jax.grad(weighted, (0, 1), has_aux=True))(params, jnp.asarray(x))

    for repeat in (False, True):
        (gradients, of_x), outputs = outputs_and_gradients(repeat)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(of_x, np.einsum("bnd,ncd->bc", weight, kernel), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            gradients["params"]["kernel"], np.einsum("bc,bnd->ncd", x, weight), rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(gradients["params"]["bias"], weight.sum(0), rtol=1e-5, atol=1e-5)
