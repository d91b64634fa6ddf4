"""Names and sentences of strangers inside Markdown, YAML and XML: always read as text, never as markup."""

import json
import re

# what Markdown, GitHub's or Hugging Face's, could read as markup; CommonMark takes a backslash before each of them
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
# control characters, the marks that turn the direction of reading, and what no character is
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_BLANK = re.compile(r"\s+")
_MENTION = re.compile(r"@(?=\w)")
_START = re.compile(r"^(\d{0,9})([-+=.)])")  # of a list or an underlined heading
_ADDRESS = re.compile(r"(?<=www)\.|:(?=//)", re.IGNORECASE)  # GitHub makes links of what looks like an address
NOWHERE = "\ufffd"


def visible(text: object) -> str:
    """Return a text on one line: line breaks become spaces, control and direction marks a visible replacement."""
    return _UNSEEN.sub(NOWHERE, _BLANK.sub(" ", str(text))).strip()


def markdown(text: object) -> str:
    """Return a text as it is read in Markdown, in a paragraph, a heading, a list or a table cell."""
    escaped = _START.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", visible(text)))
    return _MENTION.sub("@\u2060", _ADDRESS.sub(r"\\\g<0>", escaped))


def yaml_text(text: object) -> str:
    """Return a text as a YAML scalar in double quotes, which every YAML reader takes for that text."""
    return json.dumps(visible(text), ensure_ascii=False)


def table(columns: list[str], rows: list[list[str]], numbers: int = 0) -> list[str]:
    """Return the lines of a Markdown table; cells are Markdown already; the last `numbers` columns are set right."""
    rule = ["---"] * (len(columns) - numbers) + ["---:"] * numbers
    return [f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows]]
