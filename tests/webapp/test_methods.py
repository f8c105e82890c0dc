"""Finding methods, caching networks, and stopping requests."""

import os
import threading

import pytest
from PIL import Image

from src.common.errors import InputError
from src.webapp.methods import Method, MethodPool, StoppedError, find_methods

CLASSICAL = ["biharmonic", "mean_colour", "navier_stokes", "patchmatch", "telea"]


def touched(path, mtime):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (mtime, mtime))
    return path


def test_explicit_checkpoints_come_first_then_runs_newest_first_each_once(tmp_path):
    last = touched(tmp_path / "outputs/lbam/1/checkpoints/last.ckpt", 3)
    best = touched(tmp_path / "outputs/lbam/2/checkpoints/best.ckpt", 1)
    touched(tmp_path / "outputs/lbam/2/checkpoints/last.ckpt", 9)
    touched(tmp_path / "outputs/lbam/1/checkpoints/before_last.ckpt", 9)
    imported = touched(tmp_path / "outputs/imported.ckpt", 2)
    exported = touched(tmp_path / "exported/pconv/model.safetensors", 0).parent
    explicit = touched(tmp_path / "explicit.ckpt", 0)
    found = find_methods([str(tmp_path / "outputs"), str(tmp_path / "exported"), "nowhere"], [str(explicit)])
    assert found[:5] == [
        Method("/".join(explicit.parts[-3:]), explicit), Method("lbam/1", last), Method("imported", imported),
        Method("lbam/2", best), Method("pconv", exported),
    ]  # fmt: skip
    assert [method.name for method in found[5:]] == CLASSICAL
    assert [method.has_weights for method in found] == [True] * 5 + [False] * len(CLASSICAL)


def test_the_first_of_equal_names_is_kept(tmp_path):
    for folder in ("a", "b"):
        touched(tmp_path / folder / "lbam.ckpt", 0)
    (found, *_) = find_methods([str(tmp_path / "a"), str(tmp_path / "b")], [])
    assert found.source == tmp_path / "a" / "lbam.ckpt"
    assert len(find_methods([str(tmp_path / "a"), str(tmp_path / "b")], [])) == 1 + len(CLASSICAL)


def test_an_explicit_checkpoint_must_exist(tmp_path):
    with pytest.raises(InputError, match=r"ckpt=.*gone\.ckpt: no such checkpoint, run directory or export directory"):
        find_methods([], [str(tmp_path / "gone.ckpt")])
    with pytest.raises(InputError, match="ckpt"):
        find_methods([], [str(tmp_path)])  # a directory without a network


def test_broken_links_and_directories_are_ignored(tmp_path):
    there = touched(tmp_path / "there.ckpt", 1)
    for name in ("gone.ckpt", "lbam/checkpoints/best.ckpt", "pconv/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to("nowhere")
    for name in ("folder.ckpt", "export/model.safetensors"):
        (tmp_path / name).mkdir(parents=True)
    found = find_methods([str(tmp_path)], [])
    assert found[: -len(CLASSICAL)] == [Method("there", there)]


def test_ignores_a_checkpoint_deleted_during_the_search(tmp_path, monkeypatch):
    gone = Method("gone", tmp_path / "gone.ckpt")
    monkeypatch.setattr("src.webapp.methods._find_networks", lambda folder: [("gone", tmp_path / "gone.ckpt")])
    assert find_methods([str(tmp_path)], [])[0] == gone


@pytest.fixture
def methods(untrained):
    return MethodPool(find_methods([str(untrained)], []), "cpu", cache_size=2)


def test_the_most_recently_used_networks_stay_in_memory(methods):
    def used(name):
        with methods.acquire(name) as inpaint:
            return inpaint

    lbam = used("demo/lbam")
    assert used("telea") is not lbam
    assert used("demo/lbam") is lbam
    used("mean_colour")  # evicts telea, the least recently used
    assert used("demo/lbam") is lbam
    used("telea")
    used("mean_colour")
    assert used("demo/lbam") is not lbam
    with pytest.raises(InputError, match=r"unknown method '\.\./\.\./etc/passwd': reload"):
        used("../../etc/passwd")


def test_a_running_request_can_be_stopped(methods):
    image, mask = Image.new("RGB", (64, 64)), Image.new("L", (64, 64), 255)
    stopped = threading.Event()
    with methods.acquire("demo/lbam", stopped) as inpaint:
        inpaint(image, mask)
        stopped.set()
        with pytest.raises(StoppedError):
            inpaint(image, mask)
    with pytest.raises(StoppedError), methods.acquire("demo/lbam", stopped):
        pytest.fail("it was stopped before it began")
    with methods.acquire("demo/lbam", threading.Event()) as inpaint:
        inpaint(image, mask)


@pytest.fixture
def wait_for(methods):
    """`wait_for(stopped)` requests telea in a thread; returns the thread and a list that gets the outcome."""

    def wait_for(stopped=None):
        ended = []

        def ask():
            try:
                with methods.acquire("telea", stopped):
                    ended.append("done")
            except StoppedError:
                ended.append("stopped")

        before = len(methods._requests)
        thread = threading.Thread(target=ask)
        thread.start()
        while thread.is_alive() and len(methods._requests) == before:
            thread.join(0.01)
        return thread, ended

    return wait_for


def test_one_request_runs_at_a_time_and_a_stopped_one_leaves_the_queue(methods, wait_for):
    with methods.acquire("telea"):
        stopped = threading.Event()
        second, third = wait_for(), wait_for(stopped)
        stopped.set()
        third[0].join()
        assert (second[1], third[1]) == ([], ["stopped"])
        assert len(methods._requests) == 2
    second[0].join()
    assert second[1] == ["done"]
    assert not methods._requests


def test_too_many_waiting_requests_are_rejected(untrained):
    methods = MethodPool(find_methods([str(untrained)], []), "cpu", cache_size=2, max_waiting=0)
    with (
        methods.acquire("telea"),
        pytest.raises(InputError, match="requests are already waiting: try again"),
        methods.acquire("telea"),
    ):
        pass
    with methods.acquire("telea"):
        pass


def test_names_and_messages_reveal_no_absolute_path(tmp_path):
    same = [touched(tmp_path / one / "run/checkpoints/best.ckpt", 0) for one in ("a", "b")]
    found = find_methods([], [str(path) for path in same])[:2]
    assert [method.name for method in found] == [f"{one}/run/checkpoints/best.ckpt" for one in ("a", "b")]
    methods = MethodPool(found, "cpu", cache_size=1)
    for method in found:  # an empty file
        with pytest.raises(InputError) as raised, methods.acquire(method.name):
            pass
        assert str(raised.value) == f"{method.name} can't be loaded, see the server log: choose another method"
