"""The page in a real browser: no complaint, no request, readable in every scheme and width, and it works."""

from pathlib import Path

import pytest
from report.chromium import browser
from report.runs import NASTY, failed, folding, renamed, run_report

from bnfold.report.html import as_html

SIZES = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(as_html(run_report(failed(), renamed(), fold=folding())), encoding="utf-8")
    return path


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_the_page_asks_nobody_and_complains_about_nothing(chromium, page, scheme, width):
    chromium.requests(), chromium.complaints()
    chromium.open(page, width=width, scheme=scheme)
    assert chromium.complaints() == []
    # The browser draws its own search field from chrome:// by itself.
    asked = [url for url in chromium.requests() if not url.startswith(("data:", "chrome://resources/"))]
    assert set(asked) <= {page.as_uri()}


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_nothing_is_wider_than_the_screen(chromium, page, scheme, width):
    chromium.open(page, width=width, scheme=scheme)
    assert chromium.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(chromium, page, scheme):
    chromium.open(page, scheme=scheme)
    faint = chromium.run(Path(__file__).with_name("contrast.js").read_text())
    assert faint == []


def test_dark_and_light_differ_in_the_plots_too(chromium, page):
    seen = []
    for scheme in ("light", "dark"):
        chromium.open(page, scheme=scheme)
        seen.append(
            chromium.run(
                "const style = (query) => getComputedStyle(document.querySelector(query));"
                "return [style('body').backgroundColor, style('svg.chart .tick').fill,"
                " style('svg.chart .largest path').stroke]"
            )
        )
    assert all(light != dark for light, dark in zip(*seen, strict=True))


def test_tables_sort_by_value_and_not_by_text(chromium, page):
    chromium.open(page)
    column = "return [...document.querySelectorAll('table.blobs')[0].tBodies[0].rows].map(r => r.cells[6].dataset.v)"
    click = "document.querySelectorAll('table.blobs')[0].tHead.rows[0].cells[6].querySelector('button').click()"
    before = [float(value) for value in chromium.run(column)]
    chromium.run(click)
    assert [float(value) for value in chromium.run(column)] == sorted(before, reverse=True)
    assert (
        chromium.run("return document.querySelectorAll('table.blobs th[aria-sort]')[0].getAttribute('aria-sort')")
        == "descending"
    )
    chromium.run(click)
    assert [float(value) for value in chromium.run(column)] == sorted(before)


def test_tables_are_filtered_while_typing(chromium, page):
    chromium.open(page)
    shown = chromium.run(
        "const table = document.querySelector('table.samples');"
        "const input = table.parentElement.previousElementSibling.querySelector('input');"
        "input.value = '17'; input.dispatchEvent(new Event('input'));"
        "return [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[1].textContent)"
    )
    assert shown
    assert "17" in shown
    assert len(shown) < 37


def test_pictures_of_flipped_samples_are_there(chromium, page):
    chromium.open(page)
    widths = chromium.run("return [...document.querySelectorAll('.flip img')].map(image => image.naturalWidth)")
    assert len(widths) >= len(failed().classifier.flips)
    assert set(widths) == {8}


def test_plots_hold_a_point_for_each_blob_and_say_its_name(chromium, page):
    chromium.open(page)
    titles = chromium.run(
        "return [...document.querySelectorAll('.depth')[0].querySelectorAll('title')].map(t => t.textContent)"
    )
    assert any(title.startswith("conv1: ") for title in titles)
    assert (
        chromium.run("return document.querySelectorAll('.depth')[0].querySelectorAll('svg > .line a').length") == 2 * 7
    )


def test_a_name_that_is_a_script_is_text(chromium, page):
    chromium.open(page)
    assert NASTY in chromium.run("return document.querySelectorAll('table.blobs')[1].textContent")
    assert chromium.run("return document.scripts.length") == 1


def test_the_verdict_comes_first_and_the_title_says_it(chromium, page):
    chromium.open(page)
    assert chromium.run("return document.title").endswith("FAILED")
    assert chromium.run("return document.querySelector('.verdict').getBoundingClientRect().top") < 120
    assert "layer 'conv1'" in chromium.run("return document.querySelector('.verdict').textContent")


def test_it_prints_with_whole_tables_in_dark_ink(chromium, page):
    chromium.open(page, scheme="dark")
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        colour = chromium.run("return getComputedStyle(document.body).color")
        heights = chromium.run("return [...document.querySelectorAll('.tall')].map(e => getComputedStyle(e).maxHeight)")
        filters = chromium.run("return getComputedStyle(document.querySelector('.filter')).display")
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert colour == "rgb(0, 0, 0)"
    assert set(heights) == {"none"}
    assert filters == "none"
