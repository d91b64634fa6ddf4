"""Every page in a real browser: nothing leaves the file, nobody is shut out, and the script is dispensable."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pandas as pd
import pytest
from page_data import make_masking, make_methods, make_robustness, write_mitigations, write_sweep
from report_data import HOSTILE, make_attribution, make_comparison, make_predictions

from fairaudit.audit import run_audit
from fairaudit.report.masking import write_masking_report
from fairaudit.report.render import write_comparison_report, write_methods_report, write_report, write_run_index
from fairaudit.report.robustness import write_robustness_report
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
QUICK = AuditSpec(draws=100)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, Debian's or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="page tests need playwright")
    program = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    options = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=options)
        except api.Error as error:
            pytest.skip(f"page tests need chromium (apt-get install chromium): {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as the command line leaves it: index, two audits (one with hostile names everywhere), comparisons of one
    model and of several, methods over seeds, mitigations, a sweep, robustness and masking."""
    out = tmp_path_factory.mktemp("run") / "my run #1"
    frame = make_predictions(1200, worse={"Asian": 0.7}, tasks=("gender", "age"), seed=1)
    frame["gender_status"] = "ok"
    frame.loc[:19, ["gender_pred", "gender_status"]] = [None, "no_face"]
    baseline = run_audit(frame, by=["race", "race:gender"], name="baseline", audit=QUICK)
    nasty = make_predictions(900, races=HOSTILE, tasks=("gender", "race"), seed=2)
    mean = run_audit(nasty, by=["race", "race:gender"], name=HOSTILE[0], meta={"warnings": [HOSTILE[0]]}, audit=QUICK)
    attribution = make_attribution({"race": list(baseline.meta["subgroups"]["race"])}, tasks=("gender", "age"))
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.1, 0.7]})
    results: dict[str, AuditResult] = {"baseline": baseline, "hostile": mean}
    up = {"Run overview": "../../index.html"}
    write_report(baseline, out / "audits" / "baseline", attribution=attribution, history=history, links=up)
    write_report(mean, out / "audits" / "hostile", links=up)
    write_report(baseline, out / "single", attribution=attribution, history=history, single=True)
    comparison = make_comparison(baseline, model=HOSTILE[0])
    write_comparison_report(comparison, out / "comparison", results=results, links={"Run overview": "../index.html"})
    others = {
        name: make_comparison(baseline, model=name, seed=seed) for seed, name in enumerate(("a", HOSTILE[2], "c"))
    }
    tables = ("deltas", "gap_changes")
    several = {name: pd.concat([getattr(one, name) for one in others.values()], ignore_index=True) for name in tables}
    many = replace(comparison, **several, meta={**comparison.meta, "models": list(others)})
    histories = dict.fromkeys(others, history)
    write_comparison_report(many, out / "many", results=results, histories=histories, links={"Run": "../index.html"})
    groups = {"White": 150, HOSTILE[0]: 120, HOSTILE[2]: 100, "few": 12}
    write_methods_report(make_methods(groups, HOSTILE[0], names=(HOSTILE[0], HOSTILE[2], "same")), out / "methods")
    write_mitigations(out / "mitigate", groups, HOSTILE[0], ("reweighing", HOSTILE[2], "a-method-of-a-long-name"))
    write_sweep(out / "sweep", groups, HOSTILE[0])
    write_robustness_report(make_robustness(groups, HOSTILE[0], name=HOSTILE[0]), out / "robustness")
    write_masking_report(make_masking(groups, HOSTILE[0], name=HOSTILE[0]), out / "masking")
    found = pd.DataFrame([{"kind": "zero_byte", "action": "excluded", "count": 2, "examples": HOSTILE[0]}])
    write_run_index(out, "A run", results=results, comparison=comparison, question="Who is served?", findings=found)
    return out


def listen(tab: Any, troubles: list[str], asked: list[str]) -> None:
    """Note every console message, error and dialog of a tab as trouble, and every request in `asked`."""
    tab.on("console", lambda message: troubles.append(f"console: {message.text}"))
    tab.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    tab.on("dialog", lambda dialog: (troubles.append("dialog"), dialog.dismiss()))
    tab.on("request", lambda request: asked.append(request.url))


