"""Every page in a real browser: no console error, links resolve, nothing leaves the folder, no sideways scroll."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pandas as pd
import pytest
from report_data import HOSTILE, make_attribution, make_comparison, make_predictions

from fairaudit.audit import run_audit
from fairaudit.report.render import write_comparison_report, write_report, write_run_index
from fairaudit.results import AuditResult

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


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
    """A run as the command line leaves it: index, two audits (one with hostile names everywhere), a comparison."""
    out = tmp_path_factory.mktemp("run") / "my run #1"
    frame = make_predictions(1200, worse={"Asian": 0.7}, tasks=("gender", "age"), seed=1)
    frame["gender_status"] = "ok"
    frame.loc[:19, ["gender_pred", "gender_status"]] = [None, "no_face"]
    baseline = run_audit(frame, by=["race", "gender", "race:gender"], name="baseline")
    nasty = make_predictions(900, races=HOSTILE, tasks=("gender", "race"), seed=2)
    mean = run_audit(nasty, by=["race", "race:gender"], name=HOSTILE[0], meta={"warnings": [HOSTILE[0]]})
    attribution = make_attribution({"race": list(baseline.meta["subgroups"]["race"])}, tasks=("gender", "age"))
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.1, 0.7]})
    results: dict[str, AuditResult] = {"baseline": baseline, "hostile": mean}
    up = {"Run overview": "../../index.html"}
    write_report(baseline, out / "audits" / "baseline", attribution=attribution, history=history, links=up)
    write_report(mean, out / "audits" / "hostile", links=up)
    comparison = make_comparison(baseline, model=HOSTILE[0])
    write_comparison_report(comparison, out / "comparison", results=results, links={"Run overview": "../index.html"})
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
