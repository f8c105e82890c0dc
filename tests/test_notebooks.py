"""Test that the notebooks are committed with their outputs, have real Markdown, and run from first to last cell."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra `notebooks`")
nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra `notebooks`")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
STARTED_IN = {"masks": ROOT, "models": ROOT}
"""Directories in which Jupyter is started, instead of the notebook's own one; both must work."""

each = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    return nbformat.read(NOTEBOOKS[name], as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown_lines(notebook):
    """Return the non-empty lines of each Markdown cell, without code blocks."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    prose = ["".join(source.split("```")[::2]) for source in sources]
    return [[line for line in text.splitlines() if line.strip()] for text in prose]


def outputs(notebook, kind):
    return [out for cell in code_cells(notebook) for out in cell.outputs if out.output_type == kind]


def printed(notebook):
    texts = [out.text for out in outputs(notebook, "stream")]
    return "\n".join(texts + [str(out.data.get("text/plain", "")) for out in outputs(notebook, "execute_result")])


def images(notebook):
    shown = outputs(notebook, "display_data") + outputs(notebook, "execute_result")
    return [out for out in shown if {"image/png", "image/jpeg"} & out.data.keys()]


def test_all_notebooks_exist():
    assert set(NOTEBOOKS) == {"masks", "models", "comparing", "your_own_model"}


@each
def test_notebook_is_committed_with_its_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == [*range(1, len(code_cells(notebook)) + 1)]
    assert outputs(notebook, "error") == []
    assert len(images(notebook)) >= 2
    assert NOTEBOOKS[name].stat().st_size < 1 << 20
    assert not [text for text in ("Warning", "/tmp/", "/home/", "/root/", str(ROOT)) if text in printed(notebook)]


@each
def test_markdown_cells_have_prose_and_at_most_one_heading(name):
    title, *cells = markdown_lines(read(name))
    assert title[0].startswith("# ")
    assert not [line for line in title[1:] if line.startswith("#")]
    for first, *others in cells:
        assert first.startswith("## ") or not first.startswith("#"), first  # the title is the only heading of level 1
        assert not [line for line in others if line.startswith("#")], first
        assert others or not first.startswith("#"), f"{first}: a heading without text"


@each
def test_notebook_runs(name, tmp_path, monkeypatch):
    path = NOTEBOOKS[name]
    committed, notebook = path.read_bytes(), read(name)
    monkeypatch.setenv("NOTEBOOK_SCALE", "smoke")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    directory = STARTED_IN.get(name, path.parent)
    client = nbclient.NotebookClient(
        notebook, timeout=600, startup_timeout=300, kernel_name="python3", resources={"metadata": {"path": directory}}
    )
    client.execute()
    assert len(images(notebook)) >= 2
    assert "Warning" not in printed(notebook)
    assert path.read_bytes() == committed
    if name == "masks":  # its masks and hashes are identical on every machine
        assert printed(notebook) == printed(read(name))


def test_new_model_takes_three_files_of_less_than_60_lines():
    sources = [cell.source for cell in code_cells(read("your_own_model"))]
    files = [source.splitlines() for source in sources if source.startswith("%%writefile")]
    assert [lines[0].split()[1].partition("/")[0] for lines in files] == ["src", "conf", "tests"]
    assert sum(len(lines) - 1 for lines in files) < 60
