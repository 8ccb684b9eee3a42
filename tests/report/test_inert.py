"""Whatever an arm, a class or a claim is called, in reports, tables, figures, hand-in and terminal it is only a name."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure
from report_runs import finished, planned
from tests.payloads import PAYLOADS

from residuum.cli.surroundings import kept_out
from residuum.cli.terminal import console, print_table
from residuum.errors import HIDDEN, LINE, InputError, line, visible
from residuum.records import shown
from residuum.report import handin, style, tables
from residuum.report.study_page import write
from residuum.studies.study import Study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    study = Study(name="inert", question="".join(PAYLOADS), base="he2015", seeds=2, compare={"baseline": PAYLOADS[0]},
                  arms=[{"name": name, "set": {"optim.lr": 0.1 + number / 1000}} for number, name in enumerate(PAYLOADS)])  # fmt: skip
    return finished(planned(study, epochs=3), tmp_path_factory.mktemp("inert"), dict.fromkeys(PAYLOADS, 9.0))


def hidden(text):
    return [letter for letter in HIDDEN.findall(text) if letter not in "\n\r"]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "report"
    write(results, folder, runs=folder.parent)
    return folder


def test_the_page_of_a_report_has_no_element_that_a_name_brought(report):
    text = (report / "index.html").read_text()
    page = Tags()
    page.feed(text)
    assert hidden(text) == []
    assert not [tag for tag, given in page.found if any(name.startswith("on") for name in given)]
    assert "x" not in [given.get("id") for _, given in page.found]
    assert not [given for _, given in page.found if str(given.get("href", "")).startswith("javascript")]
    said = "".join(page.text)
    assert all(" ".join(visible(name).split()) in " ".join(said.split()) for name in PAYLOADS)


def test_the_markdown_of_a_report_has_no_markup_that_a_name_brought(report):
    text = (report / "report.md").read_text()
    assert hidden(text) == []
    for bare in ("<script", "<img", "**bold**", "\n# heading"):
        assert bare not in text
    assert not re.search(r"(?<!\\)\]\((javascript|http://example)", text)


def test_tables_for_papers_and_spreadsheets_hold_texts_alone(report):
    rows = list(csv.DictReader(io.StringIO((report / "tables.csv").read_bytes().decode())))
    names = {row["arm"] for row in rows}
    assert len(names) == len(PAYLOADS)
    assert not [name for name in names if name.lstrip()[:1] in ("=", "+", "-", "@")]
    tex = (report / "tables.tex").read_text()
    assert hidden(tex + "".join(names)) == []
    assert tex.count(r"\end{table}") == tex.count(r"\begin{table}")
    assert "\\input" not in tex
    assert not re.search(r"(?<!\\)%comment", tex)


def test_figures_of_a_report_are_well_formed_and_show_names_as_texts(report):
    pictures = list((report / "figures").glob("*.svg"))
    assert pictures
    for path in pictures:
        assert hidden(path.read_text()) == []
        assert not [one for one in ET.parse(path).iter() if one.tag.endswith("}script")]


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_name_is_a_text_in_every_medium(name, capsys):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], label=name)
    axes.set_title(name)
    axes.set_yticks([1, 2], [name, style.literal(name)])
    axes.legend()
    ET.fromstring(style.svg(figure))
    assert style.png(figure)
    kept = handin.plain(name)
    made = handin.Document(name, name, name, name, name, (handin.Part(name, (handin.ToWrite(name),)),))
    assert hidden(handin.markdown(made, "figures") + kept + shown.said(name)) == []
    assert "<" not in shown.said(name).removeprefix("<p>").removesuffix("</p>")
    assert hidden(tables.as_csv(["a"], [[name]]) + tables.tex_text(name) + tables.markdown_text(name)) == []
    with kept_out():
        print(name)
        print_table([{"run": name, name: "b"}])
        console(io.StringIO()).print(name)
    said = capsys.readouterr().out
    assert hidden(said.replace("\t", " ")) == []
    assert " ".join(visible(name).split()) in " ".join(said.split())
    error = line(str(InputError(f"arm {name!r} {name}: {'x' * 1000}; did you mean 'b'?")))
    assert hidden(error) == []
    assert len(error) <= LINE
    assert error.endswith("did you mean 'b'?")
    assert "\n" not in error
