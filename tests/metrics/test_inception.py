"""Inception features: the published file's layout, the poolings that differ from torchvision's, and missing files."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torchvision.models.inception import Inception3

from src.common.errors import InputError
from src.common.pretrained import MissingWeightsError
from src.metrics.inception import EXTRACTORS, NVIDIA, NvidiaFeatures, PytorchFIDFeatures, fid_inception


def layout(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return fid_inception()


def test_layout_is_torchvisions_with_1008_classes(network):
    with torch.device("meta"):
        theirs = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    assert layout(network) == layout(theirs)
    assert len(layout(network)) == 566  # entries of the published file
    assert not network.training


@pytest.mark.parametrize(
    ("name", "channels"), [("Mixed_5b", 192), ("Mixed_6b", 768), ("Mixed_7b", 1280), ("Mixed_7c", 2048)]
)
def test_pooling_ignores_the_padding(network, name, channels):
    block = getattr(network, name)
    x = torch.rand(1, channels, 4, 5, generator=torch.Generator().manual_seed(0)) + 1
    pooled = torch.empty_like(x)
    for row, column in np.ndindex(4, 5):
        near = x[..., max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].flatten(2)
        pooled[..., row, column] = near.max(dim=2).values if name == "Mixed_7c" else near.mean(dim=2)
    expected = block.branch_pool(pooled)
    assert_close(block(x)[:, -expected.shape[1] :], expected)
    theirs = super(type(block).__mro__[1], block)._forward(x)  # torchvision's
    assert_close(block(x)[:, : -expected.shape[1]], torch.cat(theirs[:-1], dim=1))


def test_features_of_images(network, monkeypatch):
    state = network.state_dict()
    monkeypatch.setattr("src.metrics.inception.PYTORCH_FID", SimpleNamespace(load=lambda weights, shapes: state))
    extract = PytorchFIDFeatures()
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    features = extract(images)
    assert features.shape == (2, 2048)
    assert torch.equal(features[:1], extract(images[:1] + 0.001))  # rounded to 8 bits
    assert not torch.allclose(features[0], features[1])


@pytest.mark.parametrize("name", EXTRACTORS)
def test_missing_file_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr("src.common.pretrained.urlopen", Mock(side_effect=OSError("offline")))
    with pytest.raises(MissingWeightsError, match=r"Inception v3 of .*inception-2015-12-05.*offline"):
        EXTRACTORS[name]()


def test_other_programs_are_not_run(tmp_path, monkeypatch):
    """TorchScript is a program: a file with another hash is not even opened by torch.jit."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.jit, "load", lambda *args, **options: pytest.fail("loaded"))
    NVIDIA.cache_path.parent.mkdir(parents=True)
    NVIDIA.cache_path.write_bytes(b"other")
    with pytest.raises(InputError, match="is corrupt: its SHA-256 is"):
        NvidiaFeatures()
