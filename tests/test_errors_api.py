"""Errors of the public functions: the class and leading words of JAX's, and what Velax's add for the reader."""

import functools
import inspect
import pickle
import traceback

import jax
import numpy as np
import pytest
from both_libraries import LIBRARIES, both_raise

import velax

A3, A4, M = np.ones(3, np.float32), np.ones(4, np.float32), np.ones((2, 3), np.float32)
I = np.array([1, 2], np.int32)


#: name -> (program, class, words of JAX's message that must be there, words that Velax's must contain besides)
ERRORS = {
    # shapes
    "add shapes": (lambda lib: lib.numpy.add(A3, A4), "TypeError", "add got incompatible shapes for broadcasting: (3,), (4,).", ()),
    "operator shapes": (lambda lib: lib.numpy.asarray(A3) * A4, "TypeError", "mul got incompatible shapes for broadcasting: (3,), (4,).", ()),
    "ranks": (lambda lib: lib.numpy.ones((2, 3)) + lib.numpy.ones((3, 2, 4)), "ValueError", "Incompatible shapes for broadcasting: shapes=[(2, 3), (3, 2, 4)]", ("in add", "x[:, None]")),
    "lax ranks": (lambda lib: lib.lax.add(M, A3), "TypeError", "add: arrays must have the same number of dimensions", ("(2, 3)", "(3,)", "broadcast_in_dim")),
    "matmul": (lambda lib: lib.numpy.asarray(M) @ A4, "TypeError", "dot_general requires contracting dimensions to have the same shape, got (3,) and (4,).", ()),
    "matmul scalar": (lambda lib: lib.numpy.matmul(1.0, A3), "ValueError", "matmul input operand 0 must have ndim at least 1, but it has ndim 0", ()),
    "reshape": (lambda lib: lib.numpy.reshape(lib.numpy.asarray(A3), (2, 2)), "TypeError", "cannot reshape array of shape (3,) (size 3) into shape (2, 2) (size 4)", ()),
    "reshape method": (lambda lib: lib.numpy.asarray(A3).reshape(2, 2), "TypeError", "cannot reshape array of shape (3,) (size 3) into shape (2, 2) (size 4)", ()),
    "concatenate shapes": (
        lambda lib: lib.numpy.concatenate([M, M.T]), "TypeError",
        "Cannot concatenate arrays with shapes that differ in dimensions other than the one being concatenated", ("(2, 3)", "(3, 2)"),
    ),
    "concatenate ranks": (lambda lib: lib.numpy.concatenate([M, A3]), "TypeError", "Cannot concatenate arrays with different numbers of dimensions: got (2, 3), (3,).", ()),
    "concatenate nothing": (lambda lib: lib.numpy.concatenate([]), "ValueError", "Need at least one array to concatenate.", ()),
    "stack": (lambda lib: lib.numpy.stack([A3, A4]), "ValueError", "All input arrays must have the same shape", ("(3,), (4,)",)),
    "broadcast_to": (lambda lib: lib.numpy.broadcast_to(A3, (2, 4)), "ValueError", "Incompatible types for broadcasting: input type=float32[3] and requested type=float32[2,4]", ()),
    "squeeze": (lambda lib: lib.numpy.squeeze(M, 0), "ValueError", "cannot select an axis to squeeze out which has size not equal to one", ("(2, 3)",)),
    "split": (lambda lib: lib.numpy.split(A3, 2), "ValueError", "array split does not result in an equal division", ()),
    "iteration over a scalar": (lambda lib: list(lib.numpy.asarray(1.0)), "TypeError", "iteration over a 0-d array", ()),
    "len of a scalar": (lambda lib: len(lib.numpy.asarray(1.0)), "TypeError", "len() of unsized object", ()),
    "truth of an array": (
        lambda lib: bool(lib.numpy.asarray(A3)), "ValueError", "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()", (),
    ),
    "float of an array": (lambda lib: float(lib.numpy.asarray(A3)), "TypeError", "Only scalar arrays can be converted to Python scalars", ()),
    "float index": (lambda lib: range(lib.numpy.asarray(1.0)), "TypeError", "nly integer scalar arrays can be converted to a scalar index", ()),
    # dtypes
    "lax dtypes": (lambda lib: lib.lax.add(A3, np.ones(3, np.int32)), "TypeError", "lax.add requires arguments to have the same dtypes, got float32, int32.", ()),
    "bitwise of floats": (lambda lib: lib.numpy.bitwise_and(A3, A3), "TypeError", "and does not accept dtype float32", ()),
    "invert of floats": (lambda lib: ~lib.numpy.asarray(A3), "TypeError", "not does not accept dtype float32", ()),
    "lax.sin of integers": (lambda lib: lib.lax.sin(I), "TypeError", "sin does not accept dtype int32. Accepted dtypes are subtypes of", ()),
    "ordering of complex": (lambda lib: lib.lax.lt(np.complex64(1), np.complex64(2)), "TypeError", "lt does not accept dtype complex64", ()),
    "list operand": (lambda lib: lib.numpy.sum([1, 2]), "TypeError", "sum requires ndarray or scalar arguments, got <class 'list'> at position 0.", ()),
    "string operand": (lambda lib: lib.numpy.add("a", A3), "TypeError", "Error interpreting argument to <function add", ()),
    "array of objects": (lambda lib: lib.numpy.array([object()]), "TypeError", "object", ()),
    "float index array": (lambda lib: lib.numpy.asarray(A3)[lib.numpy.asarray(A3)], "TypeError", "Indexer must have integer or boolean type, got indexer with type float32", ()),
    "float index scalar": (lambda lib: lib.numpy.asarray(A3)[1.5], "TypeError", "Indexer must have integer or boolean type", ()),
    "array of a dict": (lambda lib: lib.numpy.array({"a": 1}), "TypeError", "is not a valid JAX array type", ("dict",)),
    "array of a set": (lambda lib: lib.numpy.array({1, 2}), "TypeError", "is not a valid JAX array type", ("set",)),
    "array of objects with None": (lambda lib: lib.numpy.array(np.array([1, None], object)), "TypeError", "", ("dtype object",)),
    "array of unlike arrays": (lambda lib: lib.numpy.array([lib.numpy.ones(2), lib.numpy.ones(3)]), "TypeError", "shapes", ("(2,), (3,)", "Pad")),
    "take at a float": (lambda lib: lib.numpy.take(M, 0.5), "ValueError", "indices must have an integer type", ("float32[]",)),
    "4-bit promotion": (lambda lib: lib.numpy.promote_types("int4", "int8"), "TypePromotionError", "Input dtypes ('int4', 'int8') have no available implicit dtype promotion path.", ("astype",)),
    # indices and axes
    "stack of two arguments": (lambda lib: lib.numpy.stack(A3, A3), "TypeError", "", ("jnp.stack([a, b], axis=0)",)),
    "concatenate of two arguments": (lambda lib: lib.numpy.concatenate(M, M), "TypeError", "", ("jnp.concatenate([a, b], axis=0)", "(2, 3)")),
    "too many indices": (lambda lib: lib.numpy.asarray(A3)[0, 1], "IndexError", "Too many indices: array is 1-dimensional, but 2 were indexed", ()),
    "list index": (lambda lib: lib.numpy.asarray(A3)[[0, 1]], "TypeError", "Using a non-tuple sequence for multidimensional indexing is not allowed; use `arr[array(seq)]`", ()),
    "string index": (lambda lib: lib.numpy.asarray(A3)["a"], "TypeError", "'a'", ()),
    "mask shape": (lambda lib: lib.numpy.asarray(A3)[np.ones(4, bool)], "IndexError", "boolean index did not match shape of indexed array", ()),
    "two ellipses": (lambda lib: lib.numpy.asarray(M)[..., ...], "IndexError", "an index can only have a single ellipsis ('...')", ()),
    "item assignment": (lambda lib: lib.numpy.asarray(A3).__setitem__(0, 1), "TypeError", "JAX arrays are immutable and do not support in-place item assignment.", (".at[",)),
    "axis of sum": (lambda lib: lib.numpy.sum(A3, axis=1), "ValueError", "axis 1 is out of bounds for array of dimension 1", ()),
    "axis of concatenate": (lambda lib: lib.numpy.concatenate([A3, A3], axis=2), "ValueError", "axis 2 is out of bounds for array of dimension 1", ()),
    "axis of moveaxis": (lambda lib: lib.numpy.moveaxis(M, 5, 0), "ValueError", "axis 5 is out of bounds for array of dimension 2", ()),
    "transpose permutation": (lambda lib: lib.numpy.transpose(M, (0, 0)), "", "", ("(0, 0)",)),
    "expand_dims": (lambda lib: lib.numpy.expand_dims(A3, 4), "ValueError", "axis 4 is out of bounds for array of dimension 2", ()),
    "repeated axis": (lambda lib: lib.numpy.sum(M, axis=(0, 0)), "ValueError", "duplicate value in 'axis'", ("(0, 0)",)),
    # grad
    "grad of a vector": (lambda lib: lib.grad(lambda x: x)(A3), "TypeError", "Gradient only defined for scalar-output functions. Output had shape: (3,).", ()),
    "grad of a tuple": (lambda lib: lib.grad(lambda x: (x, x))(1.0), "TypeError", "Gradient only defined for scalar-output functions. Output was", ()),
    "grad by an integer": (lambda lib: lib.grad(lambda x: x)(1), "TypeError", "grad requires real- or complex-valued inputs (input dtype that is a sub-dtype of np.inexact), but got int32.", ()),
    "grad of complex output": (lambda lib: lib.grad(lambda x: x * 1j)(1.0), "TypeError", "grad requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got complex64.", ()),
    "grad of integer output": (lambda lib: lib.grad(lambda x: 1)(1.0), "TypeError", "grad requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got int32.", ()),
    "grad of a string": (lambda lib: lib.grad(lambda x: "a")(1.0), "TypeError", "", ("str",)),
    "grad argnums": (lambda lib: lib.grad(lambda x: x, argnums=1)(1.0), "TypeError", "differentiating with respect to argnums=1 requires at least 2 positional arguments", ()),
    "jacfwd argnums": (lambda lib: lib.jacfwd(lambda x: x, argnums=1)(1.0), "ValueError", "argnums", ("jacfwd: argnums 1 is out of range",)),
    "grad of no function": (lambda lib: lib.grad(3), "TypeError", "Expected a callable value, got 3", ()),
    "grad aux": (lambda lib: lib.grad(lambda x: x, has_aux=True)(1.0), "TypeError", "", ("has_aux",)),
    "jacfwd by an integer": (lambda lib: lib.jacfwd(lambda x: x)(1), "TypeError", "jacfwd requires real-valued inputs (input dtype that is a sub-dtype of np.floating), but got int32.", ()),
    "jvp structures": (
        lambda lib: lib.jvp(lambda x: x, (1.0,), ({"a": 1.0},)), "TypeError", "primal and tangent arguments to jax.jvp must have the same tree structure", (),
    ),
    "jvp dtypes": (lambda lib: lib.jvp(lambda x: x, (1.0,), (1,)), "TypeError", "primal and tangent arguments to jax.jvp do not match; dtypes must be equal", ("int32",)),
    "jvp shapes": (lambda lib: lib.jvp(lambda x: x, (A3,), (A4,)), "ValueError", "jvp called with different primal and tangent shapes;", ("(3,)", "(4,)")),
    "jvp not tuples": (lambda lib: lib.jvp(lambda x: x, 1.0, 1.0), "TypeError", "primal and tangent arguments to jax.jvp must be tuples or lists; found float and float.", ()),
    "vjp structure": (lambda lib: lib.vjp(lambda x: (x, x), 1.0)[1](1.0), "ValueError", "unexpected tree structure", ()),
    "vjp shape": (lambda lib: lib.vjp(lambda x: x * 2, A3)[1](A4), "ValueError", "unexpected JAX type (e.g. shape/dtype) for argument to VJP function", ("float32[4]", "float32[3]")),
    "linearize shape": (lambda lib: lib.linearize(lambda x: x * 2, A3)[1](A4), "", "linearized function called on tangent values inconsistent with the original primal values", ("float32[4]",)),
    "custom_jvp without a rule": (lambda lib: lib.custom_jvp(lambda x: x)(1.0), "AttributeError", "No JVP defined for custom_jvp function <lambda> using defjvp", ()),
    "custom_vjp without a rule": (lambda lib: lib.custom_vjp(lambda x: x)(1.0), "AttributeError", "No VJP defined for custom_vjp function <lambda> using defvjp", ()),
    "jvp of custom_vjp": (lambda lib: lib.jvp(_identity_with_vjp(lib), (1.0,), (1.0,)), "TypeError", "can't apply forward-mode autodiff (jvp) to a custom_vjp function.", ()),
    "while in reverse": (
        lambda lib: lib.grad(lambda x: lib.lax.while_loop(lambda c: c < 3, lambda c: c * x, x))(2.0), "ValueError",
        "Reverse-mode differentiation does not work for lax.while_loop or lax.fori_loop", (),
    ),
    # vmap
    "vmap sizes": (
        lambda lib: lib.vmap(lambda x, d: x)(A3, {"w": A4}), "ValueError", "vmap got inconsistent sizes for array axes to be mapped",
        (
            "  * one axis had size 3: axis 0 of argument x of type float32[3];\n"
            "  * one axis had size 4: axis 0 of argument d['w'] of type float32[4]\n",
        ),
    ),
    "vmap sizes of keywords": (lambda lib: lib.vmap(lambda x, b, a: x)(A3, b=A3, a=A4), "ValueError", "vmap got inconsistent sizes", ("axis 0 of kwargs['a'] of type float32[4]",)),
    "vmap in_axes tree": (
        lambda lib: lib.vmap(lambda d: d, in_axes=({"c": 0},))({"a": A3}), "ValueError",
        "vmap in_axes specification must be a tree prefix of the corresponding value;", ("vmap in_axes[0]",),
    ),
    "vmap out_axes tree": (
        lambda lib: lib.vmap(lambda x: x, out_axes=(0, 0))(A3), "ValueError",
        "vmap out_axes specification must be a tree prefix of the corresponding value;", ("has a leaf",),
    ),
    "vmap of a string": (lambda lib: lib.vmap(lambda x: x)("a"), "TypeError", "is not a valid JAX type", ("argument x",)),
    "vmap of a scalar": (lambda lib: lib.vmap(lambda x: x)(1.0), "ValueError", "vmap was requested to map its argument along axis 0, which implies that its rank should be at least 1, but is only 0", ()),
    "vmap nothing mapped": (lambda lib: lib.vmap(lambda x: x, in_axes=None)(1.0), "ValueError", "vmap must have at least one non-None value in in_axes", ()),
    "vmap in_axes type": (lambda lib: lib.vmap(lambda x: x, in_axes="a"), "TypeError", "vmap in_axes must be an int, None, or a tuple of entries corresponding to the positional arguments", ()),
    "vmap in_axes length": (lambda lib: lib.vmap(lambda x: x, in_axes=(0, 0))(A3), "ValueError", "vmap in_axes must be an int, None, or a tuple of entries", ("len(in_axes)=2", "len(args)=1")),
    "vmap out_axes None": (lambda lib: lib.vmap(lambda x: x, out_axes=None)(A3), "ValueError", "at vmap out_axes, got axis spec None but output", ()),
    "vmap shapes of one example": (lambda lib: lib.vmap(lambda x: x + A4)(M), "TypeError", "add got incompatible shapes for broadcasting: (3,), (4,).", ()),
    "unbound axis": (lambda lib: lib.lax.psum(1.0, "i"), "NameError", "nbound axis name: i", ()),
    # what a traced value depends on
    "origin behind a static argument": (
        lambda lib: lib.jit(lambda x, n, y: 1 if y > n else 2, static_argnums=1)(1.0, 2, 3.0), "TracerBoolConversionError",
        "Attempted boolean conversion of traced array with shape bool[].", "depends on the value of the argument y.",
    ),
    "origin of many": (
        lambda lib: lib.jit(lambda x, *more, **named: 1 if x + more[0] > named["k"] else 2)(1.0, 2.0, k=3.0), "TracerBoolConversionError",
        "depends on the values of the arguments x, more[0], and named['k'].", (),
    ),
    "origin in operations": (
        lambda lib: lib.jit(lambda: 1 if lib.lax.iota("int32", 3)[0] > 0 else 2)(), "TracerBoolConversionError",
        "This value became a tracer due to JAX operations on these lines", ("operation slice",),
    ),
    "checkpoint of a branch": (
        lambda lib: lib.checkpoint(lambda n, x: x if x > n else -x, static_argnums=0)(1.0, 2.0), "TracerBoolConversionError",
        "Consider using the `static_argnums` parameter for `jax.remat` or `jax.checkpoint`.", "the value of the argument x.",
    ),
    "tracer outside": (lambda lib: _leak_of_argument(lib), "UnexpectedTracerError", "Encountered an unexpected tracer. A function transformed by JAX had a side effect, allowing for a reference to an intermediate value with type float32[]", ()),
    "no tracing": (lambda lib: _untraced(lib), "RuntimeError", "re-tracing function", ("'no_tracing' is set",)),
    # jit
    "jit of a string": (lambda lib: lib.jit(lambda x: x)("a"), "TypeError", "Error interpreting argument to", ("abstract array", "<class 'str'>", "path x", "static_argnums")),
    "jit result": (lambda lib: lib.jit(lambda x: {"k": "text"})(1.0), "TypeError", "returned a value of type <class 'str'> at output component ['k'], which is not a valid JAX type", ()),
    "jit unhashable static": (lambda lib: lib.jit(lambda x: 1.0, static_argnums=0)([1]), "ValueError", "Non-hashable static arguments", ("<class 'list'>",)),
    "jit static_argnums range": (lambda lib: lib.jit(lambda x: x, static_argnums=3), "ValueError", "Jitted function has static_argnums=(3,), but only accepts 1 positional arguments", ("<lambda>(x)",)),
    "jit static_argnames": (lambda lib: lib.jit(lambda x: x, static_argnames="y"), "ValueError", "Jitted function has invalid argnames {'y'} in static_argnames.", ()),
    "jit of no function": (lambda lib: lib.jit(3), "TypeError", "Expected a callable value, got 3", ()),
    "jit of a generator": (lambda lib: lib.jit(_generator), "TypeError", "Expected a function, got a generator function", ()),
    "jit arguments": (lambda lib: lib.jit(lambda x: x)(1.0, 2.0), "TypeError", "takes 1 positional argument but 2 were given", ()),
    "jit of an array of strings": (lambda lib: lib.jit(lambda x: x)(np.array(["a"])), "TypeError", "Error interpreting argument to", ("path x", "dtype <U1")),
    "jit options": (lambda lib: lib.jit(lambda x: x, compiler_options={"no_such": 1})(1.0), "JaxRuntimeError", "INVALID_ARGUMENT: No such compile option: 'no_such'", ()),
    "compile options": (lambda lib: lib.jit(lambda x: x).lower(1.0).compile({"no_such": 1}), "JaxRuntimeError", "INVALID_ARGUMENT: No such compile option: 'no_such'", ()),
    # rules
    "custom_jvp result": (
        lambda lib: lib.grad(lib.jit(_with_jvp(lib, lambda p, t: (lib.numpy.ones(3), lib.numpy.ones(3)))))(2.0), "TypeError",
        "Custom JVP rule <lambda> for function <lambda> must produce a pair (list or tuple of length two) where "
        "the first element represents the primal output",
        ("    float32[3]\nwhile the custom_jvp-decorated function <lambda> had output shapes/dtypes of:\n    float32[]",),
    ),
    "custom_jvp arguments": (lambda lib: _with_jvp(lib, lambda p, t: (p, t))(1.0, 2.0), "TypeError", "The input arguments to the custom_jvp-decorated function <lambda> could not be resolved to positional-only arguments. Binding failed with the error:\ntoo many positional arguments", ()),
    "custom_vjp cotangents": (
        lambda lib: lib.grad(_with_vjp(lib, lambda x: (x, None), lambda r, g: (g, g)))(2.0), "TypeError",
        "Custom VJP bwd rule must produce an output with the same container (pytree) structure as the args tuple of the primal function, and in particular must produce a tuple of length equal to the number of arguments to the primal function, but got bwd output structure PyTreeDef((*, *)) for primal input structure PyTreeDef((*,)).", (),
    ),
    "custom_vjp cotangent type": (
        lambda lib: lib.grad(_with_vjp(lib, lambda x: (x, None), lambda r, g: (A3,)))(2.0), "ValueError",
        "Custom VJP bwd rule must produce an output with the same type as the args tuple of the primal function, but at output[0] the bwd rule produced an output of type float32[3] corresponding to an input of type float32[], so the shapes do not match", (),
    ),
    "has_aux": (lambda lib: lib.grad(lambda x: (x, x, x), has_aux=True)(2.0), "TypeError", "expected function with aux output to return a two-element tuple, but got type <class 'tuple'> with value", ()),
    "an operation on float0": (lambda lib: lib.numpy.ones(2) + np.zeros(2, lib.float0), "TypeError", "float0s do not support any operations by design because they are not compatible with non-trivial vector spaces", ()),
    "an aot call under grad": (lambda lib: lib.grad(lib.jit(lambda x: x).lower(1.0).compile())(2.0), "TypeError", "Cannot apply JAX transformations to a function lowered and compiled for a particular signature. Detected argument of Tracer type", ()),
    "an aot call of another type": (lambda lib: lib.jit(lambda x, y: x).lower(1.0, A3).compile()(1.0, A4), "TypeError", "Argument 'y' compiled with float32[3] and called with float32[4]", ()),
    "custom_vjp result": (
        lambda lib: lib.grad(lib.jit(_with_vjp(lib, lambda x: ((x, x), x))))(2.0), "TypeError",
        "Custom VJP fwd rule <lambda> for function <lambda> must produce a pair (list or tuple of length two) "
        "where the first element represents the primal output",
        ("    (float32[], float32[])\nwhile the custom_vjp-decorated function <lambda> had output",),
    ),
    # control flow
    "scan carry": (lambda lib: lib.lax.scan(lambda c, x: (c > 0, x), 1.0, A3), "TypeError", "scan body function carry input and carry output must have equal types", ("bool", "float32")),
    "scan carry structure": (lambda lib: lib.lax.scan(lambda c, x: ((c, c), x), 1.0, A3), "TypeError", "", ("scan", "carry")),
    "scan lengths": (lambda lib: lib.lax.scan(lambda c, x: (c, None), 1.0, (A3, A4)), "ValueError", "scan got values with different leading axis sizes: 3, 4.", ()),
    "scan result": (lambda lib: lib.lax.scan(lambda c, x: c, 1.0, A3), "TypeError", "scan body output must be a pair", ()),
    "cond types": (lambda lib: lib.lax.cond(True, lambda x: x, lambda x: x > 0, 1.0), "TypeError", "cond branches must have equal output types but they differ.", ()),
    "cond predicate": (lambda lib: lib.lax.cond(A3, lambda x: x, lambda x: x, 1.0), "TypeError", "Pred must be a scalar, got", ("(3,)",)),
    "while condition": (lambda lib: lib.lax.while_loop(lambda c: c, lambda c: c, 1.0), "TypeError", "cond_fun must return a boolean scalar", ()),
    "while body": (lambda lib: lib.lax.while_loop(lambda c: c < 1, lambda c: c > 0, 1.0), "TypeError", "while_loop body function carry input and carry output must have equal types", ()),
    "switch no branches": (lambda lib: lib.lax.switch(0, [], 1.0), "ValueError", "Empty branch sequence", ()),
    # tracers
    "if": (lambda lib: lib.jit(lambda x: x if x > 0 else -x)(1.0), "TracerBoolConversionError", "Attempted boolean conversion of traced array with shape bool[].", ("argument x", "test_errors_api.py", "lax.cond")),
    "range": (lambda lib: lib.jit(lambda n: list(range(n)))(3), "TracerIntegerConversionError", "The __index__() method was called on traced array with shape int32[]", ("argument n",)),
    "shape from a tracer": (lambda lib: lib.jit(lambda n: lib.numpy.zeros(n))(3), "TypeError", "Shapes must be 1D sequences of concrete values of integer type", ("static_argnums", "argument n")),
    "reshape by a tracer": (
        lambda lib: lib.jit(lambda n: lib.numpy.ones(6).reshape(n, 2))(3), "TypeError",
        "Shapes must be 1D sequences of concrete values of integer type, got (JitTracer(~int32[]), 2)", ("static_argnums", "argument n"),
    ),
    "axis from a tracer": (lambda lib: lib.jit(lambda x, a: lib.numpy.sum(x, axis=a))(M, 1), "ConcretizationTypeError", "Abstract tracer value encountered", ("argument a", "static_argnums")),
    "format": (lambda lib: lib.jit(lambda x: f"{x:.2f}")(1.0), "TypeError", "unsupported format string", ("'.2f'", "velax.debug.print")),
    "if in a gradient": (lambda lib: lib.jit(lib.grad(lambda x: x if x > 0 else -x))(1.0), "TracerBoolConversionError", "test_errors_api.py", ("argument x",)),
    "if in a partial": (
        lambda lib: lib.jit(functools.partial(_branches, flag=True))(1.0), "TracerBoolConversionError", "the function _branches at", ("argument x",),
    ),
    "float": (lambda lib: lib.jit(lambda x: float(x))(1.0), "ConcretizationTypeError", "Abstract tracer value encountered where concrete value is expected: traced array with shape float32[]", ("`float`", "argument x")),
    "numpy": (lambda lib: lib.jit(lambda x: np.sin(x))(1.0), "TracerArrayConversionError", "The numpy.ndarray conversion method __array__() was called on traced array with shape float32[]", ("argument x", "velax.numpy")),
    "mask": (lambda lib: lib.jit(lambda x: x[x > 0])(A3), "NonConcreteBooleanIndexError", "Array boolean indices must be concrete", ("jnp.where",)),
    "if under vmap": (lambda lib: lib.vmap(lambda x: x if x > 0 else -x)(A3), "TracerBoolConversionError", "Attempted boolean conversion of traced array with shape bool[].", ("vmap",)),
    "if in scan": (lambda lib: lib.lax.scan(lambda c, x: (c if x > 0 else -c, x), 1.0, A3), "TracerBoolConversionError", "Attempted boolean conversion of traced array with shape bool[].", ("scan",)),
    "leak from jit": (
        lambda lib: _leak(lib, lib.jit), "UnexpectedTracerError", "Encountered an unexpected tracer.",
        ("checking_leaks", "It was made at ", "(_leak.<locals>.f) while tracing the function f at ", " for jit."),
    ),
    "leak of an argument": (lambda lib: _leak_of_argument(lib), "UnexpectedTracerError", "Encountered an unexpected tracer.", ("It was an argument or a captured value",)),
    "leak from grad": (lambda lib: _leak(lib, lib.grad), "UnexpectedTracerError", "Encountered an unexpected tracer.", ()),
    "leak from vmap": (lambda lib: _leak(lib, lambda f: lambda x: lib.vmap(f)(lib.numpy.ones(3))), "UnexpectedTracerError", "", ()),
    # random, tree
    "random key": (lambda lib: lib.random.normal(lib.numpy.ones(3)), "TypeError", "JAX encountered invalid PRNG key data: expected key_data.shape to end with (2,); got shape=(3,)", ()),
    "tree structures": (lambda lib: lib.tree_util.tree_map(lambda x, y: x, {"a": 1}, {"b": 2}), "ValueError", "pytree structure error: different pytree metadata at key path", ()),
}  # fmt: skip


