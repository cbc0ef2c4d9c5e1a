"""The page in a real browser: no complaint, no request, readable in every scheme and width, and it works."""

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from present import present
from report.chromium import Chromium, browser
from report.runs import NASTY, failed, folding, renamed, run_report
from report.test_picture import folded

import bnfold
from bnfold.compare.records import Answer, DetectorDiff
from bnfold.io.environment import environment
from bnfold.report.figures import small
from bnfold.report.html import as_html, title_of
from bnfold.report.run import RunReport

SIZES = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(as_html(run_report(failed(), renamed(), fold=folding())), encoding="utf-8")
    return path


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_the_page_asks_nobody_and_complains_about_nothing(
    chromium: Chromium, page: Path, scheme: str, width: int
) -> None:
    chromium.requests(), chromium.complaints()
    chromium.open(page, width=width, scheme=scheme)
    assert chromium.complaints() == []
    # The browser draws its own search field from chrome:// by itself.
    asked = [url for url in chromium.requests() if not url.startswith(("data:", "chrome://resources/"))]
    assert set(asked) <= {page.as_uri()}


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_nothing_is_wider_than_the_screen(chromium: Chromium, page: Path, scheme: str, width: int) -> None:
    chromium.open(page, width=width, scheme=scheme)
    assert chromium.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_no_word_is_wider_than_its_cell(chromium: Chromium, fold_page: Path, tmp_path: Path, width: int) -> None:
    page = tmp_path / "onnx.html"
    html = fold_page.read_text(encoding="utf-8").replace("BatchNorm<", "BatchNormalization<")
    page.write_text(html.replace("BatchNorm ", "BatchNormalization "), encoding="utf-8")
    chromium.open(page, width=width)
    cells = """return [...document.querySelectorAll("th, td")].filter(cell => cell.checkVisibility())
        .map(cell => [cell.textContent, cell.scrollWidth, cell.clientWidth])"""
    shown = chromium.run(cells)
    assert any(text == "BatchNormalization" for text, _, _ in shown)
    assert [cell for cell in shown if cell[1] > cell[2]] == []


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_no_number_of_a_sentence_breaks_over_lines(chromium: Chromium, page: Path, width: int) -> None:
    chromium.open(page, width=width)
    broken = """
        const found = [], number = /\\d[\\d.]*e[-+]\\d+|\\d[\\d.]* %/g;
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        document.querySelectorAll("details").forEach(one => { one.open = true; });
        while (walker.nextNode()) {
          if (walker.currentNode.parentElement.closest("script, style")) continue;
          for (const match of walker.currentNode.data.matchAll(number)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, match.index);
            range.setEnd(walker.currentNode, match.index + match[0].length);
            const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
            if (tops.size > 1) found.push(walker.currentNode.data);
          }
        }
        return found;"""
    assert chromium.run(broken) == []


