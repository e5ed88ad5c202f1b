"""The text of an array graph, one line a node.

::

    graph(%0: f32[4, 3], %1: f32[3])
      %2 = broadcast %1 dims=(1,) : f32[4, 3]
      %3 = map.add %0, %2 : f32[4, 3]
      return %3
"""

from __future__ import annotations

from velax._ir.graph import Graph, Node

__all__ = ["print_graph"]


def print_graph(graph: Graph, notes=None) -> str:
    """``graph`` as text; nested graphs are indented below their node.

    Args:
        notes: node -> text, printed at the end of the node's line (what a pass decided).
    """
    return "\n".join(_lines(graph, "", notes or {})) + "\n"


def _type(node: Node) -> str:
    return "(...)" if node.shape is None else f"{node.dtype}{list(node.shape)}"


def _lines(graph: Graph, indent: str, notes) -> list[str]:
    names: dict[Node, str] = {}

    def name(node: Node) -> str:
        if node.op == "literal":
            return f"{node.attrs['value']!r}:{node.dtype}"
        found = names.get(node)
        if found is None:
            found = names[node] = f"%{len(names)}"
        return found

    lines = [f"{indent}graph({', '.join(f'{name(x)}: {_type(x)}' for x in graph.inputs)})"]
    for node in _order(graph):
        if node.op in ("input", "literal"):
            continue
        head = f"{node.op}.{node.attrs['fn']}" if "fn" in node.attrs else node.op
        attrs, nested = [], []
        for key, value in node.attrs.items():
            if isinstance(value, Graph):
                nested.append((key, value))
            elif isinstance(value, tuple) and value and isinstance(value[0], Graph):
                nested += [(f"{key}[{k}]", g) for k, g in enumerate(value)]
            elif key not in ("fn", "results"):
                attrs.append(f"{key}={value}")
        operands = ", ".join(map(name, node.inputs))
        note = f"  ; {notes[node]}" if node in notes else ""
        line = " ".join(part for part in (f"{indent}  {name(node)} = {head}", operands, *attrs) if part)
        lines.append(f"{line} : {_type(node)}{note}")
        for key, inner in nested:
            lines.append(f"{indent}    {key}:")
            lines += _lines(inner, indent + "      ", notes)
    effects = f" effects {', '.join(map(name, graph.effects))}" if graph.effects else ""
    lines.append(f"{indent}  return {', '.join(map(name, graph.outputs))}{effects}")
    return lines


def _order(graph: Graph) -> list[Node]:
    order: list[Node] = []
    done: set[Node] = set()
    stack = [(node, False) for node in reversed((*graph.effects, *graph.outputs))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack.extend((x, False) for x in reversed(node.inputs))
    return order
