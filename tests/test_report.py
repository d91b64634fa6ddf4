"""The report's words, names, verdicts and pages, without a browser."""

import base64
import dataclasses
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_data import AGES, HOSTILE, make_attribution, make_comparison, make_predictions

from fairaudit.audit import run_audit
from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.report import words
from fairaudit.report.answer import answer_section, gap_change_state, make_comparison_context
from fairaudit.report.charts import training_curves
from fairaudit.report.comparisons import p_text
from fairaudit.report.context import Gap, make_context, make_slugs
from fairaudit.report.figures import Scale
from fairaudit.report.findings import findings_data
from fairaudit.report.first_screen import first_screen
from fairaudit.report.pictures import FacePictures, map_png, thumbnail
from fairaudit.report.render import render_audit, write_comparison_report, write_report
from fairaudit.report.sections import SECTIONS
from fairaudit.report.subgroup_index import index_data
from fairaudit.report.tables import difference_matrix, row_shares
from fairaudit.report.verdict import established, further, headline_gap, summary, verdicts
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec
from fairaudit.wording import plural


class Page(HTMLParser):
    """Every tag with its attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of this name."""
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def planted() -> AuditResult:
    """An audit in which faces labelled Asian are served far worse, and gender makes no difference."""
    frame = make_predictions(2000, worse={"Asian": 0.7}, accuracy=0.95, seed=1)
    return run_audit(frame, by=["race", "gender", "race:gender"], name="planted")


@pytest.fixture(scope="module")
def hostile() -> AuditResult:
    """An audit whose subgroups are named by an enemy."""
    frame = make_predictions(900, races=HOSTILE, tasks=("gender", "race"), seed=2)
    return run_audit(frame, by=["race", "race:gender"], name="<img src=x onerror=alert(1)>")


def test_a_planted_gap_is_a_finding_and_names_the_group(planted):
    """The verdict says that the gap is there, which group is worst, with figures, interval and n."""
    judged = {(v.task, v.by): v for v in verdicts(make_context(planted))}
    found = judged["gender", "race"]
    assert found.state == "found"
    assert "Worst: faces labelled Asian 7" in found.sentence and "n\u00a0=\u00a0" in found.sentence
    assert re.search(r"Gap 2\d\.\d\u00a0points \(\d+\.\d–\d+\.\d\)", found.sentence)
    assert "Asian" in found.detail and "White" not in found.detail


def test_one_finding_is_one_and_not_one_of_many(planted):
    """A single group, gap, pair or intersection is in the singular: in the lead, and where lines are folded."""
    table = planted.table("findings")
    row = table[table["finding"].astype(bool) & (table["kind"] == "rest")].iloc[0]
    kinds = pd.DataFrame([{**row, "kind": kind, "sentence": kind} for kind in ("rest", "interaction", "gap", "pair")])
    alone = dataclasses.replace(planted, more={**planted.more, "findings": kinds})
    data = findings_data(make_context(alone))
    assert data["lead"].startswith(
        "Beyond noise: 1 group against the rest, 1 intersection beyond its margins, 1 gap, 1 pair of groups; "
    )
    folded = [part["all"] for head in data["heads"] for part in head["folded"]]
    assert folded == ["1 intersection beyond its margins", "1 gap", "1 pair of groups"]


def test_noise_alone_is_never_a_finding():
    """With one accuracy for everyone at most one of ten seeds gives a finding."""
    found = []
    for seed in range(10):
        result = run_audit(make_predictions(400, seed=seed), by=["race"], audit=AuditSpec(draws=100))
        found += [v for v in verdicts(make_context(result)) if v.state == "found"]
    assert len(found) <= 1


def test_an_open_gap_says_what_it_cannot_exclude(planted):
    """Where no difference is shown the sentence gives the interval from zero and the gap that remains possible."""
    open_ = next(v for v in verdicts(make_context(planted)) if v.state == "open")
    assert "compatible with no difference (0.0–" in open_.sentence
    assert "nor is a gap of up to" in open_.sentence