def test_pages_open_clean_stay_home_and_fit_a_phone(browser, run_folder):
    """No console message, no request but for the page itself, no dialog, no sideways scroll at 360 and 1280 pixels."""
    troubles: list[str] = []
    asked: list[str] = []
    for size in (PHONE, DESKTOP):
        tab = browser.new_context(viewport=size).new_page()
        listen(tab, troubles, asked)
        for page in sorted(run_folder.rglob("*.html")):
            asked.clear()
            tab.goto(page.as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                troubles.append(f"{page.name} scrolls sideways by {wide} at {size['width']}")
            strangers = [url for url in asked if url != page.as_uri() and not url.startswith("data:")]
            troubles += [f"{page.name} asks for {url}" for url in strangers]
        tab.context.close()
    assert not troubles


def test_every_link_resolves(browser, run_folder):
    """Every link of every page is a file of the run, or an anchor that exists."""
    tab = browser.new_context(java_script_enabled=True).new_page()
    broken = []
    for page in sorted(run_folder.rglob("*.html")):
        tab.goto(page.as_uri())
        links = tab.evaluate("[...document.querySelectorAll('a')].map(a => a.href)")
        ids = set(tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"))
        for link in links:
            address, anchor = urldefrag(link)
            target = Path(unquote(urlsplit(address).path))
            inside = target.is_relative_to(run_folder) and target.is_file() and link.startswith("file://")
            if not inside or (anchor and target == page and anchor not in ids):
                broken.append((page.name, link))
    tab.context.close()
    assert not broken


def test_hostile_names_are_shown_as_text(browser, run_folder):
    """A name that is markup is read as that name, and puts no element into any page."""
    tab = browser.new_context().new_page()
    for page in sorted(run_folder.rglob("*.html")):
        tab.goto(page.as_uri())
        assert tab.evaluate("document.scripts.length") == 1
        assert tab.evaluate("document.querySelectorAll('img:not([src^=\"data:\"]), iframe, object').length") == 0
    tab.goto((run_folder / "audits" / "hostile" / "index.html").as_uri())
    assert HOSTILE[0] in tab.inner_text("h1")
    tab.context.close()


def test_dark_mode_and_print_keep_text_readable(browser, run_folder):
    """Dark mode turns the ground dark; print has a white ground, no navigation, and no table that is cut."""
    page = run_folder / "audits" / "baseline" / "groups" / "race--asian.html"
    ground = "getComputedStyle(document.body).backgroundColor"
    tab = browser.new_context(viewport=DESKTOP, color_scheme="dark").new_page()
    tab.goto(page.as_uri())
    dark = tab.evaluate(ground)
    tab.emulate_media(media="print", color_scheme="dark")
    assert dark != "rgb(255, 255, 255)" and tab.evaluate(ground) == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.querySelector('nav.toc')).display") == "none"
    tab.set_viewport_size({"width": 720, "height": 1000})
    cut = "[...document.querySelectorAll('.region')].filter(r => r.scrollWidth > r.clientWidth + 1).length"
    assert tab.evaluate(cut) == 0
    tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, run_folder, scheme):
    """axe-core's rules, folds open and tools in place: no serious or critical finding, in light and dark."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    tab = browser.new_context(viewport=DESKTOP, color_scheme=scheme).new_page()
    found = []
    pages = ("index.html", "audits/baseline/index.html", "audits/baseline/groups/race--asian.html")
    alike = ("comparison/index.html", "audits/hostile/groups/race--con.html", "single/index.html", "many/index.html")
    more = tuple(f"{name}/index.html" for name in ("methods", "robustness", "masking", "mitigate", "sweep"))
    pages = (*pages, *more)  # their charts and cells have colours of their own
    for page in (*pages, *alike):  # the latter have the same colours: that rule is the slow one
        tab.goto((run_folder / page).as_uri())
        if page != pages[1]:  # what its folds hold is of the same kinds as on the page of a group
            tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        rules = {"color-contrast": {"enabled": page in pages}}
        for violation in axe.run(tab, options={"resultTypes": ["violations"], "rules": rules}).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                found.append((page, violation["id"], [node["html"][:160] for node in violation["nodes"][:3]]))
    tab.context.close()
    assert not found


def test_the_policy_stops_what_is_not_the_pages_own(browser, run_folder):
    """Markup that slipped into a page could neither run code, nor set a style, nor fetch a picture."""
    tab = browser.new_context().new_page()
    asked: list[str] = []
    tab.on("requestfinished", lambda request: asked.append(request.url))  # a blocked one is tried, and fails
    page = run_folder / "index.html"
    tab.goto(page.as_uri())
    asked.clear()
    tab.evaluate(
        """document.body.insertAdjacentHTML("beforeend", `<img src="pages.json" onerror="window.ran = 1"><p id="p"
           style="color: rgb(1, 2, 3)" onclick="window.ran = 1">p</p><style>body { color: rgb(1, 2, 3) }</style>`);
           document.body.append(Object.assign(document.createElement("script"), {textContent: "window.ran = 1"}));
           document.getElementById("p").click()"""
    )
    tab.wait_for_timeout(100)
    colours = tab.evaluate("[document.body, document.getElementById('p')].map(e => getComputedStyle(e).color)")
    assert tab.evaluate("window.ran") is None and "rgb(1, 2, 3)" not in colours and not asked
    tab.context.close()


def test_without_script_every_subgroup_is_listed_and_nothing_is_missing(browser, run_folder):
    """The index is a plain table with anchors; no control is shown that would do nothing."""
    tab = browser.new_context(java_script_enabled=False, viewport=DESKTOP).new_page()
    tab.goto((run_folder / "audits" / "baseline" / "index.html").as_uri())
    assert tab.locator("#pages tbody tr:visible").count() == 5 + 10
    assert tab.locator("button, input, select").count() == 0
    tab.locator("#pages p a").nth(1).click()
    assert tab.url.endswith("#axis-2") and tab.locator("#axis-2").is_visible()
    tab.locator("#axis-2 a").click()
    assert tab.inner_text("h1").startswith("Faces labelled ") and "×" in tab.inner_text("h1")
    tab.context.close()


def texts(tab: Any, column: int) -> list[str]:
    """Texts of one column of the index of subgroups, of the rows that are shown."""
    return [row.locator("th, td").nth(column).inner_text() for row in tab.locator("#pages tbody tr:visible").all()]


def test_the_index_is_sorted_and_searched_by_keyboard(browser, run_folder):
    """Skip link, sorting both ways and back, finding by name, choosing an axis: with Tab, Enter, arrows and letters."""
    tab = browser.new_context(viewport=DESKTOP).new_page()
    tab.goto((run_folder / "audits" / "baseline" / "index.html").as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.url.endswith("#main")
    tab.locator("#pages").scroll_into_view_if_needed()
    heads = tab.locator("#pages th button.sort")
    heads.first.wait_for()
    before = texts(tab, 0)
    faces = heads.nth(2)
    for order in ("ascending", "descending"):
        faces.focus()
        tab.keyboard.press("Enter")
        counts = [int(text.replace(",", "")) for text in texts(tab, 2)]
        assert counts == sorted(counts, reverse=order == "descending")
        assert tab.locator(f"#pages th[aria-sort={order}]").count() == 1
    tab.keyboard.press("Enter")
    assert texts(tab, 0) == before
    tab.locator("#pages input[type=search]").focus()
    tab.keyboard.type("asian female")
    assert texts(tab, 0) == ["Asian × Female"] and tab.inner_text("#pages output") == "1 of 15 rows"
    tab.keyboard.press("Control+A")
    tab.keyboard.press("Delete")
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowDown")
    assert set(texts(tab, 1)) == {"race"} and tab.inner_text("#pages output") == "5 of 15 rows"
    tab.context.close()


def test_sorting_keeps_a_head_as_it_was_and_drawings_have_none(browser, run_folder, tmp_path):
    """A head of two lines stays so within its button; a column of drawings alone has no button."""
    rows = "".join(f"<tr><th scope='row'>g{i}<br><small>n {i}</small></th><td><svg></svg></td></tr>" for i in range(4))
    head = "<th scope='col'>region<br><small>12 %</small></th><th scope='col'>blur<br><small>0.5 %</small></th>"
    table = f"<table class='curves' id='made'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    text = (run_folder / "audits" / "baseline" / "index.html").read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text(text.replace("</main>", f"<div class='region'>{table}</div></main>"), encoding="utf-8")
    tab = browser.new_context(viewport=DESKTOP).new_page()
    tab.goto(page.as_uri())
    tab.locator("#made").scroll_into_view_if_needed()
    tab.locator("#made button.sort").first.wait_for()
    assert tab.locator("#made th button.sort small").count() == 1 == tab.locator("#made button.sort").count()
    assert tab.locator("#made thead th").nth(1).inner_text() == "blur\n0.5 %"
    tab.context.close()


def test_a_chart_draws_another_measure_and_tells_what_it_shows(browser, run_folder):
    """The choice above a chart redraws it from the row's own figures; the pointer is told them in words."""
    tab = browser.new_context(viewport=DESKTOP).new_page()
    tab.goto((run_folder / "audits" / "baseline" / "index.html").as_uri())
    table = tab.locator("table[data-draw]").first
    table.scroll_into_view_if_needed()
    choice = tab.locator("#heads .tools select").first
    choice.wait_for()
    row = table.locator("tbody tr", has_text="Asian").first
    place = "e => Number(e.getAttribute('cx').replace('%', ''))"
    before = row.locator("circle").evaluate(place)
    choice.focus()
    tab.keyboard.press("ArrowDown")
    assert choice.evaluate("e => e.selectedOptions[0].textContent") == "against the rest"
    zero = row.locator("line.pooled").evaluate("e => Number(e.getAttribute('x1').replace('%', ''))")
    assert row.locator("circle").evaluate(place) < zero < 98  # faces labelled Asian fare worse: left of zero
    tab.keyboard.press("ArrowUp")
    assert row.locator("circle").evaluate(place) == before
    row.locator("td.chart").hover()
    assert "Asian" in tab.inner_text(".tip") and "accuracy: " in tab.inner_text(".tip")
    tab.keyboard.press("Escape")
    assert not tab.locator(".tip").is_visible()
    tab.context.close()


