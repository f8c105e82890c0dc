"""Compiled networks and checkpointed activations compute the same."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from src.common.errors import InputError
from src.networks.contextual_attention import CoarseToFine
from src.networks.edge_lbam import EdgeLBAM
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.lbam import LBAM
from src.networks.mecnet import MECNet
from src.networks.mpga_gla import MPGAGLA
from src.networks.pconv import PConv
from src.training.execution import checkpoint_activations, compile_method, compile_network
from src.training.run import train

pytestmark = [  # of torch, where it traces and compiles
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
]


class Small(InpaintingNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh())

    def inpaint(self, image: Tensor, mask: Tensor, edges: Tensor | None) -> InpaintingOutput:
        return InpaintingOutput(self.block(image)[:, :3])


NETWORKS = {
    "lbam": lambda: LBAM(1 / 16, levels=3),
    "edge_lbam": lambda: EdgeLBAM(MECNet(1 / 16, scales=2, blocks=1), LBAM(1 / 16, levels=3)),
    "pconv": lambda: PConv(1 / 16, levels=3),
    "contextual_attention": lambda: CoarseToFine(1 / 16, dilations=(2,)),
    "mpga_gla": lambda: MPGAGLA(1 / 16, dilations=(2,)),
}


def inputs(height: int = 48, width: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(2, 1, height, width)
    mask[..., 12:36, 8:20] = 0
    return torch.rand(2, 3, height, width), mask, (torch.rand(2, 1, height, width) > 0.9).float()


def trained(network: InpaintingNetwork, steps: int = 2) -> dict[str, Tensor]:
    """Return outputs, gradients and buffers of a few steps of training."""
    results = {}
    image, mask, edges = inputs()
    for step in range(steps):
        torch.manual_seed(step)
        network.zero_grad()
        output = network(image, mask, edges)
        made = [t for t in (output.prediction, output.coarse, output.edges, *output.edge_pyramid) if t is not None]
        sum((t - 0.3).square().mean() for t in made if t.requires_grad).backward()
        results |= {f"{step} output {i}": t.detach() for i, t in enumerate(made)}
        results |= {f"{step} d {name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
        results |= {f"{step} {name}": buffer.clone() for name, buffer in network.named_buffers()}
    return results


@pytest.fixture
def fast_compile(monkeypatch):
    """Trace and differentiate ahead of time, without the compiler itself, which takes minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def plain_and_compiled(make):
    torch.manual_seed(0)
    plain = make()
    compiled = copy.deepcopy(plain)
    compile_network(compiled)
    return plain, compiled


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_of_a_compiled_network_use_their_own_weights(copied, fast_compile):
    plain, compiled = plain_and_compiled(Small)
    compiled(*inputs())
    network = copied(compiled)
    with torch.no_grad():
        for p in compiled.parameters():
            p.zero_()
    network.load_state_dict(plain.state_dict())
    assert_close(trained(network), trained(plain))


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_compiled_networks_compute_the_same(make, fast_compile):
    plain, compiled = plain_and_compiled(make)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    assert_close(trained(compiled, steps=1), trained(plain, steps=1), atol=1e-4, rtol=1e-4)


def test_compiled_network_accepts_other_sizes_and_returns_maps(fast_compile):
    plain, compiled = plain_and_compiled(partial(LBAM, 1 / 16, levels=2))
    plain.eval(), compiled.eval()
    with torch.no_grad():
        for size in ((48, 32), (33, 47)):
            expected, ours = plain(*inputs(*size), maps=True), compiled(*inputs(*size), maps=True)
            assert_close(ours.maps, expected.maps)
            assert len(ours.maps) == len(plain.map_layers())
            assert_close(compiled(*inputs(*size)).prediction, expected.prediction)


@pytest.mark.soak
def test_inductor_computes_the_same():
    torch.compiler.reset()
    plain, compiled = plain_and_compiled(Small)
    assert_close(trained(compiled), trained(plain), atol=1e-4, rtol=1e-4)


def test_compiled_critic_has_no_second_derivative(fast_compile):
    critic, image = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Tanh()), torch.rand(1, 3, 8, 8, requires_grad=True)
    compile_method(critic)
    (slope,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        slope.square().sum().backward()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # from torch's tracing
def test_training_with_compiled_network_and_features_gives_the_same_weights(composed, fast_compile):
    short = ("trainer.max_steps=1", "trainer.limit_val_batches=0", "callbacks.best=null")
    plain, compiled = (
        train(composed("model=lbam", *short, *overrides)).lightning_module for overrides in ((), ("compile=true",))
    )
    assert_close(compiled.state_dict(), plain.state_dict(), atol=1e-4, rtol=1e-4)
    assert "forward" in vars(compiled.loss.extractor)
    assert "forward" not in vars(compiled.loss.adversarial["adversarial"].critic)


def saved_values(network):
    counts = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: counts.append(t.numel()) or t, lambda t: t):
        network(*inputs())
    return sum(counts)


@pytest.mark.parametrize("name", ["contextual_attention", "mpga_gla"])
def test_checkpointed_activations_change_nothing(name):
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    network = copy.deepcopy(plain)
    checkpoint_activations(network)
    inside = [layer for part in network.checkpointed_parts() for layer in part.modules()]
    assert len(inside) == len(set(inside))
    assert {id(p) for layer in inside for p in layer.parameters()} == {id(p) for p in network.parameters()}
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert_close(trained(network, steps=1), trained(plain, steps=1), atol=0, rtol=0)
    assert saved_values(network) < saved_values(plain) / 2
    assert_close(network(*inputs(), maps=True).maps, plain(*inputs(), maps=True).maps)


def test_networks_with_batch_norm_reject_gradient_checkpointing():
    with pytest.raises(InputError, match=r"not supported by LBAM.*set gradient_checkpointing=false"):
        checkpoint_activations(LBAM(1 / 16, levels=3))
