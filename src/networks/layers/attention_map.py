"""Attention maps computed from the mask (LBAM, Secs. 3.1 to 3.3)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.networks.ops.asymmetric_gaussian import asymmetric_gaussian, clamp_straight_through
from src.networks.ops.small_maps import SmallMapConv2d

MASK_CHANNELS = 3  # M_in is 256x256x3 in the supplement: three equal channels


class AsymmetricGaussian(nn.Module):
    """g_A, Eq. 9: a bell of height `a` at `mu` that falls to 0 below and to 1 above, with learned parameters.

    g_A(m) = a exp(-gamma_l (m - mu)^2) if m < mu, else 1 + (a - 1) exp(-gamma_r (m - mu)^2)
    Source: Xie et al., ICCV 2019, arXiv:1909.00968v3.
    Departs from the paper: the initial parameters are those of the release's reverse maps. With those printed under
    Eq. 9, (1.1, 2, 1, 1), g_A is 0.02 at m = 0, which m is close to at first; these give 0.67.
    Departs from the release, as the paper does: no clamping (`ClampedAsymmetricGaussian`).
    """

    def __init__(self, a: float = 1.1, mu: float = 1.0, gamma_l: float = 0.5, gamma_r: float = 0.5) -> None:
        super().__init__()
        self.a, self.mu = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(mu))
        self.gamma_l, self.gamma_r = nn.Parameter(torch.tensor(gamma_l)), nn.Parameter(torch.tensor(gamma_r))

    def forward(self, m: Tensor) -> Tensor:
        """Compute g_A element-wise."""
        return asymmetric_gaussian(m, self.a, self.mu, self.gamma_l, self.gamma_r)


class ClampedAsymmetricGaussian(nn.Module):
    """g_A as in LBAM's release: its four parameters are clamped to `RANGES`, with an unchanged gradient.

    Departs from the release, which writes the clamped values back into the parameters. Here they may leave the range.
    """

    RANGES = MappingProxyType({"a": (1.01, 6.0), "mu": (0.1, 3.0), "gamma_l": (0.5, 2.0), "gamma_r": (0.5, 2.0)})

    def __init__(self, a: float = 1.1, mu: float = 2.0, gamma_l: float = 1.0, gamma_r: float = 1.0) -> None:
        super().__init__()
        self.a, self.mu = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(mu))
        self.gamma_l, self.gamma_r = nn.Parameter(torch.tensor(gamma_l)), nn.Parameter(torch.tensor(gamma_r))

    def forward(self, m: Tensor) -> Tensor:
        """Compute g_A element-wise."""
        clamped = (clamp_straight_through(getattr(self, name), *ends) for name, ends in self.RANGES.items())
        return asymmetric_gaussian(m, *clamped)


released_reverse_gaussian = partial(ClampedAsymmetricGaussian, a=1.1, mu=1.0, gamma_l=0.5, gamma_r=0.5)
"""g_A of the reverse maps in LBAM's release, with its initial parameters."""


class Reciprocal(nn.Module):
    """f_A, Eq. 4, the attention of partial convolution: 1/m where m > 0, else 0."""

    def forward(self, m: Tensor) -> Tensor:
        """Compute f_A element-wise."""
        some_known = m > 0
        return some_known / torch.where(some_known, m, 1.0)  # the gradient of 1/0 would be NaN


def power_relu(m: Tensor, alpha: float = 0.8) -> Tensor:
    """Compute g_M, Eq. 8: ReLU(m)^alpha for m of any shape.

    The gradient of the power is infinite at 0, the value in holes; ReLU's backward stops it, a clamp's would not.
    alpha = 0 does not give f_M, as the text under Eq. 8 says, because 0 ** 0 is 1.
    """
    return m.relu().pow(alpha)


def binary(m: Tensor) -> Tensor:
    """Compute f_M, Eq. 5, the mask update of partial convolution: 1 where m > 0, else 0; any shape."""
    return (m > 0).to(m.dtype)


class BoxMean(nn.Module):
    """The unlearned mask convolution: the mean over a window, stride 2, zero padding.

    Source: LBAM, Sec. 4.4, "all the elements in mask convolution filters are set as 1/16". With C input channels this
    is read as 1/(16 C), so that f_A is 1 where everything is known; 1/16 would scale the features by 1/C.

    Args:
        kernel_size: 4 (LBAM's 1/16) or 3 (k_1/9 in Edge-LBAM, Sec. 4.3); both halve an even size.
    """

    def __init__(self, kernel_size: int = 4) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, mask: Tensor) -> Tensor:
        """Average (B, C, H, W) to (B, 1, H/2, W/2); one channel suffices, as all would be equal."""
        return F.avg_pool2d(mask.mean(1, keepdim=True), self.kernel_size, stride=2, padding=1)