def _generator(x):
    yield x


def _branches(x, flag):
    return x if x > 0 and flag else -x


def _untraced(lib):
    with lib.no_tracing():
        lib.jit(lambda x: x + 1)(1.0)


def _with_jvp(lib, rule):
    f = lib.custom_jvp(lambda x: x * 2)
    f.defjvp(rule)
    return f


def _with_vjp(lib, fwd, bwd=lambda x, g: (g,)):
    f = lib.custom_vjp(lambda x: x * 2)
    f.defvjp(fwd, bwd)
    return f


def _leak_of_argument(lib):
    saved = []
    lib.jit(saved.append)(1.0)
    return saved[0] + 1


def _identity_with_vjp(lib):
    f = lib.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda _, g: (g,))
    return f


def _leak(lib, transform):
    saved = []

    def f(x):
        saved.append(x * 2)
        return x * 3

    transform(f)(1.0)
    return saved[0] + 1


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    program, kind, lead, ours = ERRORS[name]
    both_raise(program, kind or "Exception", lead, ours)


# -- tracebacks ----------------------------------------------------------------------------------


def frames_of(f):
    """File names of the frames of the error that ``f`` raises, beyond this function's."""
    try:
        f()
    except Exception as e:
        return [frame.filename for frame in traceback.extract_tb(e.__traceback__)][1:], e
    raise AssertionError("nothing was raised")


