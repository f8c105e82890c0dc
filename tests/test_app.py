"""The command: what it refuses before anything is served."""

import json
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from src.app import app
from src.common.errors import InputError

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture
def composed():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *overrides: compose("app", list(overrides))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("port=http", "port must be an integer from 0 to 65535, got 'http'"),
        ("keep=0", "keep must be an integer >= 1, got 0"),
        ("inside_px=0", "inside_px must be an integer >= 1"),
        ("max_megabytes=-1", "max_megabytes must be a number > 0, got -1"),
        ("max_megapixels=true", "max_megapixels must be a number > 0, got True"),
        ("max_hole_megapixels=0", "max_hole_megapixels must be a number > 0, got 0"),
        ("share=1", "share must be true or false, got 1"),
        ("ckpt=best.ckpt", r"ckpt must be a list, such as ckpt=\[a,b\], got 'best\.ckpt'"),
        ("folders=1", "folders must be a list"),
        ("ticked=telea", "ticked must be a list"),
        ("ticked=[gone]", "ticked=gone: there is no such method here, but .*telea"),
        ("ckpt=[gone.ckpt]", "ckpt: there is no checkpoint.* at gone.ckpt"),
        ("sides_px=[]", "sides_px must be a list of pixels"),
        ("sides_px=[0]", "sides_px must be a list of pixels"),
        ("side_px=77", r"side_px=77: choose one of sides_px=\[256, 512, 1024, None\]"),
        ("device=tpu", "device=tpu is not to be had here"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_served(composed, override, message, monkeypatch):
    monkeypatch.setattr("src.webapp.page.serve", lambda *_: pytest.fail("it is served"))
    with pytest.raises(InputError, match=message):
        app(composed(override))


def test_without_gradio_it_says_what_to_install(composed, monkeypatch):
    monkeypatch.delitem(sys.modules, "src.webapp.page", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"the page needs Gradio .*pip install .*\[app\]"):
        app(composed())


def test_it_serves_without_any_network_alone_at_its_port_and_ends_at_ctrl_c(serve_app, tmp_path, commands):
    server = serve_app(cwd=tmp_path)
    (page,) = (c["props"] for c in json.loads(server.get("/config"))["components"] if c["type"] == "html")
    methods = {method["name"]: method["checked"] for method in page["props"]["methods"]}
    assert methods == {"biharmonic": True, "mean_colour": False, "navier_stokes": False, "telea": True}
    port = server.address.rpartition(":")[2]
    ended = commands("app", f"port={port}", cwd=tmp_path)
    assert (ended.code, ended.err.startswith(f"error: host=127.0.0.1 port={port} can't be served at:")) == (1, True)
    assert "Traceback" not in server.interrupt()
    assert server.process.returncode == 0
    assert not list(tmp_path.iterdir())
