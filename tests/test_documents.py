"""Scope, law, data sheet, published numbers, rationale, Annex IV, hashes, the model card and the files for CI."""

import html
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_data import HOSTILE, make_predictions

from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.environment import environment, source_hash
from fairaudit.errors import UsageError
from fairaudit.metrics.rates import METRICS
from fairaudit.report.annex_iv import POINTS
from fairaudit.report.ci import junit_xml, summary_markdown
from fairaudit.report.context import make_context
from fairaudit.report.data_sets import DATA_SETS, names_of
from fairaudit.report.datasheet import datasheet_data
from fairaudit.report.legal import legal_notice
from fairaudit.report.model_card import CARRIED, MODEL_CARD, model_card
from fairaudit.report.plain_text import markdown, visible, yaml_text
from fairaudit.report.published import published_data
from fairaudit.report.published_numbers import AGE_9, PUBLISHED, RACE_7
from fairaudit.report.rationale import RATIONALES, rationale_data
from fairaudit.report.render import write_report
from fairaudit.report.scope import scope_facts
from fairaudit.report.sections import SECTIONS
from fairaudit.report.words import sentence_case
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec, acknowledgement, parse_spec
from fairaudit.verification import verify

QUICK = AuditSpec(draws=100)
POLICIES = (
    "difference(accuracy, race) <= 0.05",
    "minimum(recall, gender) >= 0.3",
    "difference(accuracy, gender) <= 0.02",
)
NASTY = "| `x` \n# <script>alert(1)</script> \u202ertl\x07 [a](http://b) - {c}: &amp; 'q' \"d\" %!@someone " + "y" * 300
UTKFACE = {"data": {"dataset": "utkface", "split_hash": "ab" * 32, "data_hash": "cd" * 32}}


@pytest.fixture(scope="module")
def audited() -> AuditResult:
    """A gender and race head with a planted gap, policies that pass, fail and stay open, on faces of UTKFace."""
    frame = make_predictions(900, worse={"Asian": 0.6}, accuracy=0.95, tasks=("gender", "race"), seed=1)
    audit = AuditSpec(draws=100, policies=POLICIES)
    meta = {**UTKFACE, "report": {"intended_use": "auditing"}, "hashes": {"checkpoint": "ef" * 32}}
    return run_audit(frame, by=["race", "gender", "race:gender"], audit=audit, name="planted", meta=meta)


@pytest.fixture(scope="module")
def nasty() -> AuditResult:
    """An audit in which every name and every statement is written by an enemy."""
    frame = make_predictions(600, races=HOSTILE, tasks=("gender", "race"), seed=2)
    told = ("intended_use", "provider", "responsible", "contact", "licence", "data_terms", "data_set")
    report = {
        **dict.fromkeys(told, NASTY),
        "out_of_scope": [NASTY, NASTY],
        "acknowledge_race_head": f"{NASTY}, {NASTY}",
    }
    audit = AuditSpec(draws=100, policies=("difference(accuracy, race) <= 0.9",))
    return run_audit(frame, by=["race"], audit=audit, name=NASTY, meta={"report": report, "model": {"name": NASTY}})


def front_matter(card: str) -> dict[str, Any]:
    """Return what a YAML reader finds between the first two lines of ---."""
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_the_legal_notice_says_who_acknowledged_it_or_that_nobody_did(audited):
    """A race head brings the notice; without an acknowledgement it says so, with one it names who and for what."""
    silent = legal_notice(["gender", "race"], audited.meta)
    assert silent is not None and silent.heads == ["race"]
    assert "5(1)(g)" in silent.paragraphs[0] and any("Annex III" in text for text in silent.paragraphs)
    assert silent.standing.startswith("Nobody has acknowledged")
    told = legal_notice(["race"], {"report": {"acknowledge_race_head": "Ada, checking labels"}})
    assert told is not None and "Ada" in told.standing and "checking labels" in told.standing
    assert legal_notice(["gender", "age"], audited.meta) is None


