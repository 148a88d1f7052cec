"""SAM's step on a parabola, where it is known on paper."""

import pytest
import torch

from mlip_sweep.errors import InputError
from mlip_sweep.training.sam import SAM


def test_a_step_is_adam_s_with_the_gradient_of_the_worst_point():
    """L = Σ a x² / 2: the gradient at x + ρ g/|g| is a (x + ρ a x / |a x|)."""
    a = torch.tensor([1.0, 4.0], dtype=torch.float64)
    start = torch.tensor([0.3, -0.2], dtype=torch.float64)
    ours, plain = (torch.nn.Parameter(start.clone()) for _ in range(2))
    seen = []
    sam, adam = SAM([ours], rho=0.1, lr=0.01, weight_decay=0.1), torch.optim.Adam([plain], lr=0.01, weight_decay=0.1)

    def closure():
        sam.zero_grad()
        seen.append(ours.detach().clone())
        loss = (0.5 * a * ours**2).sum()
        loss.backward()
        return loss

    for _ in range(5):
        gradient = a * plain.detach()
        plain.grad = a * (plain.detach() + 0.1 * gradient / gradient.norm())
        before = float((0.5 * a * plain.detach() ** 2).sum())
        adam.step()
        assert sam.step(closure).item() == pytest.approx(before)
        torch.testing.assert_close(ours.detach(), plain.detach(), rtol=1e-12, atol=1e-14)
    assert [float((seen[k + 1] - seen[k]).norm()) for k in range(0, 10, 2)] == pytest.approx([0.1] * 5)


def test_it_needs_a_radius_and_a_closure():
    weight = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(InputError, match=r"optimizer\.rho=0\.0"):
        SAM([weight], rho=0.0, lr=0.01)
    with pytest.raises(RuntimeError, match="closure"):
        SAM([weight], rho=0.1, lr=0.01).step()
