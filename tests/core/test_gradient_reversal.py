import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradrev_jax.core.gradient_reversal import ganin_schedule, reverse_gradient


def cube(x):
    return (x**3).sum()


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0, -2.0])
def test_identity_forward_scaled_negative_gradient_backward(scale):
    x = jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_array_equal(reverse_gradient(x, scale), x)
    gradient = jax.grad(lambda x: cube(reverse_gradient(x, scale)))(x)
    np.testing.assert_allclose(gradient, -scale * jax.grad(cube)(x), rtol=1e-6)


def test_minus_one_is_no_reversal_and_zero_is_stop_gradient():
    x = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(jax.grad(lambda x: cube(reverse_gradient(x, -1.0)))(x), jax.grad(cube)(x))
    np.testing.assert_array_equal(
        jax.grad(lambda x: cube(reverse_gradient(x, 0.0)))(x),
        jax.grad(lambda x: cube(jax.lax.stop_gradient(x)))(x),
    )


def test_an_array_gives_each_element_its_own_scale():
    x, scale = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[0.5], [-2.0]])
    gradient = jax.grad(lambda x: cube(reverse_gradient(x, scale)))(x)
    np.testing.assert_allclose(gradient, -scale * 3 * x**2)
    with pytest.raises(ValueError, match=r"scale \(2, 2\) must broadcast to \(2,\)"):
        reverse_gradient(jnp.ones(2), jnp.ones((2, 2)))


def test_any_pytree_and_leaves_without_a_gradient():
    tree = {"a": jnp.ones(2), "b": (jnp.arange(3), jnp.array([True]), None), "c": 2.0}
    reversed_tree = reverse_gradient(tree)
    chex.assert_trees_all_equal(reversed_tree, tree)
    assert reversed_tree["b"][0].dtype == jnp.int32
    gradient = jax.grad(lambda t: cube(reverse_gradient({**tree, "a": t})["a"]))(tree["a"])
    np.testing.assert_array_equal(gradient, [-3.0, -3.0])


def test_traced_scale_does_not_recompile():
    traces = []

    @jax.jit
    def gradient(x, scale):
        traces.append(1)
        return jax.grad(lambda x: cube(reverse_gradient(x, scale)))(x)

    for scale in (0.5, 1.0, 3.0):
        np.testing.assert_allclose(gradient(jnp.array([2.0]), scale), [-12.0 * scale])
    assert len(traces) == 1


def test_the_scale_has_no_gradient():
    loss = lambda scale, x: cube(reverse_gradient(x, scale))  # noqa: E731
    assert jax.grad(loss)(0.7, jnp.array([2.0])) == 0
    # Nor does the gradient depend on it, when differentiated once more.
    first = lambda scale: jax.grad(loss, argnums=1)(scale, jnp.array([2.0])).sum()  # noqa: E731
    assert jax.grad(first)(0.7) == 0


def test_vmap_over_values_and_scales():
    gradient = jax.vmap(jax.grad(lambda x, scale: reverse_gradient(x, scale) ** 3))
    x, scale = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, -2.0])
    np.testing.assert_allclose(gradient(x, scale), -scale * 3 * x**2)


def test_gradient_of_the_gradient_passes_twice():
    h = lambda x: reverse_gradient(x, 0.5) ** 3  # noqa: E731
    x = 2.0
    assert jax.grad(h)(x) == pytest.approx(-0.5 * 3 * x**2)
    assert jax.grad(jax.grad(h))(x) == pytest.approx(0.5**2 * 6 * x)
    np.testing.assert_allclose(jax.jacrev(jax.jacrev(h))(x), 0.25 * 6 * x)


def test_forward_mode_is_refused():
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(reverse_gradient, (1.0,), (1.0,))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_keeps_the_dtype(dtype):
    x = jnp.array([1.0, 2.0], dtype)
    assert reverse_gradient(x).dtype == dtype
    gradient = jax.grad(lambda x: reverse_gradient(x, jnp.float32(0.5)).sum())(x)
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient.astype(jnp.float32), [-0.5, -0.5])


