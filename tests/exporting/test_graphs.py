"""Graphs for ONNX and torch.export compute what the networks compute, at any size."""

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.fx.experimental import _config as symbolic

from src.common.errors import InputError
from src.exporting import formats
from src.exporting.formats import FILES, largest_difference, reference_outputs, write_graphs
from src.exporting.graph import Graph, make_example
from src.networks.contextual_attention import CoarseToFine, released_contextual_attention
from src.networks.deepfill_v2 import deepfill_v2
from src.networks.dfnet import DFNet
from src.networks.edge_connect import EdgeConnect, EdgeConnectGenerator
from src.networks.edge_lbam import EdgeCompletion, EdgeLBAM
from src.networks.gl import GL
from src.networks.gmcnn import GMCNN
from src.networks.layers.canny import RELEASED_CANNY
from src.networks.layers.contextual_attention import FeatureAttention
from src.networks.layers.edge_guided_maps import edge_guided_maps
from src.networks.layers.global_local_attention import GlobalLocalAttention
from src.networks.layers.released_contextual_attention import ReleasedContextualAttention
from src.networks.lbam import LBAM, released_edge_lbam_unet, released_lbam
from src.networks.mecnet import MECNet
from src.networks.medfe import MEDFE
from src.networks.mpga_gla import MPGAGLA, released_mpga_gla
from src.networks.pconv import PConv, released_pconv
from src.networks.picnet import PICNet

WIDTH = 0.02


def mecnet():
    return MECNet(WIDTH, scales=2, blocks=1)


NETWORKS = {
    "lbam": lambda: LBAM(WIDTH, 2),
    "lbam_release": lambda: released_lbam(WIDTH, 2),
    "edge_lbam": lambda: EdgeLBAM(mecnet(), LBAM(WIDTH, 2, edge_guided_maps, edge_guided_maps)),
    "edge_lbam_release": lambda: EdgeLBAM(mecnet(), released_edge_lbam_unet(WIDTH, 2), RELEASED_CANNY),
    "mecnet_release": lambda: EdgeCompletion(mecnet(), RELEASED_CANNY),
    "pconv": lambda: PConv(WIDTH, 2),
    "pconv_release": lambda: released_pconv(WIDTH, 2),
    "contextual_attention": lambda: CoarseToFine(WIDTH, dilations=(16,)),
    "contextual_attention_release": lambda: released_contextual_attention(WIDTH, dilations=(16,)),
    "mpga_gla": lambda: MPGAGLA(WIDTH, dilations=(16,)),
    "mpga_gla_release": lambda: released_mpga_gla(WIDTH, dilations=(16,)),
    "deepfill_v2": lambda: deepfill_v2(WIDTH, dilations=(16,)),
    "dfnet": lambda: DFNet(WIDTH, 2, 2),
    "edge_connect": lambda: EdgeConnect(MECNet(WIDTH, scales=1, blocks=1), EdgeConnectGenerator(WIDTH, blocks=1)),
    "gl": lambda: GL(WIDTH, dilations=(16,)),
    "gmcnn": lambda: GMCNN(WIDTH, dilations=(16,)),
    "medfe": lambda: MEDFE(WIDTH),
    "picnet": lambda: PICNet(WIDTH, levels=3, infer_blocks=1),
}
RECORDED = ("lbam", "edge_lbam_release", "contextual_attention", "mpga_gla", "mpga_gla_release", "picnet")
"""Networks to record for any size, which takes seconds each; a test below records the attention of another release, and
the other networks have the same layers. The command verifies every file that it writes."""


@pytest.fixture
def make_network():
    """`make_network(name)` returns a small network whose output depends on its input."""

    def make(name):
        torch.manual_seed(3)
        network = NETWORKS[name]().eval()
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and "weight" in layer._parameters:
                nn.init.normal_(layer.weight, std=(2 / layer.weight[0].numel()) ** 0.5)
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.fill_(0.5)
        return network

    return make


def run_unsaved(path, program, graph, metadata):
    """Run the recorded program without the round trip through a file, which takes as long as recording."""
    module = program.module()

    def run(inputs):
        with torch.no_grad():
            return module(*inputs)

    return run


