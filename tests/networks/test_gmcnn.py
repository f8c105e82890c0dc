"""GMCNN: columns with filters of three sizes."""

import torch

from src.networks.gmcnn import GMCNN


def test_columns_differ_in_their_filters_and_have_all_channels_of_the_paper():
    with torch.device("meta"):
        network = GMCNN()
    sizes = [{m.kernel_size for m in column.modules() if isinstance(m, torch.nn.Conv2d)} for column in network.columns]
    assert sizes == [{(7, 7)}, {(5, 5)}, {(3, 3)}]
    assert network.decoder[0].conv.in_channels == 128 + 64 + 32


def test_dilations_follow_the_config():
    column = GMCNN(width=1 / 8, dilations=(1, 2, 4, 8)).columns[0]
    dilations = [m.dilation[0] for m in column.modules() if isinstance(m, torch.nn.Conv2d)]
    assert dilations == [*[1] * 6, 1, 2, 4, 8, 1, 1]


def test_the_hole_is_an_input():
    """The same colours with another hole give another prediction at known pixels, too."""
    torch.manual_seed(0)
    network, image = GMCNN(width=1 / 8, dilations=(1, 2)).eval(), torch.full((1, 3, 32, 32), 0.5)  # 0 in [-1, 1]
    mask = torch.ones(1, 1, 32, 32)
    one = mask.clone()
    one[..., 8:16, 8:16] = 0
    with torch.no_grad():
        assert not torch.allclose(network(image, one).prediction, network(image, mask).prediction)


def test_outputs_out_of_range_still_learn():
    """The gradient of a clamp would be 0, and a network that is saturated everywhere would stay so."""
    network = GMCNN(width=1 / 8, dilations=(1, 2))
    torch.nn.init.constant_(network.decoder[1].conv.bias, 50.0)
    prediction = network(torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)).prediction
    assert (prediction == 1).all()
    prediction.mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
