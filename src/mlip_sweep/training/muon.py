"""Muon for the weights that are matrices, Adam for all others (https://kellerjordan.github.io/posts/muon/)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mlip_sweep.errors import InputError


class MuonAndAdam(torch.optim.Optimizer):
    """One optimiser of two: `torch.optim.Muon` updates matrices by their nearest orthogonal one, Adam all else.

    Layers of e3nn keep their weights in one flat vector, and MACE its contractions in tensors of three dimensions: Muon
    has nothing to say of them. Matrices are the radial networks, the embeddings of elements and plain linear layers.
    The step of Muon is scaled to the size of Adam's, so that one learning rate serves both.

    Args:
        params: what is trained.
        lr: learning rate.
        weight_decay: of both; Adam's is part of the gradient, Muon's is not.
        momentum: of Muon.
        **adam: further arguments of torch.optim.Adam.

    Raises:
        InputError: no parameter is a matrix, or this torch has no Muon.
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, weight_decay: float = 0.0, momentum: float = 0.95, **adam: Any
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise InputError(f"optimizer=muon: torch {torch.__version__} has no Muon; install torch 2.9 or later")
        trained = list(params)
        matrices = [p for p in trained if p.dim() == 2]
        if not matrices:
            raise InputError("optimizer=muon: no weight of this model is a matrix; choose optimizer=amsgrad")
        others = [p for p in trained if p.dim() != 2]
        super().__init__(trained, {"lr": lr})
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, lr=lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
            )
        ]
        if others:
            self._parts.append(torch.optim.Adam(others, lr=lr, weight_decay=weight_decay, **adam))
        self._link()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where an interrupted training was."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._link()

    def _link(self) -> None:
        """The groups of both are this one's, so that schedules of the learning rate reach them."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]
