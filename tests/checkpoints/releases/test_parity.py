"""Networks with released weights reproduce the releases' images, scores and attention maps."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from src.checkpoints.releases import CRITICS, NETWORKS, load
from src.common.errors import InputError
from src.networks.interface import InpaintingNetwork
from src.networks.layers.released_contextual_attention import unfused
from src.networks.pconv import IMAGENET_MEAN, IMAGENET_STD

TOLERANCE = 1e-4  # of the largest reference output: float32, another PyTorch
NAMES = list(NETWORKS)
"""Releases' weights take seconds to draw and the latest two are kept, so tests of the same ones follow each other."""


@pytest.fixture(scope="session")
def loaded(released, computed):
    beside = {"gl": lambda: {"mean_pixel": computed("gl")["mpv"]}}
    return cache(lambda name: load(name, released(name), **beside.get(name, dict)()))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def tensors(reference):
    """image (B, 3, H, W) in [0, 1] and mask (B, 1, H, W), 1 = known."""
    image = torch.from_numpy(reference["image"]).permute(0, 3, 1, 2) / 255
    return image, torch.from_numpy(reference["mask"])[:, None].float()


def assert_same(ours, theirs):
    theirs = torch.as_tensor(theirs)
    assert ours.shape == theirs.shape
    print(f"max difference / max output: {float((ours - theirs).abs().max() / theirs.abs().max()):.1e}")
    assert_close(ours, theirs, rtol=0, atol=TOLERANCE * float(theirs.abs().max()))