def test_small_groups_and_unknown_labels_are_named_as_not_assessed():
    """A verdict says whom it does not speak about."""
    frame = make_predictions(600, shares=(0.5, 0.3, 0.1, 0.08, 0.02), seed=3)
    frame.loc[:9, "race"] = None
    context = make_context(run_audit(frame, by=["race"]))
    missing = verdicts(context)[0].missing
    assert "Others" in missing and "fewer than 30 faces" in missing and "10 faces without a label" in missing


def test_without_labels_nothing_is_concluded():
    """Predictions without a true column give no finding about accuracy, and say why."""
    frame = make_predictions(300).drop(columns=["gender_true"])
    context = make_context(run_audit(frame, tasks=["gender"], by=["race"]))
    assert {v.state for v in verdicts(context)} == {"none"}
    assert "no labels of gender" in verdicts(context)[0].sentence


def test_summary_counts_findings_and_never_claims_equality(planted):
    """The first sentence names single axes; without findings it says that this is no proof."""
    judged = verdicts(make_context(planted))
    assert "gender by race" in summary(judged)[0]
    quiet = [dataclasses.replace(v, state="open") for v in judged]
    assert "not proof" in summary(quiet)[0]
    assert "Nothing could be assessed" in summary([dataclasses.replace(v, state="none") for v in judged])[0]


def gap(metric: str = "accuracy", low: float = 0.0, difference: float = 0.1, class_: str = "") -> Gap:
    """Return a gap for the rules about gaps."""
    return Gap(metric, class_, difference, low, difference + 0.1, 0.9, 0.8, 1.0, "a", "b", "")


def test_only_an_interval_above_zero_establishes_a_gap():
    """A large gap with an interval from zero, or without one, is none."""
    assert established(gap(low=0.001))
    assert not established(gap(low=0.0, difference=0.9))
    assert not established(gap(low=float("nan")))
    assert not established(gap(difference=float("nan"), low=0.5))


def test_the_audits_verdict_decides_where_there_is_one():
    """A gap whose own interval excludes zero is none where its family says that noise explains it."""
    assert established(dataclasses.replace(gap(low=0.01), verdict="gap"))
    assert not established(dataclasses.replace(gap(low=0.01), verdict="no gap shown"))


def test_verdicts_agree_with_findings(planted):
    """An axis is called found exactly where its gap's verdict or a contrast's adjusted p says so; lists agree."""
    context = make_context(planted)
    gaps = planted.gaps.set_index(["task", "by", "metric", "class"])
    for judged in verdicts(context):
        if judged.state == "none":
            continue
        head = headline_gap(context.gaps[judged.task, judged.by])
        rows = context.shown_contrasts.get((judged.task, judged.by), [])
        single = any((row["metric"], row["class"]) == (head.metric, head.class_) for row in rows)
        shown = gaps.loc[(judged.task, judged.by, head.metric, head.class_), "verdict"] == "gap"
        assert (judged.state == "found") == (shown or single)
    data = findings_data(context)
    table = planted.more["findings"]
    first = table[table["finding"] & (table["kind"] == "rest") & (table["task"] == "gender")].iloc[0]["sentence"]
    assert data["heads"][0]["first"][0].replace("\u00a0", " ") == f"By {first.split(' by ', 1)[1]}"
    assert sum(int(row.entries[1].text) for row in data["families"].rows) == int(table["finding"].sum())
    assert findings_data(make_context(dataclasses.replace(planted, more={}))) is None


def test_the_headline_is_accuracy_where_it_is_defined():
    """Recall by labelled class speaks only where the accuracy is undefined."""
    recall = gap("recall_by_labelled_class", low=0.2)
    assert headline_gap([recall, gap()]).metric == "accuracy"
    assert headline_gap([recall, gap(difference=float("nan"))]) == recall
    assert headline_gap([]) is None


