"""Cleans a graph of plain operations: the same numbers with fewer calls and fewer copies.

What tracing writes out of an equivariant network, of its derivative and of a map over an axis is for the most part
changes of shape: 500 of the 900 operations of a NequIP. Each takes as long as arithmetic on a small array does, and
once more when derivatives are taken. The rules here keep what an operation gives; only strides may change.
"""

import operator
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, fx

aten = torch.ops.aten

_RESHAPES = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
}
_SAME_IF_AS_LARGE = _RESHAPES | {aten.expand.default, aten.slice.Tensor, aten.slice_backward.default}
_BROADCASTING = {aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor}


def clean(graph: fx.Graph) -> None:
    """Replace operations in place by fewer ones that give the same.

    Args:
        graph: Of operations of `torch.ops.aten` without effects, whose nodes carry what they give as fake tensors in
            `meta["val"]`. To be called in the mode of these tensors. What indexes rows counts from 0.
    """
    changed = True
    while changed:
        changed = _sweep(graph)
        graph.eliminate_dead_code()
    _split_where_sliced(graph)


def _sweep(graph: fx.Graph) -> bool:
    """Go through the nodes once, in order; whether there was anything to simplify."""
    known: dict[Hashable, fx.Node] = {}
    changed = False
    for node in [node for node in graph.nodes if node.op == "call_function"]:
        with graph.inserting_before(node):
            simpler = _simplified(node)
        if simpler is node:
            simpler = known.setdefault(_identity(node), node)  # the same operation on the same inputs
        if simpler is not node:
            node.replace_all_uses_with(simpler)
            graph.erase_node(node)
            changed = True
    return changed


def _simplified(node: fx.Node) -> fx.Node:
    """A node that gives the same, the node itself where there is no simpler one."""
    for rule in _RULES:
        if (simpler := rule(node)) is not None:
            return _simplified(simpler)
    return node