def test_everything_is_reached_by_tab_and_is_seen_there(browser, run_folder):
    """Tab goes through a whole page without a trap; whatever has the focus is on the screen and looks so."""
    tab = browser.new_context(viewport=DESKTOP).new_page()
    tab.goto((run_folder / "audits" / "baseline" / "groups" / "race--asian.html").as_uri())
    seen = []
    for _ in range(400):
        tab.keyboard.press("Tab")
        state = tab.evaluate(
            """(() => { const e = document.activeElement, b = e.getBoundingClientRect(), s = getComputedStyle(e);
               return e === document.body ? null : [e.tagName, b.bottom > 0 && b.top < innerHeight && b.width > 0,
               s.outlineStyle !== "none" || e.className === "skip", e.href || ""]; })()"""
        )
        if state is None or (state[3] and state[3].endswith("#main") and seen):
            break
        seen.append(state)
    assert 10 < len(seen) < 400 and all(shown and marked for _, shown, marked, _ in seen), seen
    assert seen[-1][3].endswith("index.html")
    tab.context.close()


def test_one_file_holds_all_pages_and_leads_nowhere_else(browser, run_folder):
    """Every link is an anchor inside the file; a subgroup's part says what its page says."""
    tab = browser.new_context(viewport=DESKTOP).new_page()
    page = run_folder / "single" / "index.html"
    assert [path.name for path in page.parent.iterdir() if path.suffix == ".html" or path.is_dir()] == ["index.html"]
    tab.goto(page.as_uri())
    links = tab.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)) and all(link[0] == "#" and link[1:] in set(ids) for link in links)
    assert tab.locator("article.group").count() == 5 + 10
    one = tab.locator("#race--asian table").evaluate_all(
        "all => all.map(t => [...t.rows].map(r => r.textContent.trim()))"
    )
    tab.goto((run_folder / "audits" / "baseline" / "groups" / "race--asian.html").as_uri())
    own = tab.locator("main table").evaluate_all("all => all.map(t => [...t.rows].map(r => r.textContent.trim()))")
    squeeze = lambda tables: [[re.sub(r"[\s↕]+", "", row) for row in table] for table in tables]  # noqa: E731
    assert squeeze(one) == squeeze(own)
    tab.context.close()