@pytest.mark.parametrize("name", RECORDED)
def test_graph_matches_the_network_at_any_size(tmp_path, make_network, name, monkeypatch):
    monkeypatch.setitem(formats.SAVERS, "torch", run_unsaved)
    network = make_network(name)
    graph = Graph(network)
    for output in reference_outputs(network, graph, *make_example(graph, 1, 37, 64)):
        assert output.std() > 0.005
    with write_graphs(tmp_path, ["torch"], network, graph, None, {}) as files:
        assert not list(tmp_path.glob("model.*"))  # before all are verified
    assert files["torch"].difference < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_onnx_matches_a_network_with_updated_masks(tmp_path, make_network):
    """Edge-LBAM's ONNX file is tested with the code of its card."""
    pytest.importorskip("onnxscript", reason="ONNX needs the extra `export`", exc_type=ModuleNotFoundError)
    network = make_network("pconv")
    with write_graphs(tmp_path, ["onnx"], network, Graph(network), None, {}) as files:
        pass
    assert files["onnx"].difference < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(7, 5), (40, 72)])
def test_recorded_branches_match_eager_mode(monkeypatch, make_network, name, size):
    network = make_network(name)
    graph = Graph(network)
    inputs = make_example(graph, 2, *size)
    expected = reference_outputs(network, graph, *inputs)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    with torch.no_grad():
        found = graph(*inputs)
    for e, f, output in zip(expected, found, graph.outputs, strict=True):
        torch.testing.assert_close(f, e, atol=1e-4, rtol=0, msg=output)  # as for files; medfe rounds by 2e-5
    if "composite" in graph.outputs:
        image, mask = inputs[:2]
        assert torch.equal(torch.where(mask > 0, found[0], 0), torch.where(mask > 0, image, 0))


def test_graph_with_known_edges_matches_the_network(make_network):
    network = make_network("edge_lbam")
    image, mask, _ = make_example(Graph(network), 2, 64, 96)  # multiples of the stride
    known = network.canny.known_edges(image, mask)
    with torch.no_grad():
        found, expected = Graph(network)(image, mask, known), network(image, mask)
    assert torch.equal(found[1], expected.prediction)
    assert torch.equal(found[2], expected.edges)


def test_given_edges_are_used_unchanged(make_network):
    network = make_network("edge_lbam")
    graph = Graph(network, edges_given=True)
    image, mask, edges = make_example(graph, 1, 40, 48)
    with torch.no_grad():
        found, expected = graph(image, mask, edges), network(image, mask, edges)
    assert (graph.outputs, torch.equal(found[1], expected.prediction)) == (("composite", "prediction"), True)
    for name in ("mecnet_release", "lbam"):
        with pytest.raises(InputError, match="edges=given needs a network that inpaints along edges"):
            Graph(make_network(name), edges_given=True)


def test_torch_file_of_one_size_rejects_other_sizes(tmp_path, make_network):
    network = make_network("mecnet_release")
    with write_graphs(tmp_path, ["torch"], network, Graph(network), (20, 37), {}) as files:
        pass
    assert files["torch"].sizes == ((1, 20, 37), (3, 20, 37))
    run = torch.export.load(tmp_path / "model.pt2").module()
    with pytest.raises(AssertionError, match="20"):
        run(*make_example(Graph(network), 1, 24, 37))


def test_discards_a_file_that_differs_from_the_network(tmp_path, make_network, monkeypatch):
    (tmp_path / "model.pt2").write_text("an older one")
    monkeypatch.setitem(formats.SAVERS, "torch", lambda path, program, graph, metadata: lambda inputs: other(*inputs))
    other, network = Graph(make_network("lbam_release")), make_network("lbam")
    with (
        pytest.raises(
            InputError, match=r"model\.pt2 differs from the network by 0\.\d+, more than 0\.001, and was discarded"
        ),
        write_graphs(tmp_path, ["torch"], network, Graph(network), (16, 16), {}),
    ):
        pass
    assert (tmp_path / "model.pt2").read_text() == "an older one"
    graph, inputs = Graph(network), make_example(other, 1, 16, 16)
    assert (
        largest_difference(network, graph, lambda tensors: [t * torch.nan for t in graph(*tensors)], inputs)
        == torch.inf
    )
    assert largest_difference(network, graph, lambda tensors: graph(*tensors)[:1], inputs) == torch.inf