def test_an_acknowledgement_names_a_person_and_a_purpose():
    """Half of it is refused, on the command line and in a spec."""
    assert acknowledgement(" Ada Lovelace ,  checking labels, and more ") == "Ada Lovelace, checking labels, and more"
    for half in ("Ada", "Ada,", ", purpose", "  ,  "):
        with pytest.raises(UsageError, match="NAME, purpose"):
            acknowledgement(half)
    with pytest.raises(UsageError, match=r"report\.acknowledge_race_head"):
        parse_spec({"name": "x", "data": {"dataset": "utkface"}, "report": {"acknowledge_race_head": "Ada"}})
    with pytest.raises(UsageError, match="intended_use"):
        parse_spec({"name": "x", "data": {"dataset": "utkface"}, "report": {"intended_us": "?"}})


def test_what_is_not_stated_is_said(audited):
    """Scope and data sheet print "not stated" instead of leaving a line out."""
    facts = dict(scope_facts(audited.meta))
    assert facts["Intended use"] == "auditing"
    assert facts["Contact"] == facts["Responsible for this report"] == "not stated"
    assert set(dict(scope_facts({})).values()) == {"not stated"}
    sheet = datasheet_data(make_context(audited))
    assert dict(sheet["facts"])["Splits of the set"] == "not stated" and sheet["terms"] == ""
    assert "non-commercial" in sheet["sets"][0][1].terms


def test_the_data_sheet_counts_what_was_met_duplicates_first(audited):
    """Rows that were left out, and the findings of the data set, stand with their counts; duplicates come first."""
    frame = make_predictions(300)
    frame.loc[:9, "gender_true"] = None
    findings = [
        {"kind": "zero_byte", "action": "excluded", "count": 2, "examples": "a"},
        {"kind": "duplicate_faces", "action": "listed", "count": 7, "examples": "b"},
    ]
    result = run_audit(frame, by=["race"], audit=QUICK, meta={"data": {"dataset": "utkface", "findings": findings}})
    table = datasheet_data(make_context(result))["met"]
    rows = {row.head: row.entries[-1].text for row in table.rows}
    assert table.rows[0].head == "duplicate faces" and rows["duplicate faces"] == "7" and rows["zero byte"] == "2"
    assert "10" in rows.values()


def test_the_data_set_is_what_was_stated_read_or_told_by_the_labels():
    """A stated name wins over how files were read; a manifest is no data set; labels of a known source tell."""
    assert names_of({"data": {"dataset": "utkface"}}) == ["utkface"]
    assert names_of({"data": {"dataset": "utkface"}, "report": {"data_set": "Mine"}}) == ["mine"]
    assert names_of({"data": {"dataset": "merged", "sources": ["fairface", "utkface"]}}) == ["fairface", "utkface"]
    assert names_of({"data": {"dataset": "manifest"}, "label_source": "FairFace's labels of …"}) == ["fairface"]
    assert names_of({}) == []


def test_published_figures_stand_beside_ours_only_where_all_fits(audited):
    """Same data set, head and classes: a table with our interval and theirs; else a sentence that says why not."""
    data = published_data(make_context(audited))
    captions = " ".join(table.caption for table in data["tables"])
    assert "UTKFace" in captions and "Gender" in captions and "Race" in captions
    assert "ab" * 32 in data["faces"]
    ours, theirs = data["tables"][0].rows
    assert ours.head == "This audit" and "(" in ours.entries[0].text and ours.entries[2].text == "900"
    assert theirs.entries[0].text == "93.9\u00a0%" and theirs.entries[2].text == "–" and theirs.entries[-1].text
    other = make_context(
        run_audit(make_predictions(300), by=["race"], audit=QUICK, meta={"data": {"dataset": "fairface"}})
    )
    assert published_data(other)["tables"], "two classes of gender are FairFace's, too"
    several = {"data": {"dataset": "merged", "sources": ["utkface", "fairface"]}}
    for meta, why in (({}, "not stated"), (several, "of such a mix."), ({"report": {"data_set": "mine"}}, "mine")):
        none = published_data(make_context(run_audit(make_predictions(300), by=["race"], audit=QUICK, meta=meta)))
        assert not none["tables"] and why in none["why_none"]


