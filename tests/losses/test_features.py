import copy
import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from src.common.errors import InputError
from src.common.pretrained import MissingWeightsError
from src.losses import features as features_module
from src.losses.features import IMAGENET_VGG16, IMAGENET_VGG19, VGG16Features, VGG19Features
from src.metrics.lpips import IMAGENET_ALEXNET

from torchvision.models.vgg import cfgs, make_layers  # isort: skip  # imports only after src

TORCHVISION_CONVS = {
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
}  # fmt: skip


def torchvision_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = {}
    for number, (out_channels, in_channels) in TORCHVISION_CONVS.items():
        weight = torch.randn(out_channels, in_channels, 3, 3, generator=generator)
        state[f"features.{number}.weight"] = weight * math.sqrt(2 / (9 * in_channels))
        state[f"features.{number}.bias"] = 0.1 * torch.randn(out_channels, generator=generator)
    state["features.17.weight"] = torch.zeros(512, 256, 3, 3)  # the real file has further layers
    return state


@pytest.fixture
def weight_file(tmp_path):
    path = tmp_path / "vgg16.pth"
    torch.save(torchvision_state(), path)
    return path


@pytest.fixture
def published(tmp_path, monkeypatch, weight_file):
    """A fake published file on a local server, and an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    server = tmp_path / "server"
    server.mkdir()
    file = server / "vgg16.pth"
    file.write_bytes(weight_file.read_bytes())
    sha256 = hashlib.sha256(weight_file.read_bytes()).hexdigest()
    stand_in = replace(IMAGENET_VGG16, url=file.as_uri(), sha256=sha256)
    monkeypatch.setattr(features_module, "IMAGENET_VGG16", stand_in)
    return stand_in


def slow_reference(state, image):
    x = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    pooled = []
    for number in TORCHVISION_CONVS:
        x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1).relu()
        if number in (2, 7, 14):
            x = F.max_pool2d(x, 2)
            pooled.append(x)
    return pooled


def test_torchvision_weight_file_gives_vgg(weight_file):
    image = torch.rand(1, 3, 24, 16)
    assert_close(list(VGG16Features(str(weight_file))(image)), slow_reference(torchvision_state(), image))


def test_features_match_torchvision(weight_file):
    layers = make_layers(cfgs["D"], batch_norm=False)[:17]
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, weight_file)
    image, ours = torch.rand(1, 3, 24, 16), VGG16Features(str(weight_file))
    assert_close(ours(image)[2], layers((image - ours.mean) / ours.std))


def test_named_layers_of_vgg19_match_torchvision(weight_file):
    layers = make_layers(cfgs["E"], batch_norm=False)[:23]  # to relu4_2
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, weight_file)
    image, ours = torch.rand(1, 3, 24, 16), VGG19Features(["relu4_2", "relu1_1", "relu3_4"], str(weight_file))
    x = (image - ours.mean) / ours.std
    for features, end in zip(ours(image), (2, 18, 23), strict=True):  # in the order of the network
        assert_close(features, layers[:end](x))


def test_rejects_unknown_layers():
    with pytest.raises(InputError, match=r"loss.features.layers must be among relu1_1, .*, got \['relu6_1'\]"):
        VGG19Features(["relu1_1", "relu6_1"], "random")


def test_published_file_is_downloaded_once_and_verified(published, monkeypatch):
    image = torch.rand(1, 3, 8, 8)
    fetched = VGG16Features("pretrained")(image)
    assert published.cache_path.is_file()
    published_elsewhere = replace(published, url="http://127.0.0.1:9/" + published.cache_path.name)
    monkeypatch.setattr(features_module, "IMAGENET_VGG16", published_elsewhere)  # no server: only the cache is left
    assert_close(VGG16Features("pretrained")(image), fetched)


def test_rejects_corrupt_cached_file(published):
    VGG16Features("pretrained")
    with published.cache_path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="is corrupt"):
        VGG16Features("pretrained")


def test_compares_whole_hash(published, monkeypatch):
    VGG16Features("pretrained")
    forged = replace(published, sha256=published.sha256[:-1] + ("0" if published.sha256[-1] != "0" else "1"))
    monkeypatch.setattr(features_module, "IMAGENET_VGG16", forged)
    with pytest.raises(InputError, match=f"is corrupt: its SHA-256 is {published.sha256}, expected {forged.sha256}"):
        VGG16Features("pretrained")
    published.cache_path.unlink()
    with pytest.raises(MissingWeightsError, match="invalid hash value"):
        VGG16Features("pretrained")


@pytest.mark.parametrize(
    "published", [IMAGENET_VGG16, IMAGENET_VGG19, IMAGENET_ALEXNET], ids=lambda weights: weights.network
)
def test_published_hash_starts_with_suffix_of_file_name(published):
    assert len(bytes.fromhex(published.sha256)) == 32
    assert published.sha256[:8] == Path(published.cache_path.name).stem[-8:]  # torch.hub's convention


def test_rejects_and_deletes_wrong_download(published, tmp_path):
    (tmp_path / "server" / published.cache_path.name).write_bytes(b"an error page")
    with pytest.raises(MissingWeightsError, match="invalid hash value"):
        VGG16Features("pretrained")
    assert not published.cache_path.exists()


def test_offline_error_names_file_and_location(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    unreachable = replace(IMAGENET_VGG16, url="http://127.0.0.1:9/models/vgg16-397923af.pth")
    monkeypatch.setattr(features_module, "IMAGENET_VGG16", unreachable)
    with pytest.raises(InputError) as caught:
        VGG16Features("pretrained")
    for part in (
        str(tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"),
        unreachable.url,
        "SHA-256 397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        "loss.features.weights=random",
    ):
        assert part in str(caught.value)


def test_random_features_are_reproducible_and_keep_global_random_state():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = VGG16Features("random", width=0.125)
    assert torch.equal(torch.rand(2), expected)
    image = torch.rand(2, 3, 48, 64)
    second = VGG16Features("random", width=0.125)(image)
    assert all(torch.equal(a, b) for a, b in zip(first(image), second, strict=True))
    assert [tuple(layer.shape) for layer in second] == [(2, 8, 24, 32), (2, 16, 12, 16), (2, 32, 6, 8)]


def test_weights_are_buffers_outside_state_dict_and_parameters():
    extractor = VGG16Features("random", width=0.125)
    assert extractor.state_dict() == {}
    assert list(extractor.parameters()) == []
    image = torch.rand(1, 3, 16, 16)
    assert_close(copy.deepcopy(extractor)(image), extractor(image))
    assert extractor.double()(image.double())[2].dtype == torch.float64  # .to() reaches every buffer
    assert all(buffer.device.type == "meta" for buffer in extractor.to("meta").buffers())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a weight file", "mine.pth is not a file of VGG-16"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, r"features\.0\.bias of shape \(64,\) is missing"),
        ([1, 2], "has no weights of VGG-16"),
    ],
    ids=["bytes", "incomplete", "list"],
)
def test_rejects_file_of_another_network(tmp_path, content, message):
    path = tmp_path / "mine.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        VGG16Features(str(path))
    assert str(path) in str(caught.value)


def test_rejects_wrong_arguments(tmp_path, weight_file):
    with pytest.raises(InputError, match="no weights of VGG-16"):
        VGG16Features(str(tmp_path / "absent.pth"))
    with pytest.raises(InputError, match="width"):
        VGG16Features(str(weight_file), width=0.5)
    with pytest.raises(InputError, match="width"):
        VGG16Features("pretrained", width=0.5)
    with pytest.raises(InputError, match="above 0"):
        VGG16Features("random", width=0)