def wrong(lib):
    return lambda x: lib.numpy.sin(x) + lib.numpy.ones(7)


def user_lines(f):
    files, error = frames_of(f)
    assert files and all(file == __file__ for file in files), files
    assert error.__context__ is None or error.__suppress_context__, error.__context__
    return len(files)


X3 = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("call", "lines"),
    [
        (lambda lib: wrong(lib)(X3), 2),
        (lambda lib: lib.jit(wrong(lib))(X3), 2),
        (lambda lib: lib.jit(lambda x: lib.jit(wrong(lib))(x))(X3), 3),
        (lambda lib: lib.grad(wrong(lib))(X3), 2),
        (lambda lib: lib.value_and_grad(wrong(lib))(X3), 2),
        (lambda lib: lib.jvp(wrong(lib), (X3,), (X3,)), 2),
        (lambda lib: lib.vjp(wrong(lib), X3), 2),
        (lambda lib: lib.linearize(wrong(lib), X3), 2),
        (lambda lib: lib.jacfwd(wrong(lib))(X3), 2),
        (lambda lib: lib.hessian(wrong(lib))(X3), 2),
        (lambda lib: lib.vmap(wrong(lib))(M), 2),
        (lambda lib: lib.make_jaxpr(wrong(lib))(X3), 2),
        (lambda lib: lib.eval_shape(wrong(lib), X3), 2),
        (lambda lib: lib.checkpoint(wrong(lib))(X3), 2),
        (lambda lib: lib.lax.scan(lambda c, x: (wrong(lib)(c), x), X3, X3), 3),
        (lambda lib: lib.lax.cond(True, wrong(lib), wrong(lib), X3), 2),
        (lambda lib: lib.lax.while_loop(lambda c: True, wrong(lib), X3), 2),
        (lambda lib: lib.lax.fori_loop(0, 3, lambda i, c: wrong(lib)(c), X3), 3),
        (lambda lib: lib.lax.map(wrong(lib), M), 2),
        (lambda lib: lib.custom_jvp(wrong(lib))(X3), 1),
        (lambda lib: lib.jit(wrong(lib)).lower(X3), 2),
        (lambda lib: lib.grad(lambda x: x)(X3), 1),
        (lambda lib: lib.vmap(lambda x: x)(1.0), 1),
        (lambda lib: lib.numpy.concatenate([]), 1),
        (lambda lib: lib.numpy.reshape(X3, 5), 1),
        (lambda lib: lib.numpy.asarray(X3).reshape(5), 1),
        (lambda lib: lib.numpy.asarray(X3)[0, 1], 1),
        (lambda lib: lib.numpy.asarray(X3).at[0, 1].set(2), 1),
        (lambda lib: lib.numpy.asarray(X3) @ A4, 1),
        (lambda lib: lib.lax.add(X3, A4), 1),
        (lambda lib: lib.random.normal(3, (2,)), 1),
        (lambda lib: lib.nn.one_hot("a", 3), 1),
        (lambda lib: lib.nn.initializers.glorot_normal()(lib.random.key(0), (3,)), 1),
        (lambda lib: lib.vjp(lambda x: x, 1.0)[1]((1.0, 2.0)), 1),
        (lambda lib: lib.jit(1), 1),
        (lambda lib: lib.jit(static_argnums=0)(1), 1),
        (lambda lib: lib.grad(1), 1),
        (lambda lib: lib.make_mesh((4,), ("x",)), 1),
        (lambda lib: lib.device_put("a"), 1),
        (lambda lib: lib.devices("gpu"), 1),
        (lambda lib: lib.random.key(0) + 1, 1),
        (lambda lib: np.asarray(lib.random.key(0)), 1),
        (lambda lib: lib.numpy.int8(300), 1),
        (lambda lib: lib.numpy.int8(2) ** -1, 1),
        (lambda lib: lib.numpy.vectorize(lambda x: x, signature="(n)->(n)")(1.0), 1),
        (lambda lib: _leak(lib, lib.jit), 2),
    ],
)
def test_traceback_shows_the_user_s_lines(call, lines):
    assert user_lines(lambda: call(velax)) == lines + 1


