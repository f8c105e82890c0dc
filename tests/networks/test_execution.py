"""Compiled, channels last, or with activations computed again: the same results, weights and names."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.classical import MeanColour
from src.networks.contextual_attention import CoarseToFine
from src.networks.edge_lbam import EdgeCompletion, EdgeLBAM
from src.networks.execution import compile_method, prepare
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.watching import is_watched
from src.networks.lbam import LBAM
from src.networks.mecnet import MECNet
from src.networks.mpga_gla import MPGAGLA
from src.networks.pconv import PConv

pytestmark = [  # of torch, where it traces and compiles
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
]


class Shown(nn.Module):
    """What is made for those who look alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()


class Block(nn.Module):
    """All that a second pass could get wrong: batch norm, dropout, and something made for watchers alone."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.drop, self.shown = conv, nn.BatchNorm2d(4), nn.Dropout(0.5), Shown()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.norm(self.conv(x))
        if is_watched(self.shown):
            self.shown(x)
        return self.drop(x.tanh())


class Blocks(InpaintingNetwork):
    """A part that is called twice, with filters that move by themselves, once under `cached` and once not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Block(nn.Conv2d(4, 4, 3, padding=1))
        self.cached, self.moving = (Block(spectral_norm(nn.Conv2d(4, 4, 3, padding=1))) for _ in range(2))

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        x = self.first(torch.cat([image, mask], dim=1))
        with parametrize.cached():
            x = self.cached(self.cached(x))
        return InpaintingOutput(self.moving(x)[:, :3])

    def map_layers(self) -> dict[str, nn.Module]:
        return {"shown": self.first.shown}

    def checkpointed_parts(self) -> list[nn.Module]:
        return [self.first, self.cached, self.moving]


