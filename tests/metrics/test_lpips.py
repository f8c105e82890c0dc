import hashlib
import math
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch.testing import assert_close
from torchmetrics.functional.image import dists as torchmetrics_dists
from torchvision.models import alexnet, squeezenet1_1, vgg16

from src.common.errors import InputError
from src.common.pretrained import MissingWeightsError
from src.metrics import lpips as lpips_module
from src.metrics.deep import DEEP_SCORES, dists_score
from src.metrics.lpips import IMAGENET_ALEXNET, SQUEEZE, DeepLPIPS, lpips_score

MASK = torch.ones(2, 1, 64, 48)


def random_filters(architecture):
    """Return a state dict of torchvision's features with random filters."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in architecture(weights=None).features.state_dict().items()}
    spread = {name: 0.1 if len(shape) == 1 else (2 / math.prod(shape[1:])) ** 0.5 for name, shape in shapes.items()}
    return {f"features.{name}": spread[name] * torch.randn(s, generator=generator) for name, s in shapes.items()}


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    """Return a file in torchvision's layout with random filters."""
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(random_filters(alexnet), path)
    return path


@pytest.fixture(scope="module")
def score(weight_file):
    """Loaded once, as building the network takes seconds; tests must not change it."""
    return lpips_score(str(weight_file))


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.rand(2, 3, 64, 48), torch.rand(2, 3, 64, 48)


def test_loads_filters_of_file(weight_file, score, images):
    state, distance = torch.load(weight_file, weights_only=True), score.function.distance
    features = torch.nn.functional.conv2d(images[0], state["features.0.weight"], state["features.0.bias"], 4, 2)
    assert_close(distance.net(images[0]).relu1, features.relu())
    loaded = {key.split(".", 1)[1]: value for key, value in distance.net.state_dict().items()}
    assert all(torch.equal(loaded[key.removeprefix("features.")], value) for key, value in state.items())


def test_values_are_per_image_for_range_0_to_1(score, images):
    prediction, truth = images
    values = score(prediction, truth, MASK)
    by_the_package = score.function.distance(2 * prediction - 1, 2 * truth - 1)
    assert_close(values, by_the_package.flatten())
    assert_close(values, torch.cat([score(prediction[i : i + 1], truth[i : i + 1], MASK[:1]) for i in range(2)]))
    assert_close(score(truth, truth, MASK), torch.zeros(2))
    assert (values > 0).all()
    assert not score.higher_is_better


def test_rejects_images_smaller_than_the_network_allows(score):
    image = torch.rand(2, 1, 3, 31, 40)
    assert score(*image, torch.ones(1, 1, 31, 40)).shape == (1,)
    with pytest.raises(InputError, match=r"LPIPS needs images of at least 31x31 pixels, got 30x40: .*lpips=false"):
        score(*image[..., 1:, :], torch.ones(1, 1, 30, 40))


def test_linear_weights_match_package(score):
    published = torch.load(
        f"{lpips_module.lpips.__path__[0]}/weights/v0.1/alex.pth", map_location="cpu", weights_only=True
    )
    loaded = score.function.distance.state_dict()
    assert len(published) == 5
    assert all(torch.equal(loaded[key], value) for key, value in published.items())


class Code:
    def __reduce__(self):
        return pytest.fail, ("pickled code ran",)


def test_environment_cannot_enable_pickled_code(weight_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # torch.load's default, no longer safe
    monkeypatch.setattr(lpips_module, "LINEAR_WEIGHTS", tmp_path)
    torch.save(Code(), tmp_path / "alex.pth")
    with pytest.raises(InputError, match=r"alex\.pth contains more than tensors"):
        DeepLPIPS(str(weight_file))


def test_score_is_deterministic(weight_file, score, images):
    torch.manual_seed(5)
    first = score(*images, MASK)
    state = torch.get_rng_state()
    second = lpips_score(str(weight_file))(*images, MASK)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)  # loading does not change the global random state


def test_published_file_is_downloaded_to_torch_hub_cache(weight_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    sha256 = hashlib.sha256(weight_file.read_bytes()).hexdigest()
    stand_in = replace(IMAGENET_ALEXNET, url=weight_file.as_uri(), sha256=sha256)
    monkeypatch.setattr(lpips_module, "IMAGENET_ALEXNET", stand_in)
    lpips_score()
    assert (tmp_path / "cache" / "hub" / "checkpoints" / weight_file.name).is_file()


def test_missing_weights_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    unreachable = replace(IMAGENET_ALEXNET, url="http://127.0.0.1:9/models/alexnet-owt-7be5be79.pth")
    monkeypatch.setattr(lpips_module, "IMAGENET_ALEXNET", unreachable)
    with pytest.raises(MissingWeightsError) as caught:
        lpips_score()
    for part in (
        str(tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"),
        "SHA-256 7be5be79",
        unreachable.url,
    ):
        assert part in str(caught.value)


def test_rejects_file_of_another_network(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(InputError, match=r"other\.pth has no weights of AlexNet"):
        lpips_score(str(path))


def test_squeezenet_has_seven_layers_and_its_own_name(tmp_path, images):
    torch.save(random_filters(squeezenet1_1), tmp_path / "squeeze.pth")
    score = lpips_score(str(tmp_path / "squeeze.pth"), SQUEEZE)
    assert score.name == "lpips_squeeze"
    prediction, truth = images
    by_the_package, layers = score.function.distance(2 * prediction - 1, 2 * truth - 1, retPerLayer=True)
    assert len(layers) == 7
    assert_close(score(prediction, truth, MASK), by_the_package.flatten())
    assert (by_the_package > 0).all()


def test_dists_matches_torchmetrics(monkeypatch, images):
    filters = random_filters(vgg16)
    with torch.device("meta"):
        network = vgg16(weights=None).features
    network.load_state_dict({name.partition(".")[2]: tensor for name, tensor in filters.items()}, assign=True)
    monkeypatch.setattr(torchmetrics_dists, "vgg16", lambda weights: SimpleNamespace(features=network))
    monkeypatch.setattr("src.metrics.deep.IMAGENET_VGG16", SimpleNamespace(fetch=lambda: None))
    score, (prediction, truth) = dists_score(), images
    theirs = torchmetrics_dists.deep_image_structure_and_texture_similarity(prediction, truth)
    assert_close(score(prediction, truth, MASK), theirs)
    assert score(prediction[:1], truth[:1], MASK[:1]).shape == (1,)
    assert_close(score(truth, truth, MASK), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", DEEP_SCORES)
def test_every_deep_score_names_its_missing_file(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr("src.common.pretrained.urlopen", Mock(side_effect=OSError("offline")))
    with pytest.raises(MissingWeightsError, match=r"could not be downloaded \(offline\).*this score is omitted"):
        DEEP_SCORES[name]()