def pair(side=64):
    """Two images with holes in different places; in the second, all known 3x3 cells are far from the hole."""
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(2, 3, side, side, generator=generator), torch.ones(2, 1, side, side)
    mask[0, :, side // 4 : 3 * side // 4, side // 6 : 2 * side // 5] = 0
    mask[1, :, :, side // 2 :] = 0
    return image, mask


def test_lbam_matches_the_release(loaded, computed):
    case = computed("lbam")
    assert_same(loaded("lbam")(*tensors(case)).prediction, case["output"])


def test_edge_lbam_and_first_attention_maps_match(loaded, computed):
    case = computed("edge_lbam")
    output = loaded("edge_lbam")(*tensors(case), torch.from_numpy(case["edge"]).float(), maps=True)
    assert_same(output.prediction, case["output"])
    for direction in ("forward", "reverse"):
        assert_same(output.maps[f"{direction}_1"][:, :8], case[f"{direction}_map1"])


def test_mecnet_matches_the_release(loaded, computed):
    case = computed("mecnet")
    gray = torch.from_numpy(case["gray"]).expand(-1, 3, -1, -1) / 255  # its luma is itself, whatever the weights
    output = loaded("mecnet")(gray, tensors(case)[1], torch.from_numpy(case["edge"]).float())
    assert_same(output.edges, case["output"])


def test_two_files_of_edge_lbam_make_one_network(loaded, released):
    """Canny detects the edges of the known pixels, MECNet completes them, and the U-Net uses both."""
    complete = load("edge_lbam", released("edge_lbam"), completion={"iteration": 400, "generator": released("mecnet")})
    image, mask = pair(128)  # a multiple of the strides: padding changes Canny's edges
    smooth = torch.nn.functional.avg_pool2d(image, 9, stride=1, padding=4)
    output = complete(smooth, mask)
    assert 0 < float(output.edges[mask > 0].mean()) < 0.5  # Canny's
    completed = loaded("mecnet")(smooth, mask).edges
    hole = mask == 0
    assert_close(output.edges[hole], completed[hole])
    assert_close(output.prediction, loaded("edge_lbam")(smooth, mask, output.edges).prediction)
    blank = loaded("edge_lbam")(smooth, mask, torch.zeros_like(mask)).prediction
    assert not np.allclose(output.prediction, blank, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "refined"),
    [
        ("contextual_attention", "output"),
        ("mpga_gla", "output"),
        ("deepfill_v2", "output_fused"),
        ("deepfill_v2_pt", "output"),
    ],
)
def test_both_stages_match(loaded, computed, name, refined):
    case = computed(name)
    output = loaded(name)(*tensors(case))
    assert_same(2 * output.coarse - 1, case["coarse"])
    assert_same(2 * output.prediction - 1, case[refined])


def test_deepfill_v2_without_the_fusion(loaded, computed, monkeypatch):
    case, network = computed("deepfill_v2"), loaded("deepfill_v2")
    monkeypatch.setattr(network.refinement.attention.scores, "propagate", unfused)
    assert_same(2 * network(*tensors(case)).prediction - 1, case["output"])


def test_gl(loaded, computed):
    case = computed("gl")
    assert_same(loaded("gl")(*tensors(case)).prediction, case["output"])


def test_gl_needs_its_mean_pixel(released, computed, tmp_path, caplog):
    (tmp_path / "config.json").write_text('{"input_size": 160, "mpv": [0.5, 0.25, 0.125]}')
    network = load("gl", released("gl"), mean_pixel=tmp_path / "config.json")
    assert network.mean_pixel.flatten().tolist() == [0.5, 0.25, 0.125]
    assert caplog.messages == []
    load("gl", released("gl"))
    assert "pass mean_pixel=" in caplog.text
    (tmp_path / "config.json").write_text('{"mean": [0.5, 0.25, 0.125]}')
    with pytest.raises(InputError, match=r"config\.json is not a JSON file with an entry mpv"):
        load("gl", released("gl"), mean_pixel=tmp_path / "config.json")
    with pytest.raises(InputError, match=r"mean_pixel must be three numbers in \[0, 1\].*got \(123"):
        load("gl", released("gl"), mean_pixel=(123, 117, 104))
    with pytest.raises(InputError, match="mean_pixel= applies to name=gl only"):
        load("pconv", {}, mean_pixel=(0.5, 0.5, 0.5))


def test_pconv_matches_before_and_after_the_clamp(loaded, computed):
    case = computed("pconv")
    image, mask = tensors(case)
    network = loaded("pconv")
    assert_same(network.normalised(torch.where(mask > 0, image, 0.0), mask), case["output"])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert_same(network(image, mask).prediction, (torch.from_numpy(case["output"]) * std + mean).clamp(0, 1))


def test_dfnet_matches_at_all_scales(loaded, computed):
    """Our images are RGB, the release's BGR, and so are the opacities inside."""
    case, network = computed("dfnet"), loaded("dfnet")
    raw = {}
    network.fusion[2].to_image.register_forward_hook(lambda module, args, output: raw.update(level_2=output))
    output = network(*tensors(case), maps=True)
    assert_same(output.prediction.flip(1), case["output"])
    for level in range(1, 6):
        assert_same(output.parts[f"level_{level}"].flip(1), case[f"result_{level}"])
    assert_same(output.maps["alpha_3"], case["alpha_2"])
    assert_same(raw["level_2"], case["raw_2"])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(32.88e6, abs=0.005e6)


def test_gmcnn_matches(loaded, computed):
    case, network = computed("gmcnn"), loaded("gmcnn")
    assert_same(2 * network(*tensors(case)).prediction - 1, case["output"])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(12.56e6, abs=0.005e6)


def test_medfe_matches_with_and_without_the_mask_in_its_partial_convolutions(loaded, computed):
    case, network = computed("medfe"), loaded("medfe")
    assert_same(2 * network(*tensors(case)).prediction[..., 96:160, 96:160] - 1, case["output_masked"])
    network.masked = False
    try:
        output = network(*tensors(case))
    finally:
        network.masked = True
    assert_same(2 * output.prediction - 1, case["output"])
    for part in ("structure", "texture"):
        assert_same(2 * output.parts[part] - 1, case[part])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(103.1e6, abs=0.05e6)


def test_picnet_matches_at_all_scales_of_both_paths(loaded, computed, monkeypatch):
    """The reference takes the means of the latent distributions instead of samples."""
    case, network = computed("picnet"), loaded("picnet")
    image, mask = tensors(case)
    monkeypatch.setattr(torch, "randn", lambda *size, **options: torch.zeros(*size))
    output, both = network(image, mask), network.complete_both(image, mask)
    for result in (output, both):
        assert_same(2 * result.prediction - 1, case["output"])
        for level in range(3):
            assert_same(2 * result.parts[f"prediction_level_{3 - level}"] - 1, case[f"scale_{level}"])
    assert_same(2 * both.parts["reconstruction"] - 1, case["rec_output"])
    assert_same(2 * both.parts["reconstruction_level_2"] - 1, case["rec_scale_1"])
    for name, latent in both.latents.items():
        assert_same(latent.mean, case[f"{name}_mean"])
        assert_same(latent.stddev, case[f"{name}_std"])
    for part, count in ((network.decoder, 2.37e6), (network, 5.97e6)):
        assert sum(p.numel() for p in part.parameters()) == pytest.approx(count, abs=0.01e6)


def test_picnets_files_are_loaded_from_their_directory(loaded, released, tmp_path):
    """E and G were saved from DataParallel; the directory also holds the discriminators."""
    weights = released("picnet")
    for part in ("E", "G"):
        of_part = {name.removeprefix(f"{part}."): t for name, t in weights.items() if name.startswith(f"{part}.")}
        torch.save({f"module.{name}": t for name, t in of_part.items()}, tmp_path / f"latest_net_{part}.pth")
    for part in ("D", "D_rec"):
        torch.save({"module.conv.module.bias": torch.zeros(1)}, tmp_path / f"latest_net_{part}.pth")
    network = load("picnet", tmp_path).state_dict()
    assert all(torch.equal(t, network[name]) for name, t in loaded("picnet").state_dict().items())


def test_edge_connects_edge_generator_matches(loaded, computed):
    case, network = computed("edge_connect_edges"), loaded("edge_connect_edges")
    gray = torch.from_numpy(case["gray"]).expand(-1, 3, -1, -1) / 255
    assert_same(network(gray, tensors(case)[1], torch.from_numpy(case["edge"]).float()).edges, case["output"])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(10.76e6, abs=0.005e6)


def test_edge_connect_on_given_edges_matches(loaded, computed):
    case, network = computed("edge_connect"), loaded("edge_connect")
    assert_same(network(*tensors(case), torch.from_numpy(case["edge"]).float()).prediction, case["output"])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(10.77e6, abs=0.005e6)


def test_edge_connects_discriminator_matches(loaded, computed):
    case = computed("edge_connect_discriminator")
    logits = loaded("edge_connect_discriminator")(*tensors(case))
    assert_same(logits, case["logits"])
    assert_same(logits.sigmoid(), case["output"])


def test_lbams_discriminator_matches(loaded, computed):
    case = computed("lbam_discriminator")
    assert_same(loaded("lbam_discriminator")(*tensors(case)), case["output"].flatten())


def test_contextual_attentions_critics_match(loaded, computed):
    case = computed("contextual_attention_critics")
    image, _ = tensors(case)
    centred = torch.ones_like(image[:, :1])
    centred[..., 40:88, 40:88] = 0  # the local critic sees the window around the hole: here the centre
    critics = loaded("contextual_attention_critics")
    assert_same(critics["global"](image, centred), case["output"].flatten())
    assert_same(critics["local"](image, centred), case["local"].flatten())


def test_gmcnns_discriminators_match(loaded, computed):
    case = computed("gmcnn_discriminators")
    image = torch.nn.functional.interpolate(tensors(case)[0], size=(256, 256))
    centred = torch.ones_like(image[:, :1])
    centred[..., 80:176, 80:176] = 0
    critics = loaded("gmcnn_discriminators")
    assert_same(critics["global"](image, centred), case["output"].flatten())
    assert_same(critics["local"](image, centred), case["local"].flatten())


def test_medfes_discriminators_match(loaded, computed):
    case = computed("medfe_discriminator")
    critics = loaded("medfe_discriminator")
    assert_same(critics["global"](*tensors(case)), case["output"])
    assert_same(critics["local"](*tensors(case)), case["local"])  # the centre in eval mode


def test_picnets_discriminator_matches(loaded, computed):
    case, network, attended = computed("picnet_discriminator"), loaded("picnet_discriminator"), []
    network.attention.register_forward_hook(lambda *call: attended.append(call[-1]))
    assert_same(network(*tensors(case)), case["output"])
    assert_same(attended[0][:, :4], case["attention"])


def test_mpga_glas_discriminator_matches(loaded, computed):
    case = computed("mpga_gla_discriminator")
    assert_same(loaded("mpga_gla_discriminator")(*tensors(case)), case["output"])


def test_deepfill_v2s_discriminator(loaded, computed):
    case = computed("deepfill_v2_discriminator")
    assert_same(loaded("deepfill_v2_discriminator")(*tensors(case)), case["output"])


@pytest.mark.parametrize("name", ["gl_discriminator", "gl_discriminator_places2"])
def test_gls_discriminators(loaded, computed, name):
    case = computed(name)  # the hole is wider than the window, which is therefore in the middle of the image
    assert_same(loaded(name)(*tensors(case)), case["output"].flatten())


@pytest.mark.parametrize(
    ("name", "other", "parameters"),
    [("deepfill_v2", "deepfill_v2_pt", 4_052_478), ("gl_discriminator", "gl_discriminator_places2", 45_063_681)],
)
def test_a_file_of_the_second_layout_loads_by_the_first_name(loaded, released, computed, name, other, parameters):
    network, case = load(name, {"G": released(other)}), computed(other)
    assert sum(p.numel() for p in network.parameters()) == parameters
    outputs = network(*tensors(case)), loaded(other)(*tensors(case))
    assert_close(*(getattr(output, "prediction", output) for output in outputs), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_a_batch_do_not_affect_each_other(loaded, name):
    image, mask = pair()
    edges = (image[:, :1] > 0.9).float()
    together = loaded(name)(image, mask, edges)
    for i in range(2):
        alone = loaded(name)(image[i : i + 1], mask[i : i + 1], edges[i : i + 1])
        for field in ("prediction", "coarse", "edges"):
            one, all_ = getattr(alone, field), getattr(together, field)
            if one is not None:
                assert_close(one, all_[i : i + 1], rtol=0, atol=2e-4)  # pconv's reach 17 before the clamp


@pytest.mark.parametrize("name", NAMES)
def test_released_networks_follow_the_interface(loaded, name):
    network = loaded(name)
    assert isinstance(network, InpaintingNetwork)
    assert not network.training
    image, mask = (t[:1, :, :36, :50] for t in pair())
    edges = (image[:, :1] > 0.9).float()
    output = network(torch.where(mask > 0, image, torch.nan), mask, edges)
    assert output.prediction.shape == image.shape
    assert 0 <= float(output.prediction.min()) <= float(output.prediction.max()) <= 1  # and no NaN


@pytest.mark.parametrize("name", CRITICS)
def test_critics_are_in_eval_mode(loaded, name):
    assert not any(module.training for module in loaded(name).modules())