def test_classes_that_differ_are_not_compared():
    """A race head of five classes is not set beside FairFace's seven."""
    frame = make_predictions(300, tasks=("race",))
    data = published_data(
        make_context(run_audit(frame, by=["gender"], audit=QUICK, meta={"data": {"dataset": "fairface"}}))
    )
    assert not data["tables"] and "classes" in data["why_none"]


def test_every_published_figure_has_a_source_and_is_possible():
    """Shares lie in 0…1, years are plausible, a class is one of the head's; nothing stands without a source."""
    for p in PUBLISHED:
        assert p.source and p.model and p.faces and p.data_set in DATA_SETS
        assert 0 < p.value < (20 if p.metric == "mae_years" else 1)
        assert not p.class_ or (p.classes and p.class_ in p.classes)
    assert {p.class_ for p in PUBLISHED if p.metric == "recall"} == RACE_7
    assert len(AGE_9) == 9


def test_every_metric_has_a_reason_once(audited):
    """Each metric that fairaudit knows is explained by exactly one reason, and a page explains only what it has."""
    named = [metric for r in RATIONALES for metric in r.metrics]
    assert len(named) == len(set(named))
    assert {name for name, metric in METRICS.items() if metric.kind != "count"} <= set(named)
    data = rationale_data(make_context(audited))
    assert data is not None and not data["others"]
    titles = " ".join(block["title"] for block in data["blocks"])
    assert "Accuracy" in titles and "years" not in titles and "Gap" in titles
    assert all(block["why"] and block["misleads"] and block["harm"] for block in data["blocks"])


def test_annex_iv_points_lead_to_sections_or_say_that_nothing_is_here(audited, tmp_path):
    """Every link of the table is a section of that very page; the nine points are all there."""
    write_report(audited, tmp_path / "r")
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    part = page[page.index('id="annex"') :]
    part = part[: part.index("</section>")]
    assert {point.number[0] for point in POINTS} == set("123456789")
    links = re.findall(r'href="#([^"]+)"', part)
    assert links and all(f'id="{link}"' in page for link in links)
    assert {key for point in POINTS for key in point.sections} <= {*SECTIONS, "training"}
    assert "Not covered here" in part and audited.meta["created"][:10] in part


def test_the_page_names_what_made_it_and_how_to_check_it(audited, tmp_path):
    """Hashes of weights, data, split, predictions and code, the environment, the command, and a line to sign."""
    audited.save(tmp_path / "a")
    write_report(audited, tmp_path / "a")
    page = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert "fairaudit verify ." in page and "signature" in page
    for told in ("ab" * 32, "cd" * 32, "ef" * 32, audited.meta["hashes"]["predictions"], source_hash()):
        assert told in page
    assert environment()["packages"]["numpy"] in page


def test_the_environment_names_no_host_user_or_folder(audited):
    """What is recorded of the machine is its kind: no host name, no home, no path."""
    import getpass
    import platform

    text = json.dumps(audited.meta["environment"])
    assert "/" not in text and str(Path.home()) not in text
    assert platform.node() not in text or len(platform.node()) < 3
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", text)


def test_verify_covers_the_documents(tmp_path):
    """A changed model card, summary or JUnit file is named, as a changed page is."""
    table = read_predictions(make_predictions(240))
    folder = tmp_path / "a"
    result = run_audit(table, by=["race"], audit=QUICK)
    result.save(folder, table)
    write_report(result, folder)
    assert verify(folder).differences == ()
    for name in (MODEL_CARD, "summary.md", "junit.xml"):
        with (folder / name).open("a", encoding="utf-8") as stream:
            stream.write("changed")
    assert {difference.table for difference in verify(folder).differences} == {MODEL_CARD, "summary.md", "junit.xml"}


def test_the_model_card_is_read_by_hugging_face(audited, nasty):
    """Front matter that the Hub's own reader takes, with results of every head, also where all names are hostile."""
    hub = pytest.importorskip("huggingface_hub", reason="the Hub's reader of cards is huggingface_hub")
    for result in (audited, nasty):
        card = hub.ModelCard(model_card(make_context(result)), ignore_metadata_errors=False)
        found = card.data.eval_results
        assert {entry.task_name for entry in found} == {"gender", "race"}
        assert all(0 <= entry.metric_value <= 1 for entry in found)
    assert visible(NASTY) in {entry.task_name for entry in found} | {card.data.model_name}
    assert card.data.license == "other" and card.data["license_name"] == visible(NASTY)