class Plain(InpaintingNetwork):
    """As a network that is pickled: spectral norm is not."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(nn.Conv2d(3, 4, 3, padding=1))

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        return InpaintingOutput(self.block(image)[:, :3])

    def checkpointed_parts(self) -> list[nn.Module]:
        return [self.block]


NETWORKS = {
    "lbam": lambda: LBAM(1 / 16, levels=4),
    "edge_lbam": lambda: EdgeLBAM(MECNet(1 / 16, scales=2, blocks=1), LBAM(1 / 16, levels=4)),
    "mecnet": lambda: EdgeCompletion(MECNet(1 / 16, scales=2, supervised_scales=2, blocks=1)),
    "pconv": lambda: PConv(1 / 16, levels=3),
    "contextual_attention": lambda: CoarseToFine(1 / 16),
    "mpga_gla": lambda: MPGAGLA(1 / 16),
}


def inputs(height: int = 48, width: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(2, 1, height, width)
    mask[..., 12:36, 8:20] = 0
    return torch.rand(2, 3, height, width), mask, (torch.rand(2, 1, height, width) > 0.9).float()


def trained(network: InpaintingNetwork, steps: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Outputs, gradients and buffers of a few steps of training."""
    results = {}
    image, mask, edges = inputs()
    for step in range(steps):
        torch.manual_seed(step)
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = network(image, mask, edges)
        made = [t for t in (output.prediction, output.coarse, output.edges, *output.edge_pyramid) if t is not None]
        sum((t.float() - 0.3).square().mean() for t in made if t.requires_grad).backward()
        results |= {f"{step} output {i}": t.detach() for i, t in enumerate(made)}
        results |= {f"{step} d {name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
        results |= {f"{step} {name}": buffer.clone() for name, buffer in network.named_buffers()}
    return results


@pytest.fixture
def quickly_compiled(monkeypatch):
    """Trace and differentiate ahead of time, but leave out the compiler, which takes minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def like_and_unlike(make, **how):
    torch.manual_seed(0)
    plain = make()
    prepared = copy.deepcopy(plain)
    prepare(prepared, **how)
    return plain, prepared


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [Blocks, *NETWORKS.values()], ids=["blocks", *NETWORKS])
def test_computing_activations_again_changes_nothing(make, dtype):
    plain, prepared = like_and_unlike(make, gradient_checkpointing=True)
    assert plain.state_dict().keys() == prepared.state_dict().keys()
    assert_close(trained(prepared, dtype=dtype), trained(plain, dtype=dtype), atol=0, rtol=0)


def test_parts_run_twice_in_training_alone_and_once_where_they_are_watched():
    network = Blocks()
    prepare(network, gradient_checkpointing=True)
    network(*inputs()).prediction.mean().backward()
    assert network.first.calls == 2
    assert network.moving.norm.num_batches_tracked == 1
    network(*inputs(), maps=True).prediction.mean().backward()
    assert network.first.calls == 3
    with torch.no_grad():
        network(*inputs())
    network.eval()(*inputs()).prediction.mean().backward()
    assert network.first.calls == 5


def test_a_graph_may_be_gone_through_twice():
    plain, prepared = like_and_unlike(Blocks, gradient_checkpointing=True)
    gradients = []
    for network in (plain, prepared):
        loss = network(*inputs()).prediction.mean()
        loss.backward(retain_graph=True)
        loss.backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert_close(gradients[1], gradients[0], atol=0, rtol=0)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
@pytest.mark.parametrize("how", ["gradient_checkpointing", "compile"])
def test_copies_run_themselves_as_they_were_told(again, how, quickly_compiled):
    plain, prepared = like_and_unlike(Plain, **{how: True})
    prepared(*inputs())
    copied = again(prepared)
    with torch.no_grad():
        for p in prepared.parameters():
            p.zero_()
    copied.load_state_dict(plain.state_dict())
    assert_close(trained(copied), trained(plain))
    if how == "gradient_checkpointing":
        calls = copied.block.calls
        trained(copied, steps=1)
        assert copied.block.calls == calls + 2


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_channels_last_changes_the_layout_alone(make):
    plain, prepared = like_and_unlike(make, channels_last=True)
    filters = [p for p in prepared.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)
    assert_close(trained(prepared), trained(plain), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_compiled_networks_compute_the_same(make, quickly_compiled):
    plain, prepared = like_and_unlike(make, compile=True)
    assert plain.state_dict().keys() == prepared.state_dict().keys()
    assert_close(trained(prepared), trained(plain), atol=1e-4, rtol=1e-4)


def test_a_compiled_network_takes_other_sizes_and_shows_its_maps(quickly_compiled):
    plain, prepared = like_and_unlike(partial(LBAM, 1 / 16, levels=3), compile=True)
    trained(plain, steps=1), trained(prepared, steps=1)
    plain.eval(), prepared.eval()
    with torch.no_grad():
        for size in ((48, 32), (56, 64), (33, 47)):
            expected, ours = plain(*inputs(*size), maps=True), prepared(*inputs(*size), maps=True)
            assert_close(ours.maps, expected.maps)
            assert len(ours.maps) == len(plain.map_layers())
            assert_close(prepared(*inputs(*size)).prediction, expected.prediction)


def test_the_compiler_itself_computes_the_same():
    torch.compiler.reset()
    plain, prepared = like_and_unlike(Plain, compile=True)
    plain.block.drop, prepared.block.drop = nn.Identity(), nn.Identity()  # compiled dropout draws other numbers
    assert_close(trained(prepared), trained(plain), atol=1e-4, rtol=1e-4)


def test_a_compiled_critic_has_no_second_derivative(quickly_compiled):
    critic, image = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Tanh()), torch.rand(1, 3, 8, 8, requires_grad=True)
    compile_method(critic)
    (slope,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.square().sum().backward()


def test_what_can_not_be_is_refused():
    with pytest.raises(InputError, match=r"MeanColour names no parts.*gradient_checkpointing=false"):
        prepare(MeanColour(), gradient_checkpointing=True)
    with pytest.raises(InputError, match="set gradient_checkpointing=false, or compile=false"):
        prepare(Blocks(), compile=True, gradient_checkpointing=True)
