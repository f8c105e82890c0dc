"""Attention maps made from the mask (LBAM, Secs. 3.1 to 3.3): how much each feature of each layer counts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from src.networks.ops.small_maps import SmallMapConv2d

MASK_CHANNELS = 3  # the supplement gives M_in as 256x256x3: three equal channels


class _AsymmetricGaussianFunction(torch.autograd.Function):
    """g_A with one exponential, in place, of which nothing but m is kept for the one backward pass that there can be.

    With s = 1 where m < mu, else 0:
    g_A = e (a - 1 + s) + 1 - s;  e = exp(-gamma (m - mu)^2);  gamma = gamma_l s + gamma_r (1 - s)
    Products with s choose between the sides, as torch.where of two numbers is many times slower on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, m: Tensor, a: Tensor, mu: Tensor, gamma_l: Tensor, gamma_r: Tensor) -> Tensor:
        """g_A; m of any shape, the others scalars."""
        ctx.save_for_backward(m, a, mu, gamma_l, gamma_r)
        distance = _in_float(m) - mu
        is_left = (distance < 0).to(distance.dtype)
        negative_gamma = (is_left * (gamma_r - gamma_l)).sub_(gamma_r)
        bell = distance.square_().mul_(negative_gamma).exp_()
        left = is_left.mul_(bell - 1)  # what below mu differs by
        return bell.mul_(a - 1).add_(1).add_(left).to(m.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The slopes of m and of the four numbers."""
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
    """Half precision as float32: powers and exponentials are computed in it, also where autocast would not."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def asymmetric_gaussian(m: Tensor, a: Tensor, mu: Tensor, gamma_l: Tensor, gamma_r: Tensor) -> Tensor:
    """g_A of LBAM's Eq. 9 for m of any shape; the four numbers are scalars."""
    g_a: Tensor = _AsymmetricGaussianFunction.apply(m, a, mu, gamma_l, gamma_r)  # type: ignore[no-untyped-call]
    return g_a


class AsymmetricGaussian(nn.Module):
    """g_A, Eq. 9: a bell of height `a` at `mu`, falling to 0 below it and to 1 above it; all four are learned.

    g_A(m) = a exp(-gamma_l (m - mu)^2) if m < mu, else 1 + (a - 1) exp(-gamma_r (m - mu)^2)
    Source: Xie et al., ICCV 2019, arXiv:1909.00968v3.
    Departs from the paper: the four numbers start as the release's do in reverse. Those under Eq. 9, (1.1, 2, 1, 1),
    give 0.02 at m = 0, near which m starts, and weight all features with that; these give 0.67.
    Departs from the authors' release, as the paper does: the four numbers are not clamped; there it is
    `ClampedAsymmetricGaussian`.
    """

    def __init__(self, a: float = 1.1, mu: float = 1.0, gamma_l: float = 0.5, gamma_r: float = 0.5) -> None:
        super().__init__()
        self.a, self.mu = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(mu))
        self.gamma_l, self.gamma_r = nn.Parameter(torch.tensor(gamma_l)), nn.Parameter(torch.tensor(gamma_r))

    def forward(self, m: Tensor) -> Tensor:
        """g_A of every element; any shape."""
        return asymmetric_gaussian(m, self.a, self.mu, self.gamma_l, self.gamma_r)


class ClampedAsymmetricGaussian(nn.Module):
    """g_A as LBAM's release has it: its four numbers count only within the ranges of `RANGES`.

    Each call takes the nearest number of the range, and the gradient reaches the parameter as if it were that number.
    Departs from the release: it writes the nearest number into the parameter itself, at each call and in evaluation,
    too; here what is stored stays, and may wander off further before a gradient turns it round.
    """

    RANGES = MappingProxyType({"a": (1.01, 6.0), "mu": (0.1, 3.0), "gamma_l": (0.5, 2.0), "gamma_r": (0.5, 2.0)})

    def __init__(self, a: float = 1.1, mu: float = 2.0, gamma_l: float = 1.0, gamma_r: float = 1.0) -> None:
        super().__init__()
        self.a, self.mu = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(mu))
        self.gamma_l, self.gamma_r = nn.Parameter(torch.tensor(gamma_l)), nn.Parameter(torch.tensor(gamma_r))

    def forward(self, m: Tensor) -> Tensor:
        """g_A of every element; any shape."""
        numbers = (_within(getattr(self, name), *ends) for name, ends in self.RANGES.items())
        return asymmetric_gaussian(m, *numbers)


def _within(value: Tensor, low: float, high: float) -> Tensor:
    """The range's nearest number to a value, whose gradient is the value's, outside the range as well."""
    return value.detach().clamp(low, high) + (value - value.detach())  # in this order the sum is exact


