"""Winograd convolution F(4x4, 3x3) with dilation: 36 multiplications per channel for 4x4 outputs instead of 144."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE, TILE = 4, 6  # outputs and inputs of a tile in each direction


def _both_directions(rows: list[list[float]]) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix)


FILTER_TRANSFORM = _both_directions(
    [[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
)
"""G: (36, 9)."""

INPUT_TRANSFORM = _both_directions(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)  # fmt: skip
"""B^T: (36, 36)."""

OUTPUT_TRANSFORM = _both_directions(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
"""A^T: (16, 36)."""


def apply_transform(matrix: Tensor, x: Tensor) -> Tensor:
    """Apply a transform (o, i), such as `FILTER_TRANSFORM`, to the first dimension of x: (i, ...) to (o, ...)."""
    return (matrix.to(x) @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def transform_output(products: Tensor) -> Tensor:
    """Apply A^T to the products of n filters with T tiles: (36, B, T, n) to (B, T, 16, n).

    Uses a batch of small matrix products: one product with 16 rows and B T n columns takes MKL twice the time.
    """
    tiles = products.flatten(1, 2).transpose(0, 1)
    answered = torch.bmm(OUTPUT_TRANSFORM.to(tiles).expand(len(tiles), -1, -1), tiles)
    return answered.reshape(*products.shape[1:3], *answered.shape[1:])


def transform_output_transposed(weights: Tensor) -> Tensor:
    """Apply the transpose of `transform_output`: (B, T, 16, n) to (36, B, T, n)."""
    tiles = weights.flatten(0, 1)
    spread = torch.bmm(OUTPUT_TRANSFORM.T.to(tiles).expand(len(tiles), -1, -1), tiles)
    return spread.view(*weights.shape[:2], *spread.shape[1:]).permute(2, 0, 1, 3)


@dataclass(frozen=True)
class Tiling:
    """Division of a feature map into overlapping tiles for Winograd convolution with filters g.

    output = A^T [(G g) * (B^T d)], where d are the inputs of a tile: <g, patch> at its 4x4 positions.
    The inputs of a tile are `dilation` apart. The map is padded with zeros to a whole number of tiles.
    Source: Lavin and Gray, CVPR 2016, arXiv:1509.09308; the matrices of F(4x4, 3x3).

    Args:
        height, width: size of the map.
        dilation: dilation of the filters.
    Shapes:
        T is the number of tiles. Dimensions of 9, 16 and 36 hold the values of a patch, the outputs of a tile and the
        inputs of a tile, each in row-major order.
    """

    height: int
    width: int
    dilation: int

    @property
    def _tiles(self) -> tuple[int, int]:
        span = SIDE * self.dilation
        return -(-self.height // span), -(-self.width // span)

    def features(self, x: Tensor) -> Tensor:
        """Return B^T d for all tiles: (B, C, h, w) to (36, B, T, C)."""
        d, (rows, columns) = self.dilation, self._tiles
        bottom, right = SIDE * d * rows - self.height, SIDE * d * columns - self.width
        padded = F.pad(x, (d, d + right, d, d + bottom))
        # Positions `dilation` apart interact only with each other, so they form maps of their own.
        size = (SIDE * rows + 2, SIDE * columns + 2)
        maps = padded.reshape(*x.shape[:2], size[0], d, size[1], d).permute(0, 3, 5, 1, 2, 4).flatten(0, 2)
        tiles = F.unfold(maps, TILE, stride=SIDE).reshape(len(x), d * d, x.shape[1], TILE**2, -1)
        return apply_transform(INPUT_TRANSFORM, tiles.permute(3, 0, 1, 4, 2).flatten(2, 3))

    def put_back(self, tiles: Tensor) -> Tensor:
        """Apply the transpose of `features`, summing where tiles overlap: (36, B, T, C) to (B, C, h, w)."""
        d, (rows, columns) = self.dilation, self._tiles
        batch, channels = tiles.shape[1], tiles.shape[3]
        features = (
            apply_transform(INPUT_TRANSFORM.T, tiles)
            .reshape(TILE**2, batch, d * d, -1, channels)
            .permute(1, 2, 4, 0, 3)
        )
        size = (SIDE * rows + 2, SIDE * columns + 2)
        maps = F.fold(features.reshape(batch * d * d, channels * TILE**2, -1), size, TILE, stride=SIDE)
        whole = maps.reshape(batch, d, d, channels, *size).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
        return whole[..., d : d + self.height, d : d + self.width]

    def places(self, x: Tensor) -> Tensor:
        """Arrange one value per position like `transform_output`: (B, 1, h, w) to (B, T, 16, 1), 0 outside the map."""
        d, (rows, columns) = self.dilation, self._tiles
        padded = F.pad(x, (0, SIDE * d * columns - self.width, 0, SIDE * d * rows - self.height))
        tiles = padded.reshape(len(x), rows, SIDE, d, columns, SIDE, d).permute(0, 3, 6, 1, 4, 2, 5)
        return tiles.reshape(len(x), -1, SIDE**2, 1)
