"""The weights, averages and moments of K runs as rows of flat tensors, and one AdamW and average over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from curriculum_ray.training.trainer import Trainer

__all__ = ["PackedWeights"]

_MODEL = "model."


class PackedWeights:
    """The state of K trainers as tensors (K, P); the trainers' own parameters and moments become views of them.

    A row holds the P_model weights of the network, then those of a learned weighting, whose number may differ: shorter
    rows are padded with zeros. `leaves` are the network's weights by name, (K, *shape), as vmap takes them.
    """

    def __init__(self, members: Sequence[Trainer]) -> None:
        self._members = members
        layouts = [_layout(member) for member in members]
        names = [name for name in members[0].parameters if name.startswith(_MODEL)]
        sizes = [members[0].parameters[name].numel() for name in names]
        self._model_size = sum(sizes)
        width = max(sum(p.numel() for p in member.parameters.values()) for member in members)
        device = members[0].world.device
        self.weights, self.averages, self._first, self._second = (
            torch.zeros(len(members), width, device=device) for _ in range(4)
        )
        self._steps = torch.zeros(len(members), max(len(layout) for layout in layouts), device=device)
        for row, (member, layout) in enumerate(zip(members, layouts, strict=True)):
            self._take(row, member, layout)
        self.leaves: dict[str, Tensor] = {}
        for name, size, start in zip(names, sizes, accumulate([0, *sizes]), strict=False):
            shape = members[0].parameters[name].shape
            part = self.weights[:, start : start + size].unflatten(1, shape)
            self.leaves[name.removeprefix(_MODEL)] = part.detach().requires_grad_()
        self._learned = [
            (row, start, member.parameters[name])
            for row, (member, layout) in enumerate(zip(members, layouts, strict=True))
            for name, start in layout.items()
            if not name.startswith(_MODEL)
        ]
        self._gradient = torch.zeros_like(self.weights)
        self.norms = torch.zeros(len(members), device=device)
        """Norm of each row's gradient at the last step, before it was clipped, (K,)."""

    @torch.no_grad()
    def _take(self, row: int, member: Trainer, layout: dict[str, int]) -> None:
        """Copy a trainer's state into its row, and make the trainer's tensors views of it."""
        averages = dict(member.ema.model.named_parameters())
        for index, (name, start) in enumerate(layout.items()):
            parameter = member.parameters[name]
            _move(parameter, self.weights[row], start)
            if name.startswith(_MODEL):
                _move(averages[name.removeprefix(_MODEL)], self.averages[row], start)
            old = member.optimizer.state.get(parameter, {})
            state = {
                "step": self._steps[row, index],
                "exp_avg": _view(self._first[row], start, parameter),
                "exp_avg_sq": _view(self._second[row], start, parameter),
            }
            for key, value in old.items():
                state[key].copy_(value)
            member.optimizer.state[parameter] = state
        member.ema.follow(member.model)

    def backward(self, loss: Tensor) -> None:
        """Compute each member's gradient by its own weights; `loss` is the sum of the members' losses, ()."""
        inputs = [*self.leaves.values(), *(parameter for _, _, parameter in self._learned)]
        found = torch.autograd.grad(loss, inputs)
        model = [part.flatten(1) for part in found[: len(self.leaves)]]
        torch.cat(model, 1, out=self._gradient[:, : self._model_size])
        for (row, start, _), part in zip(self._learned, found[len(self.leaves) :], strict=True):
            self._gradient[row, start : start + part.numel()] = part.flatten()

    @torch.no_grad()
    def update(self, rates: Sequence[float], decays: Sequence[float], step: int) -> None:
        """Clip each row's gradient, then AdamW (Loshchilov & Hutter 2019, Alg. 2) and the averages, row by row.

        rates: learning rate of each row. decays: the share of each row's average that is kept. step: this update's
        number, from 1. Only elementwise arithmetic and a norm per row: values that are not finite stay in their row.
        """
        specs = [member.config.optimizer for member in self._members]
        eps = self._members[0].optimizer.defaults["eps"]
        rows = [
            (
                spec.clip_grad_norm,
                1 - spec.betas[0],
                1 - spec.betas[1],
                (1 - spec.betas[1] ** step) ** 0.5,
                rate / (1 - spec.betas[0] ** step),
                1 - rate * spec.weight_decay,
                1 - decay,
            )
            for spec, rate, decay in zip(specs, rates, decays, strict=True)
        ]
        numbers = torch.tensor(rows, dtype=torch.float32).to(self.weights.device, non_blocking=True)
        largest, new1, new2, root, size, kept, follow = numbers.t()[..., None].unbind(0)
        gradient = self._gradient
        self.norms = torch.linalg.vector_norm(gradient, dim=1)
        # 1e-6 as in torch.nn.utils.clip_grad_norm_.
        gradient.mul_((largest / (self.norms[:, None] + 1e-6)).clamp_(max=1.0))
        self._first.lerp_(gradient, new1)
        self._second.lerp_(gradient.square_(), new2)
        update = self._first / (self._second.sqrt().div_(root).add_(eps))
        self.weights.mul_(kept).sub_(update.mul_(size))
        self._steps.fill_(step)
        model = slice(0, self._model_size)
        self.averages[:, model].lerp_(self.weights[:, model], follow)


def _layout(member: Trainer) -> dict[str, int]:
    """The offset of each parameter in its row; the network's come first, in their order."""
    names = sorted(member.parameters, key=lambda name: not name.startswith(_MODEL))
    sizes = [member.parameters[name].numel() for name in names]
    return dict(zip(names, accumulate([0, *sizes]), strict=False))


def _view(row: Tensor, start: int, like: Tensor) -> Tensor:
    return row[start : start + like.numel()].view(like.shape)


def _move(parameter: Any, row: Tensor, start: int) -> None:
    """Copy a parameter into its place in `row`, and make it a view of that."""
    assert isinstance(parameter, nn.Parameter)
    view = _view(row, start, parameter)
    view.copy_(parameter)
    parameter.data = view