released_reverse_gaussian = partial(ClampedAsymmetricGaussian, a=1.1, mu=1.0, gamma_l=0.5, gamma_r=0.5)
"""g_A of a reverse map of LBAM's release, with the numbers that it starts at."""


class Reciprocal(nn.Module):
    """f_A, Eq. 4, the rule of partial convolution: 1/m where m > 0, else 0."""

    def forward(self, m: Tensor) -> Tensor:
        """f_A of every element; any shape."""
        some_known = m > 0
        return some_known / torch.where(some_known, m, 1.0)  # where: the gradient of 1/0 would be NaN


def power_relu(m: Tensor, alpha: float = 0.8) -> Tensor:
    """g_M, Eq. 8: ReLU(m)^alpha; m of any shape.

    relu, not clamp: the power's gradient is infinite at 0, which every hole holds, and relu's backward stops it there.
    alpha = 0 is not f_M, whatever the text under Eq. 8 says: 0 ** 0 is 1.
    """
    return m.relu().pow(alpha)


def binary(m: Tensor) -> Tensor:
    """f_M, Eq. 5, the rule of partial convolution: 1 where m > 0, else 0; m of any shape."""
    return (m > 0).to(m.dtype)


class BoxMean(nn.Module):
    """The unlearned mask convolution: the mean over a window, stride 2, zeros around the mask.

    Source: LBAM, Sec. 4.4, "all the elements in mask convolution filters are set as 1/16". With C input channels that
    reads as 1/(16 C), so that f_A stays 1 where everything is known; 1/16 itself would scale the features by 1/C.

    Args:
        kernel_size: 4, LBAM's 1/16, or 3, the k_1/9 of Edge-LBAM's Sec. 4.3: both halve an even size.
    """

    def __init__(self, kernel_size: int = 4) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, mask: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, 1, H/2, W/2): all output channels would be equal, so there is one."""
        return F.avg_pool2d(mask.mean(1, keepdim=True), self.kernel_size, stride=2, padding=1)


class MaskUpdate(nn.Module):
    """A level's g_M as a module, so that the updated mask can be recorded; it learns nothing."""

    def __init__(self, update: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = update

    def forward(self, m: Tensor) -> Tensor:
        """g_M of every element; any shape."""
        return self.function(m)


def expand_mask(mask: Tensor, edges: Tensor | None) -> Tensor:
    """The first mask convolution's input: the mask (B, 1, H, W) as `MASK_CHANNELS` equal channels, and no edges."""
    return mask.expand(-1, MASK_CHANNELS, -1, -1)


class AttentionMaps(nn.Module, ABC):
    """All attention maps of one direction, forward or reverse: what the U-Net multiplies its features with.

    Attributes:
        attend: the modules whose outputs are the maps, shallow to deep.
        update: the modules whose outputs are the updated masks, shallow to deep.
        takes_edges: whether the maps can't do without edges.
    """

    attend: nn.ModuleList
    update: nn.ModuleList
    takes_edges: bool = False

    @abstractmethod
    def forward(self, mask: Tensor, edges: Tensor | None) -> tuple[Tensor, ...]:
        """Make every level's map.

        Shapes:
            mask (B, 1, H, W): 1 where this direction's features count, which is 1 - mask for the reverse direction.
            edges (B, 1, H, W) or None. Returns one map a level, (B, 1 or C_l, H/2^l, W/2^l), shallow to deep.
        """


class MaskChain(AttentionMaps):
    """Each level convolves the mask that the level before updated.

    m_l = mask_conv_l(mask_l-1);  map_l = attend_l(m_l);  mask_l = update(m_l)                    (Eqs. 10, 11)
    Source: Xie et al., ICCV 2019, supplement Table 2, right column.

    Args:
        mask_convs, attend: one a level, shallow to deep.
        update: g_M itself; a plain function, as it learns nothing.
        enter: makes mask_0, what the first convolution sees, from mask and edges; the edges are not used elsewhere.
        takes_edges: whether `enter` can't do without edges.
    """

    def __init__(
        self,
        mask_convs: Iterable[nn.Module],
        attend: Iterable[nn.Module],
        update: Callable[[Tensor], Tensor],
        enter: Callable[[Tensor, Tensor | None], Tensor] = expand_mask,
        takes_edges: bool = False,
    ) -> None:
        super().__init__()
        self.takes_edges = takes_edges
        self.mask_convs, self.attend, self.enter = nn.ModuleList(mask_convs), nn.ModuleList(attend), enter
        self.update = nn.ModuleList(MaskUpdate(update) for _ in self.mask_convs)

    def forward(self, mask: Tensor, edges: Tensor | None = None) -> tuple[Tensor, ...]:
        """Make every level's map; shapes as in `AttentionMaps`."""
        maps = []
        mask = self.enter(mask, edges)
        for mask_conv, attend, update in zip(self.mask_convs, self.attend, self.update, strict=True):
            m = mask_conv(mask)
            maps.append(attend(m))
            mask = update(m)
        return tuple(maps)


def near_zero(filters: Tensor) -> Tensor:
    """Start filters as N(0, 0.02^2), in place."""
    return nn.init.normal_(filters, std=0.02)


def non_negative(filters: Tensor, all_known: float) -> Tensor:
    """Start filters, in place, so that m is `all_known` on average where all of a mask of ones is seen, 0 in holes."""
    return nn.init.uniform_(filters, 0, 2 * all_known / filters[0].numel())


class MaskConv2d(SmallMapConv2d):
    """A mask convolution: stride 2, padding 1, no bias, which would make known what is not.

    Where all channels of the mask are one that is expanded, as `expand_mask` makes them, it is convolved once, with the
    sum of the filters.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 4) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, H/2, W/2)."""
        if x.stride(1) == 0:
            return self.convolve(x[:, :1], self.weight.sum(1, keepdim=True))
        return self.convolve(x, self.weight)


def learned_mask_conv(
    in_channels: int, out_channels: int, kernel_size: int = 4, start: Callable[[Tensor], Tensor] = near_zero
) -> MaskConv2d:
    """A mask convolution of which `start` fills the filters, in place."""
    conv = MaskConv2d(in_channels, out_channels, kernel_size)
    start(conv.weight)
    return conv


def learnable_maps(
    channels: Sequence[int],
    attend: Callable[[], nn.Module] = AsymmetricGaussian,
    update: Callable[[Tensor], Tensor] = power_relu,
    kernel_size: int = 4,
    start: Callable[[Tensor], Tensor] = near_zero,
) -> MaskChain:
    """The paper's maps: learned mask filters, stride 2, padding 1, no bias, which would make known what is not.

    Where the paper is silent, as the release: the filters start as N(0, 0.02^2), so m starts near 0 and g_A near 0.67,
    known or not. Filters that tell holes apart from the first step trained to a lower PSNR: after 150 steps at mini
    scale without the adversarial term (two seeds) 18.31 and 17.98 dB as here, 18.34 and 17.47 with `non_negative`
    filters that put a fully known window at mu, where g_A peaks, and 17.85 and 17.29 with He's.

    Args:
        channels: of the maps, shallow to deep.
        attend: makes g_A; a factory, so that every layer owns its numbers.
        kernel_size: 4, or 3 ("3x3 filter for mask updating", Table 2): both halve an even size.
        start: fills the mask filters, in place.
    """
    mask_convs = [learned_mask_conv(i, o, kernel_size, start) for i, o in pairwise((MASK_CHANNELS, *channels))]
    return MaskChain(mask_convs, [attend() for _ in channels], update)


released_maps = partial(learnable_maps, attend=ClampedAsymmetricGaussian, start=partial(non_negative, all_known=2.0))
released_reverse_maps = partial(
    learnable_maps, attend=released_reverse_gaussian, start=partial(non_negative, all_known=1.0)
)
"""Those of LBAM's release: g_A's numbers are clamped, and start elsewhere in reverse.

Departs from the release: where all is known its filters, N(0, 0.02^2), put m near 0, and here m is g_A's mu; see
`released_lbam`.
"""


def unlearned_maps(channels: Sequence[int], kernel_size: int = 4) -> MaskChain:
    """Ours(unlearned) of Table 2: partial convolution's rule, Eqs. 4 and 5, in the place of the learned one.

    Args:
        channels: as for `learnable_maps`; only their number matters, as every map has one channel.
        kernel_size: 4 as in LBAM, or 3 for BF and BR of Edge-LBAM's Table 5, whose filters are k_1/9.
    """
    return MaskChain([BoxMean(kernel_size) for _ in channels], [Reciprocal() for _ in channels], binary)


class NoMaps(AttentionMaps):
    """Features count as they are: the reverse side of Ours(forward), Table 2."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.attend, self.update, self.levels = nn.ModuleList(), nn.ModuleList(), len(channels)

    def forward(self, mask: Tensor, edges: Tensor | None = None) -> tuple[Tensor, ...]:
        """One map of a single 1 a level, (1, 1, 1, 1)."""
        return (mask.new_ones(1, 1, 1, 1),) * self.levels