def test_note_says_how_to_see_the_rest():
    _, error = frames_of(lambda: velax.jit(wrong(velax))(X3))
    assert sum("JAX_TRACEBACK_FILTERING=off" in note for note in error.__notes__) == 1


def test_filtering_can_be_switched_off():
    with velax._lang.config.traceback_filtering("off"):
        files, error = frames_of(lambda: velax.jit(wrong(velax))(X3))
    assert any("velax" in f and f != __file__ for f in files) and not any(
        "FILTERING" in n for n in getattr(error, "__notes__", ())
    )


def test_the_user_s_own_error_passes_through():
    class Mine(Exception):
        pass

    def f(x):
        try:
            raise KeyError("inner")
        except KeyError as e:
            raise Mine("outer") from e

    for call in (
        velax.jit(f),
        velax.grad(f),
        velax.vmap(f),
        velax.make_jaxpr(f),
        lambda x: velax.lax.scan(lambda c, y: f(y), 1.0, x),
    ):
        with pytest.raises(Mine, match="outer") as info:
            call(X3)
        assert isinstance(info.value.__cause__, KeyError)


def test_public_functions_keep_their_names_and_signatures():
    for f in (velax.numpy.concatenate, velax.lax.scan, velax.random.normal, velax.numpy.zeros):
        assert pickle.loads(pickle.dumps(f)) is f
    assert next(iter(inspect.signature(velax.numpy.concatenate).parameters)) == next(
        iter(inspect.signature(jax.numpy.concatenate).parameters)
    )
    assert all(lib.numpy.reshape.__name__ == "reshape" for lib in LIBRARIES)
