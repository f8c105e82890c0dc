"""`python -m src.app`: invalid options are rejected before serving."""

import json
import re
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from src.app import serve_app
from src.checkpoints.weights import list_shipped
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
        ("cached_networks=0", "cached_networks must be an integer >= 1, got 0"),
        ("figure_side_px=0", "figure_side_px must be an integer"),
        ("max_megabytes=-1", "max_megabytes must be a number > 0, got -1"),
        ("max_megapixels=true", "max_megapixels must be a number > 0, got True"),
        ("max_hole_megapixels=0", "max_hole_megapixels must be a number > 0, got 0"),
        ("share=1", "share must be true or false, got 1"),
        ("ckpt=best.ckpt", r"ckpt must be a list, such as ckpt=\[a,b\], got 'best\.ckpt'"),
        ("folders=1", "folders must be a list"),
        ("preselected=telea", "preselected must be a list"),
        ("preselected=[gone]", "preselected: unknown method gone; choose from .*telea"),
        ("ckpt=[gone.ckpt]", "ckpt=gone.ckpt: no such checkpoint, run directory or export directory"),
        ("sides_px=[]", "sides_px must be a list of integers"),
        ("sides_px=[0]", "sides_px must be a list of integers"),
        ("side_px=77", r"side_px=77 must be one of sides_px=\['auto', 256, 512, 1024, None\]"),
        ("device=tpu", "device=tpu is unavailable"),
        ("model=pconv", "model=pconv needs weights=<shipped size or path>; classical methods are offered anyway"),
        ("weights=small", "weights=small needs model=, as in .*model=pconv weights=small"),
    ],
)
def test_rejects_invalid_options_before_serving(composed, override, message, monkeypatch):
    monkeypatch.setattr("src.webapp.page.serve", lambda *_: pytest.fail("it was served"))
    with pytest.raises(InputError, match=message):
        serve_app(composed(override))


def test_error_without_gradio_says_what_to_install(composed, monkeypatch):
    monkeypatch.delitem(sys.modules, "src.webapp.page", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"Gradio is not installed .*pip install .*\[app\]"):
        serve_app(composed())


def test_serves_shipped_networks_until_ctrl_c_and_reports_a_used_port(serve, tmp_path, commands):
    server = serve("app", cwd=tmp_path)
    (page,) = (c["props"] for c in json.loads(server.get("/config"))["components"] if c["type"] == "html")
    listed = page["props"]["methods"]
    shipped = [path.name for path in list_shipped().values()]
    assert [method["name"] for method in listed[: len(shipped)]] == shipped
    assert all(re.fullmatch(r"\w+, 128 px, [\d,]+ steps, .+", method["details"]) for method in listed[: len(shipped)])
    assert {method["name"]: method["selected"] for method in listed} == {
        "biharmonic": True,
        "mean_colour": False,
        "navier_stokes": False,
        "patchmatch": False,
        "telea": True,
        **dict.fromkeys(shipped, True),
    }
    port = server.address.rpartition(":")[2]
    ended = commands("app", f"port={port}", cwd=tmp_path)
    assert (ended.code, ended.err.startswith(f"error: can't serve at host=127.0.0.1 port={port}: ")) == (1, True)
    code, printed = server.process.interrupt()
    assert (code, "Traceback" in printed) == (0, False)
    assert not list(tmp_path.iterdir())