def test_the_model_cards_results_are_the_audits_figures(audited):
    """Values of every subgroup are those of metrics.csv, with interval and n in the name; a race axis has five."""
    results = front_matter(model_card(make_context(audited)))["model-index"][0]["results"]
    race = next(r for r in results if r["task"]["name"] == "gender" and r["dataset"]["config"] == "race")
    shown = {m["name"]: m["value"] for m in race["metrics"] if m["type"] == "accuracy"}
    table = audited.metrics
    rows = table[(table["task"] == "gender") & (table["by"] == "race") & (table["metric"] == "accuracy")]
    assert sorted(shown.values()) == pytest.approx(sorted(rows["value"]), abs=1e-6)
    assert all("95 % interval" in name and "n = " in name for name in shown) and len(shown) == 5


def test_the_card_ends_its_sentences_and_calls_large_groups_assessed(audited):
    """No sentence breaks off, there is a line to sign on, and ◇ marks small figures that are shown, nothing else."""
    context = make_context(audited)
    card = model_card(context)
    assert "checks each file." in card and card.rstrip().endswith("signature: " + r"\_" * 12)
    for task in context.tasks:
        for line in card.split(f"## {sentence_case(task)}: figures by subgroup")[1].split("\n## ")[0].splitlines():
            if line.startswith("| ") and "◇" in line:
                name = line.split("|")[1].split(":")[-1].replace("◇", "").strip()
                rows = audited.metrics[(audited.metrics["task"] == task) & audited.metrics["small"]]
                rows = rows[rows["value"].notna() & rows["metric"].isin(CARRIED)]
                assert name in set(rows["subgroup"]), line


@pytest.mark.parametrize("text", ["- one", "+ one", "= one", "1. one", "2) one", "see http://x.test", "WWW.x.test"])
def test_what_begins_a_list_or_looks_like_an_address_is_text(text):
    """List marks and addresses are escaped where they stand: a reader of Markdown sees the text as it was."""
    made = markdown(text)
    assert re.search(r"^\d*\\[-+=.)]|\\://|(?i:www)\\\.", made) and made.replace("\\", "") == text


def test_undefined_figures_are_not_in_the_cards_results():
    """Without labels nothing is measured, and nothing is a zero."""
    frame = make_predictions(200).drop(columns="gender_true")
    card = model_card(make_context(run_audit(frame, tasks=["gender"], by=["race"], audit=QUICK)))
    assert "model-index" not in front_matter(card) and "Without labels nothing is measured" in card