def test_under_pmap():
    x = jnp.arange(1.0, jax.local_device_count() + 1)
    gradient = jax.pmap(jax.grad(lambda x, scale: reverse_gradient(x, scale) ** 2), in_axes=(0, None))
    np.testing.assert_allclose(gradient(x, 0.5), -0.5 * 2 * x)


def test_against_finite_differences_of_the_negated_function():
    key = jax.random.key(0)
    x = jax.random.normal(key, (4,), jnp.float32)
    smooth = lambda x: jnp.sin(x).sum()  # noqa: E731
    gradient = jax.grad(lambda x: smooth(reverse_gradient(x, 2.0)))(x)
    step = 1e-2
    differences = [(smooth(x.at[i].add(step)) - smooth(x.at[i].add(-step))) / (2 * step) for i in range(4)]
    np.testing.assert_allclose(gradient, -2.0 * np.array(differences), rtol=1e-3)


def test_ganin_schedule_against_its_formula():
    progress = np.linspace(0, 1, 11)
    expected = 2 / (1 + np.exp(-10 * progress)) - 1
    np.testing.assert_allclose(ganin_schedule(jnp.asarray(progress, jnp.float32)), expected, atol=1e-6)
    assert ganin_schedule(1.0, gamma=1e4) == 1
    assert ganin_schedule(0.5, gamma=0.0) == 0


def test_importing_it_costs_neither_flax_nor_tensorflow():
    code = (
        "import sys; from gradrev_jax import reverse_gradient; "
        "print([name for name in ('flax', 'tensorflow', 'torch', 'orbax', 'ml_collections', 'absl', 'PIL')"
        " if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("extreme", [np.inf, -np.inf, np.nan])
def test_a_scale_of_zero_cuts_whatever_gradient_there_is(extreme):
    def loss(x, scale):
        return (reverse_gradient(x, scale) * jnp.array([extreme, 1.0])).sum()

    assert jax.grad(loss)(jnp.ones(2), 0.0).tolist() == [0, 0]
    assert jax.grad(loss)(jnp.ones(2), jnp.array([0.0, 2.0])).tolist() == [0, -2]
    np.testing.assert_array_equal(jax.grad(loss)(jnp.ones(2), 1.0), [-extreme, -1])
    second = jax.grad(lambda x: jax.grad(lambda x: reverse_gradient(x, 0.0) ** 3)(x))(2.0)
    assert second == 0


@pytest.mark.parametrize("shape", [(2,), (3, 3), (1, 2, 3)])
def test_a_scale_that_does_not_broadcast_is_named(shape):
    with pytest.raises(ValueError, match=r"scale .* must broadcast to \(2, 3\), the shape of x"):
        reverse_gradient(jnp.ones((2, 3)), jnp.ones(shape))


def test_the_schedule_keeps_the_dtype_where_numbers_have_64_bits():
    with jax.enable_x64(True):
        assert ganin_schedule(jnp.float32(0.5)).dtype == jnp.float32
        assert ganin_schedule(jnp.float64(0.5)).dtype == jnp.float64


def test_arrays_of_numpy_become_those_of_jax():
    assert isinstance(reverse_gradient(np.ones(2, np.float32)), jax.Array)


def test_each_of_several_scales_has_a_gradient_of_its_own():
    """Found by use: vmap added up the gradients of an x without the scales' axis before they were scaled."""
    x, weights, scales = jnp.ones(3), jnp.diag(jnp.array([1.0, 10.0, 100.0])), jnp.array([0.0, 1.0, 2.0])

    def loss(x, row, scale):
        return (row * reverse_gradient(x, scale)).sum()

    mapped = jax.grad(lambda x: jax.vmap(loss, (None, 0, 0))(x, weights, scales).sum())(x)
    one_by_one = sum(jax.grad(loss)(x, row, scale) for row, scale in zip(weights, scales, strict=True))
    np.testing.assert_array_equal(mapped, one_by_one)
    assert mapped.tolist() == [0, -10, -200]
    rows = jax.jacrev(lambda x: jax.vmap(lambda scale: reverse_gradient(x, scale).sum())(scales))(x)
    np.testing.assert_array_equal(rows, -scales[:, None] * jnp.ones((1, 3)))
