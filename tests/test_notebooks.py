"""Test that the notebooks are committed with their outputs, have real Markdown, and run from first to last cell."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra `notebooks`")
nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra `notebooks`")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}

SHARED_KERNELS = [("masks", "models", "comparing"), ("your_own_model",)]
"""Notebooks that run one after another in one kernel, as starting it and importing PyTorch takes longer than they do.
`your_own_model` imports a copy of the project, which needs a kernel of its own."""

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


@pytest.mark.parametrize("names", SHARED_KERNELS, ids=" ".join)
def test_notebooks_run(names, tmp_path, monkeypatch):
    committed = {name: NOTEBOOKS[name].read_bytes() for name in names}
    notebooks = {name: read(name) for name in names}
    joined = nbformat.v4.new_notebook(metadata=notebooks[names[0]].metadata)
    for notebook in notebooks.values():
        for cell in code_cells(notebook):
            cell.outputs = []
        joined.cells += [nbformat.v4.new_code_cell("%reset -f"), *code_cells(notebook)]  # the same cell objects
    monkeypatch.setenv("NOTEBOOK_SCALE", "smoke")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    client = nbclient.NotebookClient(
        joined,
        timeout=600,
        startup_timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": ROOT / "notebooks"}},
    )
    client.execute()
    for name, notebook in notebooks.items():
        assert len(images(notebook)) >= 2
        assert "Warning" not in printed(notebook)
        assert NOTEBOOKS[name].read_bytes() == committed[name]
    if "masks" in names:  # its masks and hashes are identical on every machine
        assert printed(notebooks["masks"]) == printed(read("masks"))


def test_new_model_takes_three_files_of_less_than_60_lines():
    sources = [cell.source for cell in code_cells(read("your_own_model"))]
    files = [source.splitlines() for source in sources if source.startswith("%%writefile")]
    assert [lines[0].split()[1].partition("/")[0] for lines in files] == ["src", "conf", "tests"]
    assert sum(len(lines) - 1 for lines in files) < 60