def test_graphs_of_an_earlier_export_are_deleted(tmp_path, make_network):
    for file in FILES.values():
        (tmp_path / file).write_text("older")
    with write_graphs(tmp_path, [], make_network("lbam"), Graph(make_network("lbam")), None, {}):
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())


def test_errors_name_unknown_formats_and_missing_packages(monkeypatch):
    with pytest.raises(InputError, match="formats=tflite: unknown format; choose from safetensors, onnx, torch"):
        formats.require_formats(["tflite"])
    monkeypatch.setattr(formats, "find_spec", lambda package: None)
    with pytest.raises(
        InputError, match=r"needs the packages onnx, onnxruntime, onnxscript: pip install -c constraints.txt -e '\.\["
    ):
        formats.require_formats(["torch", "onnx"])


def test_error_names_a_network_that_cannot_be_recorded(tmp_path, make_network, monkeypatch):
    network = make_network("lbam")
    monkeypatch.setattr(LBAM, "inpaint", lambda self, image, mask, edges: image.sum().item())
    with (
        pytest.raises(
            InputError, match=r"LBAM can't be recorded by torch\.export: .*; try one size: size=256 or size=\[192,256\]"
        ),
        write_graphs(tmp_path, ["torch"], network, Graph(network), None, {}),
    ):
        pass


class Attending(nn.Module):
    """An attention layer as a graph of its own."""

    inputs, outputs = ("features", "mask"), ("output",)

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, features, mask):
        if isinstance(self.layer, FeatureAttention):
            return (self.layer(features, features, self.layer.known_cells(mask, 4)),)
        return (self.layer(features, mask),)


@pytest.mark.parametrize("layer", [ReleasedContextualAttention, GlobalLocalAttention])
def test_attention_layers_match_in_onnx(tmp_path, layer):
    pytest.importorskip("onnxscript", reason="ONNX needs the extra `export`", exc_type=ModuleNotFoundError)
    torch.manual_seed(0)
    graph = Attending(layer(4).eval())

    def inputs(batch, height, width):
        mask = torch.ones(batch, 1, 4 * height, 4 * width)
        mask[..., height : 2 * height, width : 3 * width] = 0
        return torch.randn(batch, 4, height, width), mask

    rows, columns = (2 * Dim(name, min=1, max=999) for name in ("rows", "columns"))
    sides = {0: Dim("batch", min=1, max=9), 2: rows, 3: columns}
    sides_of_mask = {0: sides[0], 2: 8 * rows.root, 3: 8 * columns.root}
    with torch.no_grad(), symbolic.patch(backed_size_oblivious=True):
        program = torch.export.export(graph, inputs(2, 10, 14), dynamic_shapes=(sides, sides_of_mask), strict=False)
    run = formats.SAVERS["onnx"](tmp_path / "a.onnx", program, graph, {})
    for size in ((1, 16, 6), (3, 4, 12)):
        tensors = inputs(*size)
        with torch.no_grad():
            torch.testing.assert_close(run(tensors)[0], graph(*tensors)[0], atol=1e-5, rtol=1e-5)


def test_discards_a_file_that_does_not_run(tmp_path, make_network, monkeypatch):
    def fails(inputs):
        raise AssertionError("Guard failed: height > 20")

    network = make_network("lbam")
    monkeypatch.setitem(formats.SAVERS, "torch", lambda *_: fails)
    with (
        pytest.raises(
            InputError, match=r"model\.pt2 failed at 1 x 37 x 64 and was discarded: Guard failed: height > 20"
        ),
        write_graphs(tmp_path, ["torch"], network, Graph(network), None, {}),
    ):
        pass
    assert not list(tmp_path.iterdir())