def test_what_operators_cost_is_in_the_page(fold_page: Path) -> None:
    said = re.sub(r"<[^>]+>", " ", fold_page.read_text(encoding="utf-8"))
    assert re.search(
        r"operator\s+layers\s+multiply-adds\s+parameters\s+BatchNorm\s+\d+ → 0\s+[\d.]+ ?k? → 0\s+[\d,]+ → 0", said
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(chromium: Chromium, page: Path, scheme: str) -> None:
    chromium.open(page, scheme=scheme)
    faint = chromium.run(Path(__file__).with_name("contrast.js").read_text())
    assert faint == []


def test_dark_and_light_differ_in_the_plots_too(chromium: Chromium, page: Path) -> None:
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


def test_tables_sort_by_value_and_not_by_text(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    column = "return [...document.getElementById('proof-1-blob').tBodies[0].rows].map(r => r.cells[6].dataset.v)"
    click = "document.getElementById('proof-1-blob').tHead.rows[0].cells[6].querySelector('button').click()"
    before = [float(value) for value in chromium.run(column)]
    chromium.run(click)
    assert [float(value) for value in chromium.run(column)] == sorted(before, reverse=True)
    assert (
        chromium.run("return document.querySelector('#proof-1-blob th[aria-sort]').getAttribute('aria-sort')")
        == "descending"
    )
    chromium.run(click)
    assert [float(value) for value in chromium.run(column)] == sorted(before)


def test_tables_are_filtered_while_typing(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    shown = chromium.run(
        "const table = document.getElementById('proof-1-samples');"
        "const input = table.parentElement.previousElementSibling.querySelector('input');"
        "input.value = '17'; input.dispatchEvent(new Event('input'));"
        "return [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent)"
    )
    assert shown
    assert "17" in shown
    assert len(shown) < 37


def test_an_answer_without_a_score_is_not_right() -> None:
    report = failed()
    found = present(report.classifier)
    silent = replace(found, samples=0, agreement=0.0, labelled=False, flips=())
    page = as_html(run_report(replace(report, classifier=silent)))
    assert page.count("<dt>same answer</dt><dd>-") == 2  # in the head, and of the output
    flip = replace(found.flips[0], label=0, reference=Answer(0, float("nan")), candidate=Answer(0, 0.5))
    page = as_html(run_report(replace(report, classifier=replace(found, flips=(flip,)))))
    assert (page.count('<div class="wrong">'), page.count('<div class="right">')) == (1, 1)


def test_a_detector_whose_boxes_all_match_has_no_table_of_strays() -> None:
    found = DetectorDiff("boxes", 0.5, 3, 3, 3, mean_iou=1.0, max_score_diff=0.0, missed=(), extra=())
    page = as_html(run_report(replace(failed(), detector=found)))
    assert "3 of 3 boxes matched" in page
    assert "boxes without a partner" not in page


def test_a_page_is_called_by_its_network_or_by_how_many_were_compared() -> None:
    first, second = (replace(failed(), reference=name) for name in ("nets/a.onnx", "b.onnx"))
    assert title_of(run_report(first)) == title_of(run_report(first, first)) == "a"
    assert title_of(run_report(first, second)) == "2 comparisons"
    assert title_of(RunReport()) == "network"


def test_why_two_models_were_not_compared_breaks_over_lines() -> None:
    report = replace(failed(), blobs=(), error="pairs.txt:3: 'b.onnx' has no weights")
    assert '<td class="why">pairs.txt:3: &#39;b.onnx&#39; has no weights</td>' in as_html(run_report(report))


def test_each_layer_that_was_merged_is_counted() -> None:
    assert "<dt>folded / kept</dt><dd>3 / 1</dd>" in as_html(run_report(failed(), fold=folding()))


def test_a_single_comparison_says_in_its_head_what_was_compared() -> None:
    proof, said = failed(), "<dt>blobs compared</dt><dd>{}</dd>"
    alone = as_html(run_report(proof))
    assert said.format(len(proof.blobs)) in alone
    assert f"<dt>largest difference, of the range</dt><dd>{small(present(proof.worst).judged)}</dd>" in alone
    assert said.format(len(proof.blobs)) not in as_html(run_report(proof, proof))
    assert said.format(len(proof.blobs)) not in as_html(run_report(proof, fold=folding()))


def test_samples_without_a_picture_are_shown_with_their_answers() -> None:
    report = failed()
    found = present(report.classifier)
    flips = tuple(
        replace(flip, name=f"noise {number}", picture=None if number else flip.picture)
        for number, flip in enumerate(found.flips * 10)
    )
    page = as_html(run_report(replace(report, classifier=replace(found, flips=flips))))
    assert len(flips) > 100 == page.count('<div class="flip">')
    assert page.count('<div class="row plain">') == 99


def test_what_was_counted_is_told_beside_what_is_listed() -> None:
    report = failed()
    found = present(report.classifier)
    page = as_html(run_report(replace(report, sample_count=10_000, classifier=replace(found, flipped=5000))))
    listed = f"5,000 samples with another answer: the {len(found.flips)} of which the reference was surest"
    assert listed in page
    assert f"Samples: the {len(report.samples)} that differ most of 10,000" in page


def test_pictures_of_flipped_samples_are_there(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    widths = chromium.run("return [...document.querySelectorAll('.flip img')].map(image => image.naturalWidth)")
    assert len(widths) >= len(present(failed().classifier).flips)
    assert set(widths) == {8}


def test_plots_hold_a_point_for_each_blob_and_say_its_name(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    titles = chromium.run(
        "return [...document.querySelectorAll('.depth')[0].querySelectorAll('title')].map(t => t.textContent)"
    )
    assert any(title.startswith("conv1: ") for title in titles)
    assert (
        chromium.run("return document.querySelectorAll('.depth')[0].querySelectorAll('svg > .line a').length") == 2 * 7
    )


def test_a_name_that_is_a_script_is_text(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    assert NASTY in chromium.run("return document.getElementById('proof-2-blob').textContent")
    assert chromium.run("return document.scripts.length") == 1


def test_the_verdict_comes_first_and_the_title_says_it(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    assert chromium.run("return document.title").endswith("FAILED")
    assert chromium.run("return document.querySelector('.verdict').getBoundingClientRect().top") < 120
    assert "layer 'conv1'" in chromium.run("return document.querySelector('.verdict').textContent")


def test_it_prints_with_whole_tables_in_dark_ink(chromium: Chromium, page: Path) -> None:
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


@pytest.fixture(scope="module")
def fold_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net, result = folded("digits_resnet")
    path = tmp_path_factory.mktemp("fold") / "report.html"
    found = environment("bnfold fold", 0.0, [path.parent / "missing.prototxt"], [])
    page = as_html(RunReport(net, result.net, result.report, proofs=(bnfold.compare(net, result.net),)), found)
    path.write_text(page, encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_strip_of_all_layers_has_strong_colours_and_not_the_pale_ones_of_the_boxes(
    chromium: Chromium, fold_page: Path, scheme: str
) -> None:
    chromium.open(fold_page, scheme=scheme)
    fill = "getComputedStyle(document.querySelector('{}')).{}"
    strip = chromium.run(f"return {fill.format('.strip .gone rect', 'fill')}")
    edge = chromium.run(f"return {fill.format('.plan .gone rect', 'stroke')}")
    assert strip == edge != chromium.run(f"return {fill.format('.plan .gone rect', 'fill')}")


OPEN_ALL = "document.querySelectorAll('details').forEach(part => { part.open = true; });"
AXE = "const done = arguments[0]; axe.run(document).then(found => done(found.violations.map(one => one.id)))"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1024), ("dark", 390)])
def test_axe_core_finds_nothing(chromium: Chromium, page: Path, fold_page: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    for one in (page, fold_page):
        chromium.open(one, width=width, scheme=scheme)
        chromium.run(OPEN_ALL)
        chromium.run(script)
        assert chromium.driver.execute_async_script(AXE) == []


def test_axe_core_would_find_a_fault(chromium: Chromium, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    faulty = tmp_path / "faulty.html"
    faulty.write_text("<!doctype html><html><title>t</title><main><h1>t</h1></main></html>", encoding="utf-8")
    chromium.open(faulty)
    chromium.run(script)
    assert chromium.driver.execute_async_script(AXE) == ["html-has-lang"]


def test_a_proof_is_folded_up_unless_it_failed(chromium: Chromium, page: Path, fold_page: Path) -> None:
    opened = "return [...document.querySelectorAll('h3[id^=proof] ~ details')].map(part => part.open)"
    chromium.open(page)
    assert chromium.run(opened) == [True, True]
    chromium.open(fold_page)
    assert chromium.run(opened) == [False]


def test_every_link_leads_somewhere_and_opens_what_is_folded_up(chromium: Chromium, fold_page: Path) -> None:
    chromium.open(fold_page)
    dangling = chromium.run(
        "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
        ".filter(href => !document.getElementById(href.slice(1)))"
    )
    assert dangling == []
    chromium.run("document.querySelector('.depth a').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    target = "return document.querySelector(':target')"
    assert chromium.run(f"{target}.closest('details').open")
    said = chromium.run("return document.querySelector('.depth a title').textContent")
    assert said.startswith(chromium.run(f"{target}.cells[0].textContent").strip() + ": ")


def test_a_click_on_a_layer_of_the_picture_shows_its_row_and_the_row_leads_back(
    chromium: Chromium, fold_page: Path
) -> None:
    chromium.open(fold_page)
    chromium.run(OPEN_ALL + "location.hash = document.querySelectorAll('.net a')[3].getAttribute('href')")
    name = chromium.run("return document.querySelectorAll('.net a')[3].querySelector('title').textContent")
    row = chromium.run("return document.querySelector('tr:target').cells[0].textContent").strip()
    assert name.startswith(f"{row} (")
    back = chromium.run("return document.querySelector('tr:target th a').getAttribute('href')")
    assert chromium.run("return document.querySelectorAll('.net a')[3].id") == back[1:]


def test_a_layer_is_found_by_name(chromium: Chromium, fold_page: Path) -> None:
    chromium.open(fold_page)
    chromium.run(
        OPEN_ALL + "const box = document.querySelector('.tools input'); box.value = 'scale_conv1'; "
        "box.dispatchEvent(new Event('input'))"
    )
    found = chromium.run("return [...document.querySelectorAll('.found title')].map(title => title.textContent)")
    assert chromium.run("return document.querySelector('.tools output').textContent") == "1 found"
    assert found == ["scale_conv1 (Scale)"]


def test_the_picture_can_be_zoomed_and_fitted(chromium: Chromium, fold_page: Path) -> None:
    chromium.open(fold_page)
    width = "return Number(document.querySelector('.net').getAttribute('width'))"
    click = "document.querySelector('.tools [aria-label=\"{}\"]').click(); "
    chromium.run(OPEN_ALL)
    real = chromium.run(width)
    assert chromium.run(click.format("zoom in") + width) == pytest.approx(1.25 * real)
    chromium.run(click.format("show the whole network"))
    fits = "const f = document.querySelector('.frame'); return f.scrollHeight <= f.clientHeight + 1"
    assert chromium.run(fits)


def test_a_table_remembers_how_it_was_sorted(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    chromium.run("document.getElementById('proof-1-blob').tHead.rows[0].cells[6].querySelector('button').click()")
    chromium.open(page)
    sorted_by = "return document.querySelector('#proof-1-blob th[aria-sort]')?.textContent"
    assert chromium.run(sorted_by) == "of range"
    chromium.run("sessionStorage.clear()")


def test_empty_columns_are_left_out_and_named(chromium: Chromium, fold_page: Path) -> None:
    chromium.open(fold_page)
    heads = chromium.run(
        "return [...document.getElementById('proof-1-blob').tHead.rows[0].cells].map(head => head.textContent)"
    )
    assert "NaN ref" not in heads
    assert "NaN ref" in chromium.run("return document.body.textContent")


def test_a_passed_fold_prints_on_few_pages(chromium: Chromium, fold_page: Path) -> None:
    chromium.open(fold_page)
    printed = chromium.driver.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    pdf = base64.b64decode(printed["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page[^s]", pdf)) <= 8


def test_the_environment_says_how_the_report_came_about(fold_page: Path) -> None:
    text = fold_page.read_text(encoding="utf-8")
    assert "<dd><code>bnfold fold</code></dd>" in text
    assert "1970-01-01T00:00:00Z" in text
    assert "missing.prototxt" in text
