"""The notebooks: committed with what they made, and run anew from first to last cell."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra `notebooks`")
nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra `notebooks`")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
STARTED_IN = {"masks": ROOT, "models": ROOT}
"""Where Jupyter was started; the others in their own folder, and in both cases all must run."""

each = pytest.mark.parametrize("name", NOTEBOOKS)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, kind):
    return [out for cell in code_cells(notebook) for out in cell.outputs if out.output_type == kind]


def printed(notebook):
    texts = [out.text for out in outputs(notebook, "stream")]
    return "\n".join(texts + [str(out.data.get("text/plain", "")) for out in outputs(notebook, "execute_result")])


def pictures(notebook):
    shown = outputs(notebook, "display_data") + outputs(notebook, "execute_result")
    return [out for out in shown if {"image/png", "image/jpeg"} & out.data.keys()]


def test_all_four_are_there():
    assert set(NOTEBOOKS) == {"masks", "models", "comparing", "your_own_model"}


@each
def test_it_is_committed_as_it_ran(name):
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == [*range(1, len(code_cells(notebook)) + 1)]
    assert outputs(notebook, "error") == []
    assert len(pictures(notebook)) >= 2
    assert NOTEBOOKS[name].stat().st_size < 1 << 20
    assert not [said for said in ("Warning", "/tmp/", "/home/", "/root/", str(ROOT)) if said in printed(notebook)]


@each
def test_it_runs(name, tmp_path, monkeypatch):
    path = NOTEBOOKS[name]
    written, notebook = path.read_bytes(), nbformat.read(path, as_version=4)
    monkeypatch.setenv("NOTEBOOK_SCALE", "smoke")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = STARTED_IN.get(name, path.parent)
    client = nbclient.NotebookClient(
        notebook, timeout=600, startup_timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    assert len(pictures(notebook)) >= 2
    assert "Warning" not in printed(notebook)
    assert path.read_bytes() == written


def test_a_model_of_ones_own_takes_three_files_of_less_than_60_lines():
    sources = [cell.source for cell in code_cells(nbformat.read(NOTEBOOKS["your_own_model"], as_version=4))]
    files = [source.splitlines() for source in sources if source.startswith("%%writefile")]
    assert [lines[0].split()[1].partition("/")[0] for lines in files] == ["src", "conf", "tests"]
    assert sum(len(lines) - 1 for lines in files) < 60
