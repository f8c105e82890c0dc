from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch

from src.common.provenance import Revision
from src.evaluation.bootstrap import Bootstrap
from src.evaluation.formats import text_table
from src.evaluation.report import protocol_differences, write_report
from src.evaluation.tables import comparison_table
from src.rendering.grids import FilledSample, comparison_grid

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "img", "source", "link", "br"}


class Page(HTMLParser):
    """Collects tags, sources, links and text of a page, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset"):
                self.sources.append(value)
            elif name in ("href", "action", "data"):
                self.links.append(value)
            elif name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory, make_records, provenance, psnr, l1) -> Page:
    records = pd.concat([make_records(HOSTILE, [20.0, 30.0], [3.0, 4.0]), make_records("telea", [21.0, 29.0], [3, 5])])
    image, mask = torch.rand(3, 48, 64), torch.ones(1, 48, 64)
    mask[..., :20] = 0
    filled = {HOSTILE: torch.rand(3, 48, 64), "telea": torch.rand(3, 48, 64)}
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        f"Title {HOSTILE}",
        tables=[
            text_table(
                comparison_table(records, [psnr, l1], caption=HOSTILE, bootstrap=Bootstrap(), absent={HOSTILE: HOSTILE})
            ).to_html()
        ],
        provenance={HOSTILE: provenance, "telea": replace(provenance, checkpoint=None, config={"k": 3})},
        grids=[comparison_grid([FilledSample(image, mask, filled, dict.fromkeys(filled, 20.0))], HOSTILE)],
        runs={HOSTILE: pd.DataFrame({"step": [0, 1], f"train/{HOSTILE}": [1.0, 2.0]})},
        notes=[HOSTILE],
    )
    return Page(path.read_text(encoding="utf-8"))


def test_page_is_self_contained(page):
    assert len(page.sources) == 6  # four images, the curves in light and dark
    assert all(source.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,")) for source in page.sources)
    assert not {"link", "iframe", "object", "base"} & set(page.tags)
    assert page.tags.count("script") == 1  # the one that enlarges images; hostile names add none
    assert page.open == []


def test_links_point_to_sections_of_the_page(page):
    assert page.links == ["#results", "#images", "#curves", "#provenance"]
    assert [link.removeprefix("#") for link in page.links] == page.ids


def test_styles_load_no_files(tmp_path, provenance):
    path = tmp_path / "report.html"
    write_report(path, "t", tables=[], provenance={"a": provenance})
    text = path.read_text()
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_names_are_escaped(page):
    assert page.text.count(HOSTILE) >= 8
    assert "é </pre><script>" in page.text  # from a config


def test_shared_provenance_appears_once(page):
    assert page.text.count("3f" * 32) == 1
    assert f"runs/best.ckpt (SHA-256 {'ab' * 32})" in page.text
    assert page.text.count("Configuration") == 2
    assert "_target_: src.networks.lbam.LBAM" in page.text


def test_empty_sections_are_left_out(tmp_path, provenance):
    path = tmp_path / "report.html"
    write_report(path, "t", tables=[], provenance={"a": provenance})
    page = Page(path.read_text())
    assert page.ids == ["provenance"]
    assert page.sources == []
    assert "3f" * 32 in page.text


def test_warns_of_incomparable_or_untraceable_numbers(provenance):
    assert protocol_differences({"a": provenance, "b": replace(provenance, checkpoint=None)}) == []
    other_bank = {"a": provenance, "b": replace(provenance, mask_bank_hash="00")}
    assert "mask bank (3f3f3f3f3f3f... and 00)" in protocol_differences(other_bank)[0]
    tested = [replace(provenance, data={"sha256_of_file_list": name, "root": name}) for name in "xy"]
    assert (
        "test images (hash of their relative names) (x and y)"
        in protocol_differences({"a": tested[0], "b": tested[1]})[0]
    )
    moved = [replace(provenance, data={**provenance.data, "root": name}) for name in "xy"]
    assert protocol_differences({"a": moved[0], "b": moved[1]}) == []
    revised = {"a": provenance, "b": replace(provenance, revision=Revision("4567def", dirty=True))}
    different, dirty = protocol_differences(revised)
    assert "different revisions" in different
    assert "uncommitted" in dirty