@pytest.mark.parametrize(
    "text", [*HOSTILE, NASTY, "- item", "1. item", "a\n\n---\nb", "\ud800", "\x85\x00", "null", "@team"]
)
def test_hostile_texts_stay_texts_in_markdown_and_yaml(text):
    """YAML gives the text back; Markdown has one line, no markup that is not escaped, and mentions nobody."""
    assert yaml.safe_load(f"a: {yaml_text(text)}")["a"] == visible(text)
    shown = markdown(text)
    assert "\n" not in shown and not re.search(r"(?<!\\)[|<`\[*_#]", shown) and not re.search(r"@\w", shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", shown)


def test_hostile_statements_are_text_on_the_page(nasty, tmp_path):
    """No statement makes an element; each is read whole."""
    write_report(nasty, tmp_path / "h")
    page = (tmp_path / "h" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    text = html.unescape(re.sub(r"\s+", " ", page))
    assert "y" * 300 in text and "<script>alert(1)</script>" in text
    card = (tmp_path / "h" / MODEL_CARD).read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<script", card.split("---\n", 2)[2])
    tables = [line for line in card.splitlines() if line.startswith("| ")]
    assert tables and len({len(re.findall(r"(?<!\\)\|", line)) for line in tables if "axis" in line}) <= 1


def check_junit(text: str) -> ET.Element:
    """Check a document against JUnit's schema as Jenkins, GitLab and GitHub's reporters read it; return its root."""
    root = ET.fromstring(text)
    required = {
        "testsuite": {"name", "tests", "failures", "errors", "skipped", "timestamp", "time"},
        "testcase": {"name", "classname", "time"},
    }
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite" and required["testsuite"] <= set(suite.keys())
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(suite.get("timestamp")))
        cases = list(suite)
        assert all(case.tag == "testcase" and required["testcase"] == set(case.keys()) for case in cases)
        inside = [[part.tag for part in case] for case in cases]
        assert all(tags in (["failure"], ["error"], ["skipped"], ["system-out"]) for tags in inside)
        told = {key: int(str(suite.get(key))) for key in ("tests", "failures", "skipped", "errors")}
        assert told == {
            "tests": len(cases),
            "failures": inside.count(["failure"]),
            "skipped": inside.count(["skipped"]),
            "errors": inside.count(["error"]),
        }
    for key in ("tests", "failures", "skipped", "errors"):
        assert int(str(root.get(key))) == sum(int(str(suite.get(key))) for suite in root)
    return root


def test_junit_has_a_case_for_each_policy(audited, nasty):
    """A failed policy fails, an open one is skipped with its line, a kept one passes; hostile names are XML text."""
    root = check_junit(junit_xml({"one": audited, NASTY: nasty}))
    verdicts = list(audited.table("policies")["verdict"])
    assert {"fail", "pass", "inconclusive"} <= set(verdicts)
    for case, verdict in zip(root[0], verdicts, strict=True):
        tag = {"fail": "failure", "pass": "system-out"}.get(verdict, "skipped")
        assert case[0].tag == tag and verdict in str(case[0].get("message") or case[0].text)
    assert root[1].get("name") == visible(NASTY)
    empty = run_audit(make_predictions(200), by=["race"], audit=QUICK)
    assert check_junit(junit_xml({"none": empty}))[0].get("tests") == "0"


def test_what_could_not_be_computed_is_an_error_and_no_failure():
    """A policy on AUC without probabilities and one on an axis of small groups: errors; an open one stays skipped."""
    policies = (
        "minimum(auc, race) >= 0.5",
        "difference(accuracy, race) <= 0.001",
        "difference(accuracy, age) <= 0.1",
    )
    audit = AuditSpec(draws=100, min_group_size=100, policies=policies)
    result = run_audit(make_predictions(700), by=["race", "age"], audit=audit)
    judged = result.table("policies").set_index("policy")
    assert judged.loc[list(policies[::2]), "value"].isna().all() and judged["verdict"].eq("inconclusive").all()
    (suite,) = check_junit(junit_xml({"x": result}))
    tags = {str(case.get("name")): case[0].tag for case in suite}
    assert tags == {policies[0]: "error", policies[1]: "skipped", policies[2]: "error"}
    assert "no scores" in str(suite[0][0].get("message"))


def test_junit_is_read_by_a_parser_of_others(audited, tmp_path):
    """junitparser counts what we counted."""
    parser = pytest.importorskip("junitparser", reason="an independent reader is junitparser")
    path = tmp_path / "junit.xml"
    path.write_text(junit_xml({"one": audited}), encoding="utf-8")
    found = parser.JUnitXml.fromfile(str(path))
    verdicts = list(audited.table("policies")["verdict"])
    assert (found.tests, found.failures) == (len(verdicts), verdicts.count("fail"))
    assert found.skipped == sum(v not in ("pass", "fail") for v in verdicts)


def test_the_summary_says_the_answer_and_every_verdict(audited, nasty):
    """The first sentence of the report, a row a policy, and what a reader must know of the law."""
    text = summary_markdown({"planted": audited})
    assert "not equally accurate" in text and text.count("difference(accuracy, race)") == 2
    assert "❌ fail" in text and "✅ pass" in text and "❔ inconclusive" in text and "legal notice" in text
    shown = summary_markdown({NASTY: nasty})
    assert "<script" not in shown.replace("\\<script", "") and len(shown.split("## ")[1].splitlines()[0]) > 300
    quiet = summary_markdown({"q": run_audit(make_predictions(200), by=["race"], audit=QUICK)})
    assert "No policy is declared" in quiet and "legal notice" not in quiet