def test_further_gaps_leave_out_the_headline_and_complements(planted):
    """FNR repeats recall, so it is not listed beside it; how often a class is labelled is nothing of the model's."""
    metrics = [g.metric for g in further(make_context(planted), "gender", "race")]
    assert "recall" in metrics and not {"fnr", "tnr", "fdr", "accuracy", "base_rate"} & set(metrics)


@given(st.lists(st.tuples(st.sampled_from(["race", "a:b", "é"]), st.text(max_size=80)), unique=True, max_size=12))
def test_slugs_are_safe_and_unique(places):
    """Whatever the names, file names are short, plain, and differ even where letters' case does not count."""
    slugs = list(make_slugs(places).values())
    assert len(set(slugs)) == len(places)
    assert all(re.fullmatch(r"[a-z0-9-]{1,80}", slug) for slug in slugs)


def test_slugs_are_stable_and_readable():
    """A plain name keeps its letters, so that a link can be told by heart."""
    slugs = make_slugs([("race", "White"), ("race:gender", "White × Male"), ("race", "white")])
    assert slugs["race", "White"] == "race--white"
    assert slugs["race:gender", "White × Male"] == "race-gender--white-male"
    assert slugs["race", "white"].startswith("race--white-")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.figure(0.901, 0.879, 0.92), "90.1\u00a0% (87.9–92.0)"),
        (words.figure(float("nan")), "–"),
        (words.difference(-0.051, -0.08, -0.022), "−5.1\u00a0points (−8.0 to −2.2)"),
        (words.difference(0.051, 0.022, 0.08, signed=False), "5.1\u00a0points (2.2–8.0)"),
        (words.figure(0.451, 0.4, 0.5, "bins"), "0.45\u00a0bins (0.40–0.50)"),
        (words.number(-0.0001), "0.0"),
        (words.count(12345), "12,345"),
        (words.count(float("nan")), "–"),
        (words.listing(["a", "b", "c"]), "a, b and c"),
        (plural(1, "face"), "1 face"),
        (p_text(0.00001), "<\u00a00.001"),
        (p_text(None), "–"),
    ],
)
def test_numbers_are_written_one_way(text, expected):
    """Percent with one decimal, minus as minus, thousands separated, undefined as a dash."""
    assert text == expected


def test_scales_stay_within_possible_shares():
    """A scale of shares never shows more than 100 % or less than 0 %."""
    scale = Scale([0.93, 0.999, 1.0, float("nan")])
    assert 0 <= scale.low < scale.high <= 1.0
    assert 3 <= scale.at(-5) <= scale.at(0.95) <= scale.at(7) <= 97


def test_row_shares_of_an_empty_row_are_undefined():
    """No face of a class gives no share, not zero, and the difference is a dash."""
    shares = row_shares(np.array([[3.0, 1.0], [0.0, 0.0]]))
    assert shares[0].tolist() == [0.75, 0.25] and np.isnan(shares[1]).all()
    matrix = difference_matrix(np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [1.0, 0.0]]), "ab", "c")
    assert [cell.text for cell in matrix.cells[0]] == ["+25.0", "−25.0"]
    assert [cell.text for cell in matrix.cells[1]] == ["–", "–"]


def test_changes_of_gaps_are_read_by_their_interval():
    """A gap fell only where the whole interval of its change is below zero."""
    assert gap_change_state({"delta": -0.1, "low": -0.2, "high": -0.01}) == "smaller"
    assert gap_change_state({"delta": -0.1, "low": -0.2, "high": 0.01}) == "open"
    assert gap_change_state({"delta": 0.1, "low": 0.01, "high": 0.2}) == "larger"
    assert gap_change_state({"delta": float("nan"), "low": 0.0, "high": 0.0}) == "none"


