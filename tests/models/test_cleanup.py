"""A graph that was cleaned gives the same numbers and derivatives, in fewer operations."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from mlip_sweep.models.cleanup import clean

aten = torch.ops.aten
K, N, E, F = 3, 4, 7, 5


def numbers(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


def rows(high=N, shape=(K, E)):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(1))


def by_member(x, index):
    return aten.index.Tensor(x, [torch.arange(K).unsqueeze(-1), index])


def put_by_member(x, index):
    zeros = x.new_zeros(K, N, F)
    return aten.index_put.default(zeros, [torch.arange(K).unsqueeze(-1), index], x, True)


def parts(x, y, shape, first, second):
    return aten.slice_backward(x, shape, 1, *first, 1) + aten.slice_backward(y, shape, 1, *second, 1)


CASES = {  # a function, its inputs, and how many operations are left of it
    "shape that stays": (lambda x: aten.view(x, [K, N]), [numbers(K, N)], 0),
    "shapes one after another": (lambda x: x.view(K, N * F).unsqueeze(1).view(K * N, 1, F), [numbers(K, N, F)], 1),
    "shapes there and back": (lambda x: x.view(K, N * F).view(K, N, F).sin(), [numbers(K, N, F)], 1),
    "axis of length 1 that moves": (lambda x: x.unsqueeze(1).permute(0, 2, 1, 3).squeeze(2), [numbers(K, N, F)], 0),
    "axes one after another": (lambda x: x.permute(1, 2, 0).transpose(0, 1), [numbers(K, N, F)], 1),
    "axes there and back": (lambda x: x.permute(1, 2, 0).permute(2, 0, 1).cos(), [numbers(K, N, F)], 1),
    "axes of equal length": (lambda x: x.permute(1, 0), [numbers(N, N)], 1),
    "copies": (lambda x: x.transpose(0, 1).clone(memory_format=torch.contiguous_format).view(-1), [numbers(K, N)], 2),
    "twice the same": (lambda x: x.sin() + x.sin(), [numbers(K)], 2),
    "precision that stays": (lambda x: x.to(torch.float64) + x.to(torch.float32), [numbers(K)], 2),
    "whole slices": (lambda x: x[:, 0:N] * 2.0, [numbers(K, N)], 1),
    "expanded for arithmetic": (lambda x, y: x.expand(K, N, F) * y, [numbers(K, N, 1), numbers(K, N, F)], 1),
    "expanded, both": (lambda x, y: x.expand(K, N) * y.expand(K, N), [numbers(K, 1), numbers(1, N)], 1),
    "expanded, and needed": (lambda x, y: x.expand(K, N) * y, [numbers(K, 1), numbers(K, 1)], 2),
    "number expanded": (lambda x, y: x.expand(K) * y.to(torch.float32), [numbers(), numbers(K)], 3),
    "parts side by side": (lambda x, y: parts(x, y, [K, 5], (2, 5), (0, 2)), [numbers(K, 3), numbers(K, 2)], 1),
    "parts with a gap": (lambda x, y: parts(x, y, [K, 6], (3, 6), (0, 2)), [numbers(K, 3), numbers(K, 2)], 3),
    "parts that overlap": (lambda x, y: parts(x, y, [K, 4], (1, 4), (0, 2)), [numbers(K, 3), numbers(K, 2)], 3),
    "parts of one place": (
        lambda x, y, z: parts(x, y, [K, 5], (0, 2), (0, 2)) + aten.slice_backward(z, [K, 5], 1, 2, 5, 1),
        [numbers(K, 2), numbers(K, 2), numbers(K, 3)],
        5,
    ),
    "slices, one of them empty": (lambda x: x[:, 0:2].sum() + x[:, 2:2].sum() * x[:, 2:5].sum(), [numbers(K, 5)], 9),
    "slices": (lambda x: x[:, 0:2].sum() * x[:, 2:5].sum(), [numbers(K, 5)], 6),
    "slices with a gap": (lambda x: x[:, 1:2].sum() * x[:, 3:4].sum(), [numbers(K, 5)], 6),
    "slices that overlap": (lambda x: x[:, 0:3].sum() * x[:, 2:5].sum(), [numbers(K, 5)], 5),
    "rows": (lambda x, i: x.gather(1, i[:, :, None].expand(K, E, F)), [numbers(K, N, F), rows()], 7),
    "parts of rows": (lambda x, i: x.gather(1, i[:, :, None].expand(K, E, 2)), [numbers(K, N, F), rows()], 3),
    "numbers of rows": (lambda x, i: x.gather(1, i), [numbers(K, N, F), rows(shape=(K, E, F))], 1),
    "rows added": (
        lambda x, y, i: x.scatter_add(1, i[:, :, None].expand(K, E, F), y),
        [numbers(K, N, F), numbers(K, E, F), rows()],
        8,
    ),
    "rows of each member": (by_member, [numbers(K, N, F), rows()], 7),
    "rows of one member": (lambda x, i: x[i], [numbers(K, N, F), rows(high=K)], 1),
    "one row added to each member": (put_by_member, [numbers(F), rows()], 4),
    "rows of each member added": (put_by_member, [numbers(K, E, F), rows()], 9),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers_and_derivatives(name):
    function, inputs, left = CASES[name]
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = [mode.from_tensor(x.detach()) for x in inputs]
    with mode:
        graph = make_fx(function)(*fakes)
        clean(graph.graph)
    graph.recompile()
    ours, its = graph(*inputs), function(*inputs)
    torch.testing.assert_close(ours, its, rtol=0, atol=0)
    trained = [x for x in inputs if x.requires_grad]
    by_ours, by_its = (torch.autograd.grad(y.sin().sum(), trained) for y in (ours, its))
    torch.testing.assert_close(by_ours, by_its, rtol=1e-14, atol=1e-14)
    operations = [node for node in graph.graph.nodes if node.op == "call_function"]
    assert len(operations) == left
