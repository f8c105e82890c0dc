"""What a released implementation is here: our network of the same computation, and where its parameters go."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor, nn

from src.errors import InputError
from src.releases.weights import Weights

SHOWN = 3  # names a message lists of each kind

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
        swapped: their modules whose inputs are two concatenated halves, in the order opposite to ours.
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

    def load(self, readings: Mapping[str, Weights], origin: str) -> nn.Module:
        """Our network with a file's weights, in eval mode on the CPU.

        Args:
            readings: of the file, as `read_weights` returns them; that with the most of the wanted names is taken.
            origin: what to call the file in messages.
        Raises:
            InputError: names are missing or unknown, or shapes differ.
        """
        network = self.make()
        wanted = {self.name(ours): ours for ours in network.state_dict()}
        given = max(
            (self._without_aliases(weights) for weights in readings.values()),
            key=lambda weights: len(wanted.keys() & weights.keys()),
        )
        given = self._without_constants(given, origin)
        expected = network.state_dict()
        # Files from before PyTorch 0.4.1 do not count batches, which eval mode doesn't need.
        missing = [n for n in wanted if n not in given and not n.endswith("num_batches_tracked")]
        unexpected = [name for name in given if name not in wanted]
        misshapen = [
            f"{name} is {tuple(given[name].shape)} and must be {tuple(expected[ours].shape)}"
            for name, ours in wanted.items()
            if name in given and given[name].shape != expected[ours].shape
        ]
        kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
        if any(kinds.values()):
            raise InputError(f"{origin} does not fit: " + "; ".join(_listed(k, n) for k, n in kinds.items() if n))
        network.load_state_dict(
            expected | {ours: self._in_our_order(name, given[name]) for name, ours in wanted.items() if name in given}
        )
        return network.eval()

    def _without_aliases(self, weights: Weights) -> Weights:
        heads = {name: name.partition(".") for name in weights}
        return {"".join((self.aliases.get(h, h), dot, rest)): weights[name] for name, (h, dot, rest) in heads.items()}

    def _without_constants(self, weights: Weights, origin: str) -> Weights:
        learned = {}
        for name, tensor in weights.items():
            values = {value for part, value in self.constant.items() if f".{part}" in f".{name}"}
            if not values:
                learned[name] = tensor
            elif not all(bool((tensor == value).all()) for value in values):
                raise InputError(f"{origin} does not fit: {name} must be {values.pop():g} everywhere, as it is fixed")
        return learned

    def _in_our_order(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.ndim and name.rpartition(".")[0] in self.swapped:
            return torch.cat(tensor.chunk(2)[::-1])
        return tensor


def _listed(kind: str, names: list[str]) -> str:
    rest = len(names) - SHOWN
    return f"{len(names)} {kind} ({', '.join(islice(names, SHOWN))}{f' and {rest} more' if rest > 0 else ''})"