def _unchanged(node: fx.Node) -> fx.Node | None:
    """What leaves its input as it is."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    if node.target is aten.clone.default or node.target is aten.alias.default:
        return source
    if node.target in _SAME_IF_AS_LARGE:
        return source if _shape(node) == _shape(source) else None
    if node.target is aten._to_copy.default:
        return source if node.kwargs.keys() == {"dtype"} and _value(node).dtype == _value(source).dtype else None
    if node.target is aten.permute.default:
        return source if list(node.args[1]) == list(range(len(_shape(node)))) else None  # type: ignore[arg-type]
    return None


def _reshaped_once(node: fx.Node) -> fx.Node | None:
    """One change of shape in the place of several; an axis of length 1 that moves is a change of shape as well.

    Never as a view, which fails where an operation lays out its result in another way at other sizes.
    """
    if not _is_reshape(node):
        return None
    source = root = _source(node)
    while _is_reshape(root):
        root = _source(root)
    if root is source and node.target is aten.reshape.default:
        return None
    return _made(node, aten.reshape.default, (root, list(_shape(node))))


def _permuted_once(node: fx.Node) -> fx.Node | None:
    """One order of axes in the place of several, and one name for it."""
    order = _order(node)
    if order is None:
        return None
    inner = _source(node)
    before = _order(inner)
    if before is not None:
        return _made(node, aten.permute.default, (_source(inner), [before[axis] for axis in order]))
    if node.target is not aten.permute.default:
        return _made(node, aten.permute.default, (inner, order))
    return None


def _broadcast(node: fx.Node) -> fx.Node | None:
    """Arithmetic that broadcasts what was expanded for it."""
    if node.target not in _BROADCASTING:
        return None
    args = list(node.args)
    for place in (0, 1):
        arg = args[place]
        if isinstance(arg, fx.Node) and arg.target is aten.expand.default:
            args[place] = source = _source(arg)
            if not _shape(source):  # a number has no say in the precision of the result, an array has
                return None
            shapes = [_shape(a) for a in args[:2] if isinstance(a, fx.Node)]
            if torch.broadcast_shapes(*shapes) == _shape(node):
                return _made(node, node.target, tuple(args), node.kwargs)
            args[place] = arg
    return None


def _joined(node: fx.Node) -> fx.Node | None:
    """A sum of parts that each stand at another place, filled up with zeros, is those parts side by side."""
    if node.target is not aten.add.Tensor or (parts := _parts(node)) is None:
        return None
    (axis, _), places = parts
    bounds = [(0, 0), *sorted(places), (_shape(node)[axis], 0)]
    if any(end != start for (_, end), (start, _) in pairwise(bounds)):
        return None
    return _made(node, aten.cat.default, ([places[place] for place in sorted(places)], axis))


def _selected_by_rows(node: fx.Node) -> fx.Node | None:
    """Rows of each of K arrays, taken from or added to by an index of its own, are rows of one array.

    A map over K leaves an index that repeats for every number of a row; whole rows are several times faster.
    """
    arguments: tuple[Any, ...] = node.args
    match node.target:
        case aten.gather.default | aten.scatter_add.default if arguments[1] == 1:
            array, _, index, *source = arguments[:4]
            rows = _repeated_for_rows(array, index)
        case aten.index.Tensor:
            (array, indices), source = arguments, []
            rows = _of_each_member(array, indices)
        case aten.index_put.default if arguments[3:] == (True,):
            array, indices, *source = arguments[:3]
            rows = _of_each_member(array, indices)
        case _:
            return None
    if rows is None:
        return None
    members, length, *numbers = _shape(array)
    per_member = _shape(rows)[1]
    count = members * per_member
    if source and _shape(source[0]) != (members, per_member, *numbers):
        return None

    def made(target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        return _made(node, target, args, kwargs)

    starts = made(aten.arange.start_step, 0, members * length, length, dtype=torch.int64, device=_value(array).device)
    rows = made(aten.reshape.default, rows, [members, per_member])
    index = made(aten.add.Tensor, rows, made(aten.reshape.default, starts, [members, 1]))
    index = made(aten.reshape.default, index, [count])
    array = made(aten.reshape.default, array, [members * length, *numbers])
    if source:
        result = made(aten.index_add.default, array, 0, index, made(aten.reshape.default, source[0], [count, *numbers]))
    else:
        result = made(aten.index_select.default, array, 0, index)
    return made(aten.reshape.default, result, list(_shape(node)))


_RULES: tuple[Callable[[fx.Node], fx.Node | None], ...] = (
    _unchanged,
    _permuted_once,
    _reshaped_once,
    _broadcast,
    _joined,
    _selected_by_rows,
)


def _split_where_sliced(graph: fx.Graph) -> None:
    """Slices of one array that do not overlap become parts of it, whose derivatives are joined in one call."""
    slices: dict[tuple[fx.Node, int], dict[tuple[int, int], fx.Node]] = defaultdict(dict)
    for node in graph.find_nodes(op="call_function", target=aten.slice.Tensor):
        arguments: tuple[Any, ...] = node.args
        if len(arguments) == 4:  # no step
            source, axis, start, end = arguments
            if _shape(node)[axis]:
                slices[source, axis][start, min(end, _shape(source)[axis])] = node
    for (source, axis), of_source in slices.items():
        places = sorted(of_source)
        bounds = [0, *(bound for place in places for bound in place), _shape(source)[axis]]
        if len(places) < 2 or bounds != sorted(bounds):
            continue
        cuts = sorted(set(bounds))
        with graph.inserting_before(next(iter(of_source.values()))):
            sizes = [end - start for start, end in pairwise(cuts)]
            parts = graph.call_function(aten.split_with_sizes.default, (source, sizes, axis))
        for place in places:
            node = of_source[place]
            with graph.inserting_after(parts):
                part = graph.call_function(operator.getitem, (parts, cuts.index(place[0])))
            part.meta = dict(node.meta)
            node.replace_all_uses_with(part)
            graph.erase_node(node)


def _parts(node: fx.Node) -> tuple[tuple[int, tuple[int, ...]], dict[tuple[int, int], fx.Node]] | None:
    """(axis, shape) and, by start and end along the axis, the parts of an array that are zero elsewhere."""
    if node.target is aten.slice_backward.default and node.args[5] == 1:
        part, shape, axis, start, end, _ = node.args
        return (axis, tuple(shape)), {(start, min(end, shape[axis])): part}  # type: ignore
    if node.target is aten.add.Tensor and not node.kwargs:
        first, second = (_parts(arg) if isinstance(arg, fx.Node) else None for arg in node.args)
        if first and second and first[0] == second[0] and not first[1].keys() & second[1].keys():
            return first[0], first[1] | second[1]
    return None


def _repeated_for_rows(array: fx.Node, index: fx.Node) -> fx.Node | None:
    """The numbers of rows of an array, K × E, where an index is the same for all numbers of a row."""
    if index.target is not aten.expand.default or len(_shape(index)) < 3:
        return None
    rows, (members, length, *numbers) = _source(index), _shape(index)
    if _shape(array) != (members, _shape(array)[1], *numbers):
        return None
    if _shape(rows) != (members, length, *(1 for _ in numbers)):
        return None
    return rows


def _of_each_member(array: fx.Node, indices: Sequence[fx.Node | None]) -> fx.Node | None:
    """The numbers of rows, K × E, where the first axis is gone through in order."""
    if len(indices) != 2:
        return None
    member, rows = indices
    if member is None or rows is None:
        return None
    members = _shape(array)[0]
    if _shape(member) != (members, 1) or len(_shape(rows)) != 2 or not _is_reshape(member):
        return None
    return rows if _source(member).target is aten.arange.default and _source(member).args == (members,) else None


def _is_reshape(node: fx.Node) -> bool:
    """Whether numbers stay in their order."""
    if node.target in _RESHAPES:
        return True
    order = _axes(node)
    if order is None:
        return False
    moved = [axis for axis in order if _shape(_source(node))[axis] != 1]
    return moved == sorted(moved)


def _order(node: fx.Node) -> list[int] | None:
    """The order of axes that a node puts its input into, where that is more than a change of shape."""
    return None if _is_reshape(node) else _axes(node)


def _axes(node: fx.Node) -> list[int] | None:
    """The order of axes of a permutation."""
    if node.target not in (aten.permute.default, aten.transpose.int, aten.t.default):
        return None
    order = list(range(len(_shape(_source(node)))))
    if node.target is aten.permute.default:
        return [axis % len(order) for axis in node.args[1]]  # type: ignore
    first, second = node.args[1:] if node.target is aten.transpose.int else (0, len(order) - 1)
    order[first], order[second] = order[second], order[first]  # type: ignore
    return order


def _made(place: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> fx.Node:
    """A new node, at the point of insertion of the graph that `place` is of."""
    node = place.graph.call_function(target, args, kwargs or {})
    node.meta["val"] = target(*_values(args), **_values(kwargs or {}))
    return node


def _source(node: fx.Node) -> fx.Node:
    """The array that a node changes."""
    return cast(fx.Node, node.args[0])


def _value(node: fx.Node) -> Tensor:
    """What a node gives, without content."""
    if node.op == "get_attr":
        return cast(Tensor, getattr(node.graph.owning_module, str(node.target)))
    return cast(Tensor, node.meta["val"])


def _values(arguments: Any) -> Any:
    return fx.node.map_arg(arguments, _value)


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(_value(node).shape)


def _identity(node: fx.Node) -> Hashable:
    """The same for two nodes that do the same to the same."""
    return node.target, repr(node.args), repr(sorted(node.kwargs.items()))
