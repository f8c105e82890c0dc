"""Two processes train as a single one with both their batches.

In double precision: in single precision the sign of a rounding error decides how Adam moves a weight without a
gradient, such as a bias before a batch norm.
"""

import multiprocessing
import socket

import pytest
import torch
from torch.testing import assert_close

from tests.distributed.training import PROCEDURES, train_all


@pytest.fixture(scope="module")
def outcomes(photo_folder, tmp_path_factory):
    """Results of each procedure by process: the first and the second of two, and a single one."""
    folder = tmp_path_factory.mktemp("trained")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.set_forkserver_preload(["src", train_all.__module__])
    arguments = (port, "64-true", photo_folder, folder)
    torch.multiprocessing.start_processes(train_all, arguments, nprocs=3, start_method="forkserver")
    by_process = [torch.load(folder / f"{index}.pt") for index in range(3)]
    return {name: [outcomes[name] for outcomes in by_process] for name in (*PROCEDURES, "hinge")}


@pytest.mark.parametrize("name", PROCEDURES)
def test_two_processes_give_the_same_weights_and_running_statistics(outcomes, name):
    first, second, alone = outcomes[name]
    for key, before in alone["initial"].items():
        assert torch.equal(before, first["initial"][key]), key
    assert_close(first["final"], alone["final"], atol=1e-6, rtol=1e-6)
    trained = {
        key: t for key, t in second["final"].items() if not key.rpartition(".")[2].startswith(("running", "num"))
    }
    assert_close(trained, {key: first["final"][key] for key in trained}, atol=0, rtol=0)
    moved = {key.split(".")[0] for key, t in alone["final"].items() if (t - alone["initial"][key]).abs().max() > 1e-4}
    assert moved == {key.split(".")[0] for key in alone["final"]}  # the network, and the critics if there are any


@pytest.mark.parametrize("name", PROCEDURES)
def test_two_processes_log_the_same_losses(outcomes, name):
    first, second, alone = outcomes[name]
    assert len(alone["logged"]) >= 3
    assert_close(first["logged"], alone["logged"], atol=1e-7, rtol=1e-6)
    assert second["logged"] == first["logged"]


@pytest.mark.parametrize("name", PROCEDURES)
def test_two_processes_validate_the_same_samples(outcomes, name):
    first, second, alone = outcomes[name]
    assert {"val/psnr", "val/psnr/(0,0.1]"} <= alone["validated"].keys()
    assert_close(first["validated"], alone["validated"], atol=1e-7, rtol=1e-6)
    assert second["validated"] == first["validated"]


def test_mean_over_processes_has_the_gradient_of_one_mean(outcomes):
    first, second, alone = outcomes["hinge"]
    assert len(alone.unique()) > 3  # otherwise both processes would return the same without averaging
    assert_close(first, alone)
    assert_close(second, alone)
