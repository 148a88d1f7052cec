"""Sharpness-aware minimisation: a training that seeks flat minima (Foret et al., https://doi.org/10.48550/arXiv.2010.01412)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mlip_sweep.errors import InputError


class SAM(torch.optim.Adam):
    """Adam that follows the gradient at the worst point nearby: g = ∇L(θ + ρ ∇L(θ) / |∇L(θ)|).

    Every step takes two evaluations of the same batch. Learning rate, weight decay and moments are Adam's, and the
    weights outside of a step are always θ, so that averages, checkpoints and validation are those of any optimiser.
    Reported to lengthen the dynamics of Allegro potentials (https://doi.org/10.1007/978-3-031-32041-5_12).

    Args:
        params: what is trained.
        rho: ρ, how far the worst point may be, in the unit of the weights.
        **adam: arguments of torch.optim.Adam.

    Raises:
        InputError: ρ is not a positive number.
    """

    def __init__(self, params: Iterable[Tensor], *, rho: float, **adam: Any) -> None:
        if not isinstance(rho, int | float) or not 0.0 < rho < float("inf"):
            raise InputError(f"optimizer.rho={rho}: give a number above 0, such as 0.05")
        super().__init__(params, **adam)
        self.rho = float(rho)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: computes the loss and its gradients anew, as Lightning's does.

        Raises:
            RuntimeError: there is no closure.
        """
        if closure is None:
            raise RuntimeError("SAM evaluates a batch twice, and needs a closure for that")
        with torch.enable_grad():
            loss = closure()
        trained = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in trained]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        here = [p.clone() for p in trained]
        torch._foreach_add_(trained, torch._foreach_mul(gradients, self.rho / (norm + 1e-12)))
        with torch.enable_grad():
            closure()
        torch._foreach_copy_(trained, here)
        super().step()
        return loss
