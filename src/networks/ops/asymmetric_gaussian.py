"""The asymmetric Gaussian g_A of LBAM (Eq. 9) as a fast function with a gradient of its own."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _AsymmetricGaussianFunction(torch.autograd.Function):
    """g_A with a single in-place exponential; only m is saved for backward. Not twice differentiable.

    With s = 1 where m < mu, else 0:
    g_A = e (a - 1 + s) + 1 - s;  e = exp(-gamma (m - mu)^2);  gamma = gamma_l s + gamma_r (1 - s)
    Multiplying by s selects the side, as torch.where of two scalars is many times slower on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, m: Tensor, a: Tensor, mu: Tensor, gamma_l: Tensor, gamma_r: Tensor) -> Tensor:
        """Compute g_A for m of any shape; the other arguments are scalars."""
        ctx.save_for_backward(m, a, mu, gamma_l, gamma_r)
        distance = _in_float(m) - mu
        is_left = (distance < 0).to(distance.dtype)
        negative_gamma = (is_left * (gamma_r - gamma_l)).sub_(gamma_r)
        bell = distance.square_().mul_(negative_gamma).exp_()
        left = is_left.mul_(bell - 1)  # the correction below mu
        return bell.mul_(a - 1).add_(1).add_(left).to(m.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of m and of the four parameters."""
        m, a, mu, gamma_l, gamma_r = ctx.saved_tensors
        distance, gradient = _in_float(m) - mu, _in_float(gradient)
        is_left = (distance < 0).to(distance.dtype)
        negative_gamma = (is_left * (gamma_r - gamma_l)).sub_(gamma_r)
        squared = distance.square()
        of_bell = (squared * negative_gamma).exp_().mul_(gradient)
        of_a = of_bell.sum()
        of_bell.mul_(is_left + (a - 1))
        of_m = distance.mul_(negative_gamma).mul_(of_bell).mul_(2)
        right = squared.mul_(of_bell)
        left = is_left.mul_(right)
        of_gamma_l = -left.sum()
        return of_m.to(m.dtype), of_a, -of_m.sum(), of_gamma_l, -right.sub_(left).sum()


def _in_float(t: Tensor) -> Tensor:
    """Convert half precision to float32 for powers and exponentials, with or without autocast."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def asymmetric_gaussian(m: Tensor, a: Tensor, mu: Tensor, gamma_l: Tensor, gamma_r: Tensor) -> Tensor:
    """Compute g_A (LBAM, Eq. 9) for m of any shape; the four parameters are scalars."""
    g_a: Tensor = _AsymmetricGaussianFunction.apply(m, a, mu, gamma_l, gamma_r)  # type: ignore[no-untyped-call]
    return g_a


def clamp_straight_through(value: Tensor, low: float, high: float) -> Tensor:
    """Clamp a value, passing its gradient unchanged."""
    return value.detach().clamp(low, high) + (value - value.detach())  # in this order the sum is exact