def test_every_subgroup_has_a_page_and_is_linked_both_ways(planted, tmp_path):
    """The index leads to every page, each page leads back and to its neighbours."""
    index = write_report(planted, tmp_path / "report")
    pages = sorted(path.name for path in (index.parent / "groups").iterdir())
    assert len(pages) == 5 + 2 + 10
    linked = {a["href"] for a in Page(index.read_text(encoding="utf-8")).named("a")}
    assert {f"groups/{name}" for name in pages} <= linked
    for name in pages:
        back = {a["href"] for a in Page((index.parent / "groups" / name).read_text(encoding="utf-8")).named("a")}
        assert "../index.html" in back
    neighbours = Page((index.parent / "groups" / "race--black.html").read_text(encoding="utf-8")).named("a")
    assert {"prev", "next"} <= {a.get("rel") for a in neighbours}


def test_hostile_names_are_text(hostile, tmp_path):
    """No name becomes an element, an attribute or a path outside the report."""
    index = write_report(hostile, tmp_path / "report")
    names = list(index.parent.rglob("*.html"))
    assert len(names) == 1 + 6 + 12 and all(len(path.name) < 100 for path in names)
    for path in names:
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert page.named("script") == [{}] and "style" not in {key for _, a in page.tags for key in a}
        assert not [a for _, a in page.tags if any(key.startswith("on") for key in a)]
        assert all(img["src"].startswith("data:") for img in page.named("img"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in index.read_text(encoding="utf-8")


def test_pages_have_the_bones_a_reader_needs(planted, tmp_path):
    """Language, one h1, landmarks, skip link, captions, scopes, names for every chart, and a strict policy."""
    index = write_report(planted, tmp_path / "report", attribution=make_attribution({"race": ("White", "Asian")}))
    for path in [index, index.parent / "groups" / "race--asian.html"]:
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert page.named("html") == [{"lang": "en"}]
        assert len(page.named("h1")) == len(page.named("main")) == len(page.named("title")) == 1
        assert page.named("a")[0]["href"] == "#main"
        assert len(page.named("table")) == len(page.named("caption")) > 0
        assert all(th["scope"] in ("col", "row") for th in page.named("th"))
        assert all(svg.get("aria-hidden") == "true" or svg.get("aria-label") for svg in page.named("svg"))
        assert all(img["alt"] for img in page.named("img"))
        policy = next(meta["content"] for meta in page.named("meta") if "http-equiv" in meta)
        inline = {tag: re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style")}
        named = {
            tag: base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for tag, (part,) in inline.items()
        }
        assert policy == (
            f"default-src 'none'; script-src 'sha256-{named['script']}'; style-src 'sha256-{named['style']}'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        )
        assert "http:" not in text.replace("http-equiv", "") and "https:" not in text
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_undefined_figures_stand_with_their_reason(tmp_path):
    """A recall without a labelled face is a dash, and the page says why."""
    frame = make_predictions(400, seed=4)
    frame = frame[~((frame["race"] == "Indian") & (frame["gender"] == "Female"))]
    index = write_report(run_audit(frame, by=["race"]), tmp_path / "report")
    for path in (index, index.parent / "groups" / "race--indian.html"):
        text = path.read_text(encoding="utf-8")
        assert "no face labelled Female in Indian" in text and "<sup>" in text


def test_degenerate_axes_are_explained(tmp_path):
    """The race head by race gives recall by labelled class, and no difference from everyone else."""
    result = run_audit(make_predictions(600, tasks=("race",)), by=["race"])
    index = write_report(result, tmp_path / "report")
    text = index.read_text(encoding="utf-8")
    assert "the subgroup determines the label of race" in text and "recall by labelled class" in text
    assert "Art. 5(1)(g)" in text
    group = (index.parent / "groups" / "race--asian.html").read_text(encoding="utf-8")
    assert "undefined here" in group


def test_ordered_heads_show_their_own_measures(tmp_path):
    """Age bins bring distances in bins and the direction of errors."""
    result = run_audit(make_predictions(600, tasks=("age",)), by=["gender"])
    text = write_report(result, tmp_path / "report").read_text(encoding="utf-8")
    assert "Mean signed error" in text and "Off-by-one accuracy" in text
    assert text.index(AGES[0]) < text.index(AGES[-1])


def test_sections_appear_only_with_their_data(planted, tmp_path):
    """No attribution, no history, no planted truth: no such section; with them: each once."""
    context = make_context(planted)
    absent = {"attribution", "training", "planted", "policies", "population", "exploratory", "calibration", "roc"}
    absent |= {"adjusted", "custom"}
    assert {name for name, make in SECTIONS.items() if make(context) is None} == absent
    told = {
        "kind": "low_quality",
        "where": {"race": "Asian"},
        "task": "gender",
        "found": True,
        "verdict": "Found in Asian.",
    }
    full = dataclasses.replace(planted, meta={**planted.meta, "planted": [told], "warnings": ["Seen before."]})
    history = pd.DataFrame(
        {"stage": ["heads", "fine"], "epoch": [1, 1], "train_loss": [1.0, 0.5], "val_loss": [1.1, 0.7]}
    )
    history["selected"] = [False, True]
    attribution = make_attribution({"race": planted.meta["subgroups"]["race"]})
    index = write_report(full, tmp_path / "report", attribution=attribution, history=history)
    text = index.read_text(encoding="utf-8")
    assert "Found in Asian." in text and "Seen before." in text
    assert "Integrated gradients" in text and "training curves over 2 epochs" in text
    assert "epoch 2, chosen on validation" in text
    assert text.count('<section id="training"') == 1
    assert write_report(full, tmp_path / "again", attribution=attribution, history=history).read_text() == text


def test_reports_are_written_over_each_other_cleanly(planted, hostile, tmp_path):
    """A second report leaves no page of the first, and other files of the folder alone."""
    (tmp_path / "audit.json").write_text("{}")
    write_report(hostile, tmp_path)
    index = write_report(planted, tmp_path)
    linked = {a["href"] for a in Page(index.read_text(encoding="utf-8")).named("a")}
    assert all(f"groups/{path.name}" in linked for path in (tmp_path / "groups").iterdir())
    assert (tmp_path / "audit.json").exists()


def test_faces_are_shown_only_when_asked_for_and_without_metadata(tmp_path):
    """By default no face; with FacePictures thumbnails of errors with a warning, re-encoded without EXIF."""
    frame = make_predictions(60, accuracy=0.5)
    result = run_audit(frame, by=["race"])
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    picture = tmp_path / "face.jpg"
    Image.new("RGB", (200, 100), "teal").save(picture, exif=exif)
    plain = write_report(result, tmp_path / "plain")
    assert not any("image/jpeg" in path.read_text(encoding="utf-8") for path in plain.parent.rglob("*.html"))
    faces = FacePictures(predictions=read_predictions(frame), locate=lambda image: picture, per_group=2)
    shown = write_report(result, tmp_path / "shown", faces=faces)
    page = (shown.parent / "groups" / "race--white.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 and "pictures of people" in page
    assert "image/jpeg" not in shown.read_text(encoding="utf-8")
    assert thumbnail(tmp_path / "absent.jpg", 40) is None


def test_errors_are_laid_out_by_label_and_prediction_surest_first(tmp_path):
    """One page, for those who asked: every confusion with its count and warning; it goes when nobody asks any more."""
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(12)], "g_true": ["a"] * 8 + ["b"] * 4, "race": "x"})
    frame["g_pred"] = ["b"] * 5 + ["a"] * 4 + ["b"] * 3
    frame["g_prob_b"] = [0.6, 0.9, 0.7, 0.8, 0.55, 0.1, 0.2, 0.3, 0.4, 0.7, 0.8, 0.9]
    frame["g_prob_a"] = 1 - frame["g_prob_b"]
    frame.loc[11, "g_true"] = None
    Image.new("RGB", (90, 90), "teal").save(tmp_path / "face.jpg")
    asked = []

    def locate(image):
        asked.append(image)
        return tmp_path / ("absent" if image == "3.jpg" else "face.jpg")

    faces = FacePictures(predictions=read_predictions(frame), locate=locate, per_group=3)
    result = run_audit(frame, by=["race"])
    index = write_report(result, tmp_path / "out", faces=faces)
    assert 'href="errors.html"' in index.read_text(encoding="utf-8")
    page = (tmp_path / "out" / "errors.html").read_text(encoding="utf-8")
    assert "6 of 11 faces with a label and a prediction were predicted wrongly." in page
    assert page.index("labelled a, predicted b") < page.index("labelled b, predicted a")
    assert "2 of 5 faces; 1 could not be read" in page
    assert page.index("sure to 90 %") < page.index("sure to 70 %") < page.index("sure to 60 %")
    assert "pictures of people" in page and "no fair sample" in page
    plain = write_report(result, tmp_path / "out")
    assert not (tmp_path / "out" / "errors.html").exists()
    assert "errors.html" not in plain.read_text(encoding="utf-8")


def test_maps_are_small_pictures():
    """A large map becomes a PNG of a few kilobytes, also when it is empty."""
    rng = np.random.default_rng(0)
    assert len(map_png(rng.random((224, 224)), 1.0)) < 8000
    assert map_png(np.zeros((8, 8)), 0.0, diverging=True).startswith("data:image/png;base64,")


def test_rendering_needs_no_torch(planted, tmp_path):
    """The report of a saved audit is rendered without torch, which takes seconds to import."""
    planted.save(tmp_path / "audit")
    code = (
        "import sys; from pathlib import Path; from fairaudit.report.render import render_audit;"
        "render_audit(Path(sys.argv[1]), Path(sys.argv[2])); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "audit"), str(tmp_path / "out")], check=False)
    assert done.returncode == 0 and Path(tmp_path / "out" / "index.html").exists()


def test_the_comparison_answers_first_and_names_the_cost(tmp_path):
    """A model that mends one group at another's cost: the lead says so, with figures; without change it says that."""
    before = make_predictions(2400, worse={"Asian": 0.7}, accuracy=0.95, seed=1)
    after = before.copy()
    asian, white = before["race"] == "Asian", before["race"] == "White"
    after.loc[asian, "gender_pred"] = before.loc[asian, "gender_true"]
    flip = white & (np.arange(len(before)) % 9 == 0)
    after.loc[flip, "gender_pred"] = before.loc[flip, "gender_true"].map({"Male": "Female", "Female": "Male"})
    tables = {name: read_predictions(frame) for name, frame in (("before", before), ("mended", after))}
    comparison = compare(tables["before"], {"mended": tables["mended"], "same": tables["before"]}, by=["race"])
    results = {name: run_audit(table, by=["race"]) for name, table in tables.items()}
    text = write_comparison_report(comparison, tmp_path, results=results).read_text(encoding="utf-8")
    mended, same = (m["lead"] for m in answer_section(make_comparison_context(comparison)).data["models"])
    assert "gender by race: White lost" in " ".join(mended)
    assert "which flatters the change" in " ".join(mended)
    assert same[0] == "same: no gap in accuracy or recall on a single axis is shown to have changed."
    assert any("no subgroup of a single axis is shown to have lost" in line for line in same)
    assert "no one is harmed at a margin of 2.0 points" in same[-1]
    assert "Every model by itself" in text and text.index("Did the gap close?") < text.index(
        "What happened to each gap"
    )


def test_names_leading_out_of_the_data_folder_show_no_face(tmp_path):
    """With --show-faces an image name such as ../secret.jpg is counted as unreadable, never opened."""
    Image.new("RGB", (20, 20)).save(tmp_path / "secret.jpg")
    (tmp_path / "data").mkdir()
    frame = make_predictions(60, accuracy=0.2)
    frame["image"] = [f"../{'./' * i}secret.jpg" for i in range(60)]
    table = read_predictions(frame)
    run_audit(table, by=["gender"]).save(tmp_path / "audit", table)
    index = render_audit(tmp_path / "audit", tmp_path / "out", faces_root=tmp_path / "data")
    pages = [path.read_text(encoding="utf-8") for path in (index.parent / "groups").iterdir()]
    assert not any("image/jpeg" in page for page in pages) and all("could not be read" in page for page in pages)


def test_the_readmes_python_example_runs(tmp_path):
    """A folder may be given as text; a report without the audit's tables is no audit to be overwritten."""
    result = run_audit(make_predictions(60), tasks=["gender"], by=["race"])
    assert write_report(result, str(tmp_path / "audit")) == tmp_path / "audit" / "index.html"
    with pytest.raises(UsageError, match="not a fairaudit audit"):
        result.save(tmp_path / "audit")
    assert (tmp_path / "audit" / "index.html").exists()


def test_training_curves_take_any_name_of_a_task():
    """A task's name is text, neither markup nor mathematics."""
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "val_accuracy_$\\frac$<b>": [0.1, 0.2]})
    chart = training_curves(history)
    assert "$\\frac$&lt;b&gt;" in chart and "<b>" not in chart


def test_the_first_page_says_what_the_model_is():
    """Architecture, selection and mitigation stand there in words and short figures; what is too deep does not."""
    model = {
        "architecture": {"backbone": "resnet18", "mean": [0.485, 0.456], "folded": True},
        "selected": {"epoch": 3, "score": 0.41666666666666663},
        "data": {"counts": {"train": {"faces": 5}}},
        "classes": {"gender": ["Male", "Female"]},
    }
    told = {"method": "reweighing", "sentences": ["Two reach the cap.", "None is empty."]}
    result = run_audit(make_predictions(60), by=["race"], meta={"model": model, "mitigation": told})
    facts = dict(SECTIONS["audited"](make_context(result)).data["facts"])
    assert facts["Model: architecture"] == "backbone resnet18; mean 0.485, 0.456; folded yes"
    assert facts["Model: selected"] == "epoch 3; score 0.4167"
    assert facts["Mitigation: sentences"] == "Two reach the cap. None is empty."
    assert not {"Model: data", "Model: classes"} & facts.keys()


def test_a_group_page_without_labels_claims_no_mistakes_and_no_perfection(tmp_path):
    """Selection rates stand beside everyone else's; that nothing was wrong is not said, because nobody could know."""
    frame = make_predictions(400).drop(columns="gender_true")
    write_report(run_audit(frame, by=["race"]), tmp_path)
    page = (tmp_path / "groups" / "race--white.html").read_text(encoding="utf-8")
    assert "No wrong prediction" not in page
    assert "no one else" not in page
    assert "Without labels nothing can be called a mistake" in page
    assert "No labels of gender are known" in page
    assert "Selection rate of Male" in page


def test_a_group_without_a_prediction_is_not_called_faultless(tmp_path):
    """A subgroup in which no face was found has no mistakes to list, for that reason."""
    frame = make_predictions(400)
    white = frame["race"] == "White"
    frame = frame.assign(gender_pred=frame["gender_pred"].mask(white), gender_status=np.where(white, "no_face", ""))
    write_report(run_audit(frame, by=["race"]), tmp_path)
    page = (tmp_path / "groups" / "race--white.html").read_text(encoding="utf-8")
    assert "No wrong prediction" not in page
    assert "No face of this group has both a label and a prediction" in page


def test_a_notebook_shows_the_answer_and_no_markup_of_strangers(planted, hostile):
    """Audit and comparison as HTML: the finding with its figures, names as text, no script, no address."""
    shown = planted._repr_html_()
    assert "gender by race" in shown and "Asian" in shown and "▲" in shown and "write_report" in shown
    told = [hostile._repr_html_(), make_comparison(hostile, model=HOSTILE[0])._repr_html_()]
    assert all("&lt;" in text for text in told)
    for text in (shown, *told):
        page = Page(text)
        assert not {"script", "style", "img", "link", "a"} & {tag for tag, _ in page.tags}
        assert len(text) < 40_000 and not any(key.startswith("on") for _, a in page.tags for key in a)


def test_the_first_screen_ranks_findings_and_says_who_is_worst_off_and_what_stays_open(planted):
    """One line a subgroup, the surest first; the worst-off with its figure; nothing declared is nothing passed."""
    screen = first_screen(make_context(planted))
    assert "faces labelled Asian" in screen["findings"][0] and len(screen["findings"]) == len(set(screen["findings"]))
    worst = screen["worst"][0]
    assert worst["group"] == "Asian" and worst["shown"] and "n\u00a0=\u00a0" in worst["text"]
    assert not screen["policies"]
    assert "is not ruled out" in screen["open"][0] and "agreement with labels" in screen["open"][-1]


def test_one_is_singular(tmp_path):
    """With a least size of one and groups of one face no page says "1 faces"."""
    frame = make_predictions(60, seed=4)
    frame.loc[0, "race"] = "Lone"
    result = run_audit(frame, by=["race"], audit=AuditSpec(draws=100, min_group_size=1))
    write_report(result, tmp_path)
    write_report(run_audit(frame.head(1), by=["race"], audit=AuditSpec(draws=100, min_group_size=1)), tmp_path / "one")
    many = "faces|groups|subgroups|labels|tests|models|seeds|rows|axes|intersections|pairs|comparisons|methods|findings"
    pages = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".md")]
    assert len(pages) > 8
    for path in pages:
        text = " ".join(
            re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", " ", path.read_text(), flags=re.S).split()
        )
        wrong = re.findall(rf"(?:^|\S+ )(?<![\d.,–−+:] )(?<![\d.,–−+:/])\b1 (?:\w+ )?(?:{many})\b", text)
        assert not wrong, (path.name, wrong)
        assert "1 face" in text or path.parent.name != "one" or path.name not in ("index.html", "summary.md")


