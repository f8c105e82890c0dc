"""Winograd's F(4x4, 3x3): dilated 3x3 filters at 16 places of a map with 36 products a channel, not 144."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE, TILE = 4, 6  # places that a tile answers for, and features that it sees, in each direction


def _both_directions(rows: list[list[float]]) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)


FILTER = _both_directions(
    [[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
)
"""G: (36, 9)."""

FEATURE = _both_directions(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)  # fmt: skip
"""B^T: (36, 36)."""

ANSWER = _both_directions([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
"""A^T: (16, 36)."""


def combine(matrix: Tensor, x: Tensor) -> Tensor:
    """`FILTER`, `FEATURE` or a transpose (o, i) applied to the first dimension of x (i, ...): (o, ...)."""
    return (matrix.to(x) @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def answers(products: Tensor) -> Tensor:
    """A^T of the products of n filters with T tiles' features: (36, B, T, n) to (B, T, 16, n).

    A batch of small products of matrices, as for one with 16 rows and B T n columns MKL takes twice the time.
    """
    tiles = products.flatten(1, 2).transpose(0, 1)
    answered = torch.bmm(ANSWER.to(tiles).expand(len(tiles), -1, -1), tiles)
    return answered.reshape(*products.shape[1:3], *answered.shape[1:])


def answers_transposed(weights: Tensor) -> Tensor:
    """The transpose of `answers`: (B, T, 16, n) to (36, B, T, n)."""
    tiles = weights.flatten(0, 1)
    spread = torch.bmm(ANSWER.T.to(tiles).expand(len(tiles), -1, -1), tiles)
    return spread.view(*weights.shape[:2], *spread.shape[1:]).permute(2, 0, 1, 3)


@dataclass(frozen=True)
class Tiling:
    """How a map is cut into overlapping tiles, so that filters g act on all its places by products of channels.

    answers = A^T [(G g) * (B^T d)], d a tile's features: <g, patch> at its 4x4 places.
    Features of one tile lie `dilation` apart. Outside of the map lie zeros; the map is enlarged to whole tiles.
    Source: Lavin and Gray, CVPR 2016, arXiv:1509.09308; the matrices of their F(4x4, 3x3).

    Args:
        height, width: of the map.
        dilation: of the filters.
    Shapes:
        T tiles. Dimensions of 9, 16 and 36 are a patch's features, a tile's places and a tile's features, row by row.
    """

    height: int
    width: int
    dilation: int

    @property
    def _tiles(self) -> tuple[int, int]:
        span = SIDE * self.dilation
        return -(-self.height // span), -(-self.width // span)

    def features(self, x: Tensor) -> Tensor:
        """B^T d of all tiles: (B, C, h, w) to (36, B, T, C)."""
        d, (rows, columns) = self.dilation, self._tiles
        bottom, right = SIDE * d * rows - self.height, SIDE * d * columns - self.width
        padded = F.pad(x, (d, d + right, d, d + bottom))
        # Features `dilation` apart never meet the others: they are maps of their own.
        size = (SIDE * rows + 2, SIDE * columns + 2)
        maps = padded.reshape(*x.shape[:2], size[0], d, size[1], d).permute(0, 3, 5, 1, 2, 4).flatten(0, 2)
        tiles = F.unfold(maps, TILE, stride=SIDE).reshape(len(x), d * d, x.shape[1], TILE**2, -1)
        return combine(FEATURE, tiles.permute(3, 0, 1, 4, 2).flatten(2, 3))

    def put_back(self, tiles: Tensor) -> Tensor:
        """The transpose of `features`, which sums where tiles overlap: (36, B, T, C) to (B, C, h, w)."""
        d, (rows, columns) = self.dilation, self._tiles
        batch, channels = tiles.shape[1], tiles.shape[3]
        features = combine(FEATURE.T, tiles).reshape(TILE**2, batch, d * d, -1, channels).permute(1, 2, 4, 0, 3)
        size = (SIDE * rows + 2, SIDE * columns + 2)
        maps = F.fold(features.reshape(batch * d * d, channels * TILE**2, -1), size, TILE, stride=SIDE)
        whole = maps.reshape(batch, d, d, channels, *size).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
        return whole[..., d : d + self.height, d : d + self.width]

    def places(self, x: Tensor) -> Tensor:
        """A number at each place, where `answers` are: (B, 1, h, w) to (B, T, 16, 1); 0 outside of the map."""
        d, (rows, columns) = self.dilation, self._tiles
        padded = F.pad(x, (0, SIDE * d * columns - self.width, 0, SIDE * d * rows - self.height))
        tiles = padded.reshape(len(x), rows, SIDE, d, columns, SIDE, d).permute(0, 3, 6, 1, 4, 2, 5)
        return tiles.reshape(len(x), -1, SIDE**2, 1)