class MaskUpdate(nn.Module):
    """g_M as a module without parameters, so that hooks can record the updated mask."""

    def __init__(self, update: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = update

    def forward(self, m: Tensor) -> Tensor:
        """Compute g_M element-wise."""
        return self.function(m)


def expand_mask(mask: Tensor, edges: Tensor | None) -> Tensor:
    """Expand the mask (B, 1, H, W) to `MASK_CHANNELS` equal channels, without the edges."""
    return mask.expand(-1, MASK_CHANNELS, -1, -1)


class AttentionMaps(nn.Module, ABC):
    """All attention maps of one direction, forward or reverse, by which the U-Net multiplies its features."""

    attend: nn.ModuleList  # its outputs are the maps, shallow to deep
    update: nn.ModuleList  # its outputs are the updated masks, shallow to deep
    takes_edges: bool = False  # whether edges are required

    @abstractmethod
    def forward(self, mask: Tensor, edges: Tensor | None) -> tuple[Tensor, ...]:
        """Compute the maps of all levels.

        Shapes:
            mask (B, 1, H, W), 1 where the features of this direction count, so 1 - mask for the reverse direction;
            edges (B, 1, H, W) or None. Returns one map per level, (B, 1 or C_l, H/2^l, W/2^l), shallow to deep.
        """


class MaskChain(AttentionMaps):
    """Attention maps whose levels each convolve the updated mask of the previous level.

    m_l = mask_conv_l(mask_l-1);  map_l = attend_l(m_l);  mask_l = update(m_l)                    (Eqs. 10, 11)
    Source: Xie et al., ICCV 2019, supplement Table 2, right column.

    Args:
        mask_convs, attend: modules of each level, shallow to deep.
        update: the function g_M.
        make_input: makes mask_0, the input of the first convolution, from mask and edges.
        takes_edges: whether `make_input` requires edges.
    """

    def __init__(
        self,
        mask_convs: Iterable[nn.Module],
        attend: Iterable[nn.Module],
        update: Callable[[Tensor], Tensor],
        make_input: Callable[[Tensor, Tensor | None], Tensor] = expand_mask,
        takes_edges: bool = False,
    ) -> None:
        super().__init__()
        self.takes_edges = takes_edges
        self.mask_convs, self.attend, self.make_input = nn.ModuleList(mask_convs), nn.ModuleList(attend), make_input
        self.update = nn.ModuleList(MaskUpdate(update) for _ in self.mask_convs)

    def forward(self, mask: Tensor, edges: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the maps of all levels; shapes as in `AttentionMaps`."""
        maps = []
        mask = self.make_input(mask, edges)
        for mask_conv, attend, update in zip(self.mask_convs, self.attend, self.update, strict=True):
            m = mask_conv(mask)
            maps.append(attend(m))
            mask = update(m)
        return tuple(maps)


def near_zero(filters: Tensor) -> Tensor:
    """Initialise filters in place from N(0, 0.02^2)."""
    return nn.init.normal_(filters, std=0.02)


def non_negative(filters: Tensor, all_known: float) -> Tensor:
    """Initialise filters in place so that m is `all_known` on average in fully known windows, and 0 in holes."""
    return nn.init.uniform_(filters, 0, 2 * all_known / filters[0].numel())


class MaskConv2d(SmallMapConv2d):
    """A mask convolution with stride 2 and padding 1. It has no bias, which would turn unknown values into known ones.

    If all channels are expanded from one, as by `expand_mask`, that one is convolved with the sum of the filters.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 4, start: Callable[[Tensor], Tensor] = near_zero
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=2, padding=1)
        start(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, in_channels, H, W) to (B, out_channels, H/2, W/2)."""
        if x.stride(1) == 0:
            return self.convolve(x[:, :1], self.weight.sum(1, keepdim=True))
        return self.convolve(x, self.weight)


def learnable_maps(
    channels: Sequence[int],
    attend: Callable[[], nn.Module] = AsymmetricGaussian,
    update: Callable[[Tensor], Tensor] = power_relu,
    kernel_size: int = 4,
    start: Callable[[Tensor], Tensor] = near_zero,
) -> MaskChain:
    """Build the maps of the paper, with learned mask filters.

    Where the paper is silent, as the release: filters are initialised from N(0, 0.02^2), so at first m is near 0 and
    g_A near 0.67, known or not. Filters that distinguish holes from the first step are not better
    (src/networks/README.md).

    Args:
        channels: channels of the maps, shallow to deep.
        attend: makes g_A; a factory, so that each layer has its own parameters.
        update: the function g_M.
        kernel_size: 4, or 3 ("3x3 filter for mask updating", Table 2); both halve an even size.
        start: initialises the mask filters in place.
    """
    mask_convs = [MaskConv2d(i, o, kernel_size, start) for i, o in pairwise((MASK_CHANNELS, *channels))]
    return MaskChain(mask_convs, [attend() for _ in channels], update)


released_maps = partial(learnable_maps, attend=ClampedAsymmetricGaussian, start=partial(non_negative, all_known=2.0))
released_reverse_maps = partial(
    learnable_maps, attend=released_reverse_gaussian, start=partial(non_negative, all_known=1.0)
)
"""Maps of LBAM's release, except for the initial filters: its N(0, 0.02^2) put m near 0 where everything is known."""


def unlearned_maps(channels: Sequence[int], kernel_size: int = 4) -> MaskChain:
    """Build the maps of Ours(unlearned) in Table 2, which follow partial convolution (Eqs. 4 and 5).

    Each map has one channel. A kernel_size of 3 is for BF and BR in Table 5 of Edge-LBAM, whose filters are k_1/9.
    """
    return MaskChain([BoxMean(kernel_size) for _ in channels], [Reciprocal() for _ in channels], binary)


class NoMaps(AttentionMaps):
    """Maps of ones, which leave the features unchanged: the reverse direction of Ours(forward), Table 2."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.attend, self.update, self.levels = nn.ModuleList(), nn.ModuleList(), len(channels)

    def forward(self, mask: Tensor, edges: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return one map of ones per level, (1, 1, 1, 1)."""
        return (mask.new_ones(1, 1, 1, 1),) * self.levels
