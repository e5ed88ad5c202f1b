"""Operations made of others, constants out of range, and small pieces of the public surface, against JAX."""

import both_libraries
import jax
import numpy as np
import pytest

import velax
import velax.numpy as jnp

A = np.arange(6, dtype=np.float32).reshape(2, 3)
X = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6], np.float32)
case = both_libraries.Cases()


@case
def stacks_and_tiles(lib):
    a, lax = lib.numpy.asarray(A), lib.lax
    stacked = [lax.stack([a, a + 1], axis) for axis in (0, 2, -1)]
    tiled = [lax.tile(a, reps) for reps in ((2, 1), (1, 3), (0, 2))]
    return stacked, [lax.unstack(a, axis) for axis in (0, 1, -1)], tiled, lax.stack([1, 2]), lax.empty((2, 3), "int8")


@case
def broadcasts(lib):
    a, lax, np_ = lib.numpy.asarray(A), lib.lax, lib.numpy
    like = [lax.broadcast_like(x, a) for x in (2, np_.arange(3), np_.arange(2)[:, None])]
    return like, lax.broadcast_to_rank(np_.arange(3), 3), lax.broadcast_to_rank(a, 1)


@case
def largest_and_smallest(lib):
    a, x, lax = lib.numpy.asarray(A), lib.numpy.asarray(X), lib.lax
    found = [lax.approx_max_k(x, 3), lax.approx_min_k(x, 3), lax.approx_max_k(a, 2, reduction_dimension=0)]
    mapped = lib.vmap(lambda row: lax.approx_min_k(row, 2))(a)
    return (
        found,
        mapped,
        lax.approx_max_k(x, 3, aggregate_to_topk=False),
        lib.grad(lambda x: lax.approx_max_k(x, 2)[0].sum())(x),
    )


@case
def derivatives_of_sinc_at_zero(lib):
    f, found = lib.numpy.sinc, []
    for _ in range(5):
        f = lib.grad(f)
        found += [f(0.0), f(0.5)]
    return found, lib.jacfwd(lib.numpy.sinc)(lib.numpy.asarray(A)), lib.numpy.sinc(0j)


@case
def weak_types_of_prefixes(lib):
    scan = lambda n: lib.lax.associative_scan(lib.numpy.add, lib.numpy.full(n, 0.9), reverse=True)
    return [scan(n) for n in (0, 1, 2, 5)]


@case
def parts_of_references_by_name(lib):
    r = lib.new_ref(lib.numpy.arange(3))
    lib.ref.addupdate(r, idx=0, x=5)
    lib.ref.set(r, idx=1, value=7)
    r.addupdate(3, idx=2)
    return lib.ref.swap(r, idx=0, value=1), lib.ref.get(r, idx=slice(0, 2)), r[...]


@case
def transposes_are_pytrees(lib):
    scale = lib.numpy.asarray(A)
    transposed = lib.linear_transpose(lambda x: scale * x, scale)
    return lib.jit(lambda f, ct: f(ct))(transposed, scale)


@pytest.mark.parametrize("name", case.names())
def test_agrees_with_jax(name):
    case.check(name)


@pytest.mark.parametrize("padding", ["SAME", "VALID", "same_lower"])
def test_named_padding(padding):
    sizes = ((10, 8), (3, 3), (2, 1))
    assert velax.lax.padtype_to_pads(*sizes, padding) == jax.lax.padtype_to_pads(*sizes, padding)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda lax: lax.stack([]), ValueError, "at least one array"),
        (lambda lax: lax.stack([A, A[:1]]), ValueError, "must have the same shape"),
        (lambda lax: lax.stack([A, A.astype(np.int32)]), TypeError, "same dtypes"),
        (lambda lax: lax.unstack(A, 2), ValueError, "axis 2 is out of bounds for array of dimension 2"),
        (lambda lax: lax.tile(A, (2,)), TypeError, r"len\(reps\)=1 and x.ndim=2"),
        (lambda lax: lax.tile(A, (-1, 1)), ValueError, "must not be negative"),
        (lambda lax: lax.approx_max_k(X, 9), ValueError, "size of reduction_dim 6, got 9"),
        (lambda lax: lax.approx_min_k(A.astype(np.int32), 1), ValueError, "must be a floating type"),
        (lambda lax: lax.padtype_to_pads((3,), (1,), (1,), "x"), RuntimeError, "Unrecognized padding type"),
        (lambda lax: jnp.polyadd(A, X), ValueError, r"with equal further axes, got shapes \(2, 3\) and \(6,\)"),
        (lambda lax: lax.reduce_sum(A, (0,), out_sharding=1), NotImplementedError, "out_sharding"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(velax.lax)


@pytest.mark.parametrize("dtype", ["int8", "uint32", "float16", "float32", "complex64"])
def test_numbers_that_the_default_integer_does_not_hold_are_refused_while_tracing_too(dtype):
    for f in (
        lambda x: x + 2**33, lambda x: -(2**31) - 1 - x, lambda x: x == 2**33, lambda x: x.at[0].set(2**33),
        lambda x: jnp.where(x, x, 2**33), lambda x: velax.lax.add(x, 2**33), lambda x: x / 2**33,
    ):  # fmt: skip
        for call in (velax.jit(f), f, velax.vmap(lambda x, f=f: f(x[None]))):
            with pytest.raises(OverflowError, match="too large to convert to"):
                call(jnp.ones(2, dtype))


def test_shapes_and_dtypes_of_values():
    for x in (A, 1.5, True, np.int8(3), velax.ShapeDtypeStruct((2,), "int8")):
        ours, theirs = (
            velax.ShapeDtypeStruct.like(x),
            jax.ShapeDtypeStruct.like(
                jax.ShapeDtypeStruct((2,), "int8") if isinstance(x, velax.ShapeDtypeStruct) else x
            ),
        )
        assert repr(ours) == repr(theirs)
    assert (
        repr(velax.ShapeDtypeStruct.like(jnp.asarray(1))) == "ShapeDtypeStruct(shape=(), dtype=int32, weak_type=True)"
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
        velax.ShapeDtypeStruct((2,), "int8", foo=1)


def test_functions_take_no_arguments_that_jax_s_do_not():
    for call in (
        lambda lib: lib.make_jaxpr(lambda x: x, abstracted_axes=None),
        lambda lib: lib.pmap(lambda x: x, global_arg_shapes=None),
        lambda lib: lib.lax.reduce_max(A, (0,), out_sharding=None),
        lambda lib: lib.random.binomial(lib.random.key(0), 2, 0.5, out_sharding=None),
        lambda lib: lib.numpy.empty_like(A, out_sharding=None),
    ):
        for lib in both_libraries.LIBRARIES:
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                call(lib)
