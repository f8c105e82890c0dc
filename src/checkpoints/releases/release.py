"""Match a released implementation to our network: constructor, and a table of parameter names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from src.checkpoints.releases.weights import Weights
from src.common.devices import on_meta_device
from src.common.errors import InputError
from src.common.tensor_files import state_dict_mismatch

SPECTRAL_NORM = {
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}
"""Names of a spectrally normalised filter: PyTorch's current ones to those of the older API that releases used."""


@dataclass(frozen=True)
class Release:
    """Name tables between a released network and ours.

    Attributes:
        make: builds our network, which computes the same as the release.
        modules: our module names to the release's. The longest entry that a parameter's name starts with counts.
        parameters: our names of parameters within a module to the release's, where they differ.
        swapped: the release's modules whose tensors cover two concatenated features with equal channel counts along
            the first dimension, in the opposite order to ours.
        constant: parts of the release's names with a fixed value. Our networks have no such tensors, so a file with
            another value is rejected.
        aliases: alternative first parts of names in some files to those in the table.
        convert: returns a file's weights, with names of this release, in the form that the table describes.
    """

    make: Callable[[], nn.Module]
    modules: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)
    swapped: frozenset[str] = frozenset()
    constant: Mapping[str, float] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    convert: Callable[[Weights], Weights] = dict

    def released_name(self, ours: str) -> str:
        """Return the release's name of one of our parameters or buffers."""
        module = max((m for m in self.modules if ours.startswith(f"{m}.")), key=len)
        parameter = ours.removeprefix(f"{module}.")
        return f"{self.modules[module]}.{self.parameters.get(parameter, parameter)}"

    def fits(self, candidates: Mapping[str, Weights]) -> bool:
        """Return whether names and shapes in a file match this release."""
        with on_meta_device():
            network = self.make()
        try:
            return bool(self._match(network, candidates))
        except InputError:
            return False

    def load(self, candidates: Mapping[str, Weights]) -> nn.Module:
        """Return our network, in eval mode on the CPU, with the weights of the candidate with the most expected names.

        Raises:
            InputError: names are missing or unexpected, shapes differ, values are not finite, or several parts of the
                file hold different weights with these names.
        """
        with torch.random.fork_rng(devices=[]):  # its initial weights are replaced at once
            network = self.make()
        network.load_state_dict(network.state_dict() | self._match(network, candidates))
        return network.eval()

    def _match(self, network: nn.Module, candidates: Mapping[str, Weights]) -> Weights:
        """Return the file's weights by our names, ready to be loaded."""
        expected = network.state_dict()
        ours = {self.released_name(name): name for name in expected}
        found = {
            # Our network may store a bias (C,) as (C, 1, 1).
            name: t[:, None, None] if name in ours and expected[ours[name]].shape == (*t.shape, 1, 1) else t
            for name, t in self._without_constants(self.convert(self._choose_candidate(candidates, ours))).items()
        }
        required = {
            name: expected[our_name]
            for name, our_name in ours.items()
            # Files from before PyTorch 0.4.1 have no batch counters, and eval mode does not need them.
            if name in found or not name.endswith("num_batches_tracked")
        }
        if differing := state_dict_mismatch(required, found):
            raise InputError(differing)
        for name, tensor in found.items():
            is_counter = name.endswith("num_batches_tracked")
            if not is_counter and not (tensor.is_floating_point() and bool(tensor.isfinite().all())):
                raise InputError(f"{name} holds values that are not finite floating-point numbers")
            if tensor.ndim and name.rpartition(".")[0] in self.swapped:
                found[name] = torch.cat(tensor.chunk(2)[::-1])
        return {ours[name]: tensor for name, tensor in found.items()}

    def _choose_candidate(self, candidates: Mapping[str, Weights], expected_names: Mapping[str, str]) -> Weights:
        """Return the candidate with the most expected names."""
        heads = {name: name.partition(".") for weights in candidates.values() for name in weights}
        renamed = {name: "".join((self.aliases.get(h, h), dot, rest)) for name, (h, dot, rest) in heads.items()}
        candidates = {key: {renamed[name]: t for name, t in weights.items()} for key, weights in candidates.items()}
        shared = {key: expected_names.keys() & weights.keys() for key, weights in candidates.items()}
        best = max(candidates, key=lambda key: len(shared[key]))
        for key, weights in candidates.items():
            if shared[key] == shared[best] and any(
                not torch.equal(weights[name], candidates[best][name]) for name in shared[best] if key != best
            ):
                raise InputError(
                    f"the keys {best!r} and {key!r} hold different weights with the same names: save only one of them"
                )
        return candidates[best]

    def _without_constants(self, weights: Weights) -> Weights:
        learned = {}
        for name, tensor in weights.items():
            values = {value for part, value in self.constant.items() if f".{part}" in f".{name}"}
            if not values:
                learned[name] = tensor
            elif not all(bool((tensor == value).all()) for value in values):
                raise InputError(f"{name} must be {values.pop():g} everywhere: the network has this value built in")
        return learned
