"""Tools on function arguments that libraries import."""

from velax._lang.trace import shaped_abstractify as shaped_abstractify
from velax._transforms.arguments import argnums_partial as argnums_partial, debug_info_of as debug_info
from velax.extend.linear_util import WrappedFun as _WrappedFun, transformation_with_aux2 as _transformation_with_aux2
from velax.tree_util import tree_flatten as _tree_flatten, tree_unflatten as _tree_unflatten

__all__ = ["argnums_partial", "debug_info", "flatten_fun", "flatten_fun_nokwargs", "shaped_abstractify"]


def _flat_call(f, store, in_tree, *leaves):
    args, kwargs = _tree_unflatten(in_tree, leaves)
    out, tree = _tree_flatten(f(*args, **kwargs))
    store.store(tree)
    return out


def _flat_call_nokwargs(f, store, in_tree, *leaves):
    out, tree = _tree_flatten(f(*_tree_unflatten(in_tree, leaves)))
    store.store(tree)
    return out


def flatten_fun(fun: _WrappedFun, in_tree):
    """A function of leaves, from one of pytrees.

    Args:
      fun: the function, as of `velax.extend.linear_util.wrap_init`.
      in_tree: the structure of its ``(args, kwargs)``.

    Returns:
      The function that takes and gives lists of leaves, and a function that tells the structure of the result after
      a call.

    Example:
      >>> import velax
      >>> from velax.extend import linear_util as lu
      >>> leaves, tree = velax.tree.flatten(((1, {'a': 2}), {'c': 3}))
      >>> flat, out_tree = velax.api_util.flatten_fun(lu.wrap_init(lambda x, y, c: [x + y['a'], c]), tree)
      >>> flat.call_wrapped(*leaves), out_tree()
      ([3, 3], PyTreeDef([*, *]))
    """
    return _transformation_with_aux2(_flat_call, fun, in_tree)


def flatten_fun_nokwargs(fun: _WrappedFun, in_tree):
    """As `flatten_fun`, for a function without keyword arguments: ``in_tree`` is the structure of ``args`` alone."""
    return _transformation_with_aux2(_flat_call_nokwargs, fun, in_tree)
