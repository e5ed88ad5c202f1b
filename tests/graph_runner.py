"""Compiling and running array graphs in tests."""

import numpy as np
from graph_reference import NUMPY

from velax import _native
from velax._compiler.objects import compile_kernels
from velax._compiler.pipeline import Options, compile_graph
from velax._compiler.target import host_target
from velax._ir.graph import Graph
from velax._ir.program import encode
from velax._ir.program_check import verify


class Compiled:
    """A graph compiled for this machine (or a ``target`` that it can run): call it with NumPy arrays."""

    def __init__(self, graph: Graph, donated=(), callbacks=(), target=None):
        target = target or host_target()
        self.graph = graph
        self.compiled = compile_graph(graph, target, Options(frozenset(donated)))
        self.program = self.compiled.program
        verify(self.program)
        images = compile_kernels(list(self.compiled.kernels.values()), target)
        self.kernels = [_native.load_object(images[name]).symbol(name) for name in self.program.kernels]
        avals = [[(x.shape, np.dtype(NUMPY[x.dtype]), False) for x in nodes] for nodes in (graph.inputs, graph.outputs)]
        self.executable = _native.Executable(
            encode(self.program), self.kernels, list(callbacks), *avals, tuple(donated)
        )

    def __call__(self, *arrays):
        inputs = [
            _native.array_from_numpy(np.asarray(a, NUMPY[x.dtype]).reshape(x.shape))
            for a, x in zip(arrays, self.graph.inputs, strict=True)
        ]
        return [np.asarray(out) for out in self.executable.execute(inputs)]


def run(graph: Graph, *arrays, **options):
    return Compiled(graph, **options)(*arrays)