def test_the_index_lists_whoever_is_worse_off_first(planted):
    """All subgroups of all axes, an anchor an axis, the planted group first of its axis and marked."""
    data = index_data(make_context(planted))
    rows = data["table"].rows
    assert len(rows) == 5 + 2 + 10 and [row.anchor for row in rows if row.anchor] == ["axis-1", "axis-2", "axis-3"]
    assert rows[0].head == "Asian" and rows[0].entries[2].text.endswith(" ▼")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("90.9 % (n = 1,356)", ["90.9\u00a0%", "(n\u00a0=\u00a01,356)"]),
        ("faces labelled 10-19 (87.9–92.0)", ['<span class="nb">10-19</span>', '<span class="nb">(87.9–92.0)</span>']),
        ("adjusted p = .097, 5.0 points", ["p\u00a0=\u00a0.097", "5.0\u00a0points"]),
        ("a-10-19 <b>", ["a-10-19 &lt;b&gt;"]),
    ],
)
def test_figures_and_ranges_stay_on_one_line(text, kept):
    """No unit stands alone on a line, no interval and no range of ages is cut; text is escaped, markup left alone."""
    shown = words.unbroken(text)
    assert all(part in shown for part in kept), shown
    assert words.unbroken(shown) is shown
    cell = words.bounds("25.0\u00a0% (7.1–59.1, n\u00a0=\u00a08)")
    assert cell == "25.0\u00a0% <small>(7.1–59.1,</small> <small>n\u00a0=\u00a08)</small>"
    assert words.bounds("25.0\u00a0% (7.1–59.1)") == "25.0\u00a0% <small>(7.1–59.1)</small>"