def test_print_keeps_rows_whole_and_heads_with_their_tables(browser, run_folder):
    """As PDF each subgroup of the one file begins on a page of its own; no row is cut, heads of tables repeat."""
    tab = browser.new_context(viewport=DESKTOP).new_page()
    tab.goto((run_folder / "single" / "index.html").as_uri())
    tab.emulate_media(media="print")
    style = "(e, name) => getComputedStyle(e).getPropertyValue(name)"
    for selector, name, wanted in (
        ("tbody tr", "break-inside", "avoid"),
        ("thead", "display", "table-header-group"),
        ("h3", "break-after", "avoid"),
        ("article.group", "break-before", "page"),
    ):
        assert tab.locator(selector).first.evaluate(style, name) == wanted, (selector, name)
    pages = len(re.findall(rb"/Type\s*/Page\b", tab.pdf(format="A4")))
    assert pages >= 15 + 3
    tab.context.close()


def test_no_name_such_as_10_19_is_broken_on_paper(browser, run_folder):
    """On A4 and on a phone every range of ages in a table stands on one line."""
    tab = browser.new_context(viewport={"width": 700, "height": 1000}).new_page()
    loose = """all => all.filter(cell => {
        const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        for (let text; (text = walk.nextNode());) for (const found of text.data.matchAll(/\\d+-\\d+/g)) {
            const part = document.createRange();
            part.setStart(text, found.index);
            part.setEnd(text, found.index + found[0].length);
            if (new Set([...part.getClientRects()].map(box => Math.round(box.top))).size > 1) return true;
        }
        return false;
    }).map(cell => cell.textContent)"""
    for media, size in (("print", {"width": 700, "height": 1000}), ("screen", PHONE)):
        tab.set_viewport_size(size)
        tab.emulate_media(media=media)
        seen = 0
        for name in ("audits/baseline/index.html", "comparison/index.html"):
            tab.goto((run_folder / name).as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            seen += tab.locator("th:has-text('10-19'), td:has-text('10-19')").count()
            assert tab.locator("th, td").evaluate_all(loose) == [], (media, name)
        assert seen > 5
    tab.context.close()


def test_the_tables_of_mitigations_fit_a_desk(browser, run_folder):
    """At 1280 pixels no table of the page is wider than the page, whatever the methods are called."""
    tab = browser.new_context(viewport=DESKTOP).new_page()
    tab.goto((run_folder / "mitigate" / "index.html").as_uri())
    wide = "all => all.filter(r => r.scrollWidth > r.clientWidth).map(r => r.getAttribute('aria-label'))"
    assert tab.locator(".region").count() >= 3 and tab.locator(".region").evaluate_all(wide) == []
    tab.context.close()


@pytest.mark.parametrize("script", [True, False])
def test_what_is_folded_is_printed(browser, run_folder, script):
    """A PDF of a page as it opens has all pages of one whose folds were opened by hand, and closes them again."""
    tab = browser.new_context(viewport=DESKTOP, java_script_enabled=script).new_page()
    pages = lambda: len(re.findall(rb"/Type\s*/Page\b", tab.pdf(format="A4")))  # noqa: E731
    for name in ("audits/baseline/index.html", "many/index.html"):
        tab.goto((run_folder / name).as_uri())
        closed = tab.locator("main details:not([open])").count()
        assert closed > 5
        printed = pages()
        assert tab.locator("main details:not([open])").count() == closed
        tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert printed == pages()
        tab.evaluate("document.querySelectorAll('details > :not(summary)').forEach(part => part.remove())")
        assert printed > pages() + 2, f"{name}: the folds are too small for this test to see them"
    tab.context.close()


def test_no_cell_of_words_is_squeezed_on_a_phone(browser, run_folder):
    """Tables of several models scroll sideways at 360 pixels rather than break their sentences a word a line."""
    tab = browser.new_context(viewport=PHONE).new_page()
    tab.goto((run_folder / "many" / "index.html").as_uri())
    words = "all => all.filter(c => c.textContent.trim() && c.clientWidth < 130).map(c => c.textContent.trim())"
    assert tab.locator("#answer td.t").count() and tab.locator("#answer td.t").evaluate_all(words) == []
    tab.context.close()


def test_a_hundred_and_twenty_six_subgroups_stay_under_five_megabytes(browser, tmp_path):
    """Race × gender × age with its margins, three heads: one file, complete, and small enough to be sent."""
    races = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
    frame = make_predictions(4000, races=races, tasks=("gender", "race", "age"), seed=3)
    axes = ["race", "gender", "age", "race:gender:age"]
    result = run_audit(frame, by=axes, audit=QUICK)
    assert len(result.meta["subgroups"]["race:gender:age"]) == 126
    page = write_report(result, tmp_path, single=True)
    assert page.stat().st_size < 5_000_000
    tab = browser.new_context(viewport=PHONE).new_page()
    troubles: list[str] = []
    listen(tab, troubles, [])
    tab.goto(page.as_uri())
    assert tab.locator("article.group").count() == 126 + 18 and not troubles
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tab.context.close()


def test_names_from_right_to_left_turn_nothing_around(browser, run_folder):
    """Such a name is isolated from the figures beside it, and what would reorder text unseen is printed."""
    tab = browser.new_context().new_page()
    tab.goto((run_folder / "audits" / "hostile" / "index.html").as_uri())
    text = tab.inner_text("#pages")
    assert "[U+202E]\u2068שלום\u2069 " in text and "\u202e" not in text
    tab.context.close()
