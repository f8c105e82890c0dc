"""What a released implementation is here: our network of the same computation, and where its parameters go."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from src.checkpoints.releases.weights import Weights
from src.common.errors import InputError
from src.common.tensor_files import state_dict_mismatch

SPECTRAL_NORM = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}
"""Today's names of a spectrally normalised filter, and those of the time of the releases."""


@dataclass(frozen=True)
class Release:
    """A released network.

    Attributes:
        make: builds ours, which computes the same.
        modules: our module: theirs. A parameter's module is looked up by the longest entry its name starts with.
        parameters: our names of parameters within a module: theirs, where the two differ.
        swapped: their modules whose tensors run over two concatenated features along the first dimension, equally many
            channels each, in the order opposite to ours.
        constant: parts of their names whose tensors are never learned, and the value that all of it has: there is
            nothing of the kind here, and another value would be another network.
        aliases: first parts of names, as some files have them: as the table has them.
    """

    make: Callable[[], nn.Module]
    modules: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)
    swapped: frozenset[str] = frozenset()
    constant: Mapping[str, float] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def name(self, ours: str) -> str:
        """The release's name of one of our parameters or buffers."""
        module = max((m for m in self.modules if ours.startswith(f"{m}.")), key=len)
        parameter = ours.removeprefix(f"{module}.")
        return f"{self.modules[module]}.{self.parameters.get(parameter, parameter)}"

    def fits(self, readings: Mapping[str, Weights]) -> bool:
        """Whether a file holds this release, by names and shapes."""
        with torch.device("meta"):  # no memory, no random numbers
            network = self.make()
        try:
            self._fitted(network, readings)
        except InputError:
            return False
        return True

    def load(self, readings: Mapping[str, Weights]) -> nn.Module:
        """Our network with a file's weights, in eval mode on the CPU.

        Args:
            readings: of the file, as `read_weights` returns them; that with the most of the wanted names is taken.
        Raises:
            InputError: names are missing or unknown, shapes differ, values are not finite numbers, or several parts of
                the file hold different weights of these names.
        """
        with torch.random.fork_rng(devices=[]):  # the weights it starts with are lost at once
            network = self.make()
        network.load_state_dict(network.state_dict() | self._fitted(network, readings))
        return network.eval()

    def _fitted(self, network: nn.Module, readings: Mapping[str, Weights]) -> Weights:
        """The file's weights by our names, as they are to be loaded."""
        expected = network.state_dict()
        wanted = {self.name(ours): ours for ours in expected}
        given = {
            name: _per_channel(tensor, expected[wanted[name]]) if name in wanted else tensor
            for name, tensor in self._without_constants(self._chosen(readings, wanted)).items()
        }
        needed = {
            name: expected[ours]
            for name, ours in wanted.items()
            # Files from before PyTorch 0.4.1 do not count batches, which eval mode doesn't need.
            if name in given or not name.endswith("num_batches_tracked")
        }
        if differing := state_dict_mismatch(needed, given):
            raise InputError(differing)
        for name, tensor in given.items():
            counts = name.endswith("num_batches_tracked")
            if not counts and not (tensor.is_floating_point() and bool(tensor.isfinite().all())):
                raise InputError(f"{name} holds something other than finite real numbers")
        return {wanted[name]: self._in_our_order(name, tensor) for name, tensor in given.items()}

    def _chosen(self, readings: Mapping[str, Weights], wanted: Mapping[str, str]) -> Weights:
        """The reading with the most of the wanted names."""
        found = {place: self._without_aliases(weights) for place, weights in readings.items()}
        shared = {place: wanted.keys() & weights.keys() for place, weights in found.items()}
        first = max(found, key=lambda place: len(shared[place]))
        for place, weights in found.items():
            if shared[place] == shared[first] and any(
                not torch.equal(weights[name], found[first][name]) for name in shared[first] if place != first
            ):
                raise InputError(f"it holds different weights at {first!r} and at {place!r}: give one of the parts")
        return found[first]

    def _without_aliases(self, weights: Weights) -> Weights:
        heads = {name: name.partition(".") for name in weights}
        return {"".join((self.aliases.get(h, h), dot, rest)): weights[name] for name, (h, dot, rest) in heads.items()}

    def _without_constants(self, weights: Weights) -> Weights:
        learned = {}
        for name, tensor in weights.items():
            values = {value for part, value in self.constant.items() if f".{part}" in f".{name}"}
            if not values:
                learned[name] = tensor
            elif not all(bool((tensor == value).all()) for value in values):
                raise InputError(f"{name} must be {values.pop():g} everywhere, as it is fixed")
        return learned

    def _in_our_order(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.ndim and name.rpartition(".")[0] in self.swapped:
            return torch.cat(tensor.chunk(2)[::-1])
        return tensor


def _per_channel(tensor: Tensor, ours: Tensor) -> Tensor:
    """A bias (C,) as (C, 1, 1) where it is stored so here."""
    return tensor[:, None, None] if ours.shape == (*tensor.shape, 1, 1) else tensor
