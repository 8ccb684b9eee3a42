"""Study files and settings that somebody, or something, has mangled: each is refused in one line, or is a study.

    python tests/studies/mutated.py --count 2500

Files of the package are changed in their values, keys, tables and letters, and `--set` gets such values too. Hypothesis
makes the cases, always the same for a count, and cuts down one that fails. What is refused ends in exit code 2 and one
line of at most 300 letters which names the file and the place in it, takes less than a second of the processor, and
leaves nothing on the disk.
"""

import argparse
import io
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.resources import files
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from residuum.cli import main
from residuum.config import RunConfig, described_settings
from residuum.studies import parsing

FILE = "mangled.toml"
SECONDS, LETTERS = 1.0, 300
SPACE = 4 << 30
"""Bytes of memory that may be asked for beyond what is there at the beginning."""
TEXTS = {name: (files("residuum.studies") / f"{name}.toml").read_text(encoding="utf-8") for name in parsing.names()}
PATHS = [path for path, _, _ in described_settings(RunConfig)] + [
    "model.depth", "model.wide", "model.channels", "optim.optimizer.eps", "optim.schedule.every",
    "optim.schedule.milestones", "data.dataset.train", "data.augment.padding", "data", "optim", "nothing", "model.nothing",
]  # fmt: skip
VALUES = (
    "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "1e39", "0", "-1", "0.0", "-0.0", "1.5", "true", "false", '""',
    "[]", "{}", "[[]]", "[1, 'a']", "2026-01-01", "07:32:00", str(2**63), str(2**63 - 1), str(-(2**63)), "10" * 12,
    "1" * 5000, "0x7fffffffffffffff", "10_000_000", "1_000_000_000", "0b" + "1" * 40_000, "'resnet20'", "'resnet21'",
    "'plain-20'", "'adam'", "'Adm'", "'mine.py:Net'", "'no.such:Net'", "'../../x'", "'/etc/passwd'", "'~nosuchuser'",
    "'~root/x'", "'/dev/zero'", '"a\\u0000b"', '"\\u001b[2J"', '"\\u202Egpj"', "'[/b]'", "'%s%n{0}{x!r}'", "'é実😀'",
    "'" + "x" * 300 + "'", "'" + "é" * 200 + "'", "'" + "x" * 100_000 + "'", "'a, b' ", "'*'", "'?'", "'- -'", "'a > b'",
    "[" * 50_000 + "]" * 50_000, "[" * 30 + "]" * 30, "{a = " * 30 + "1" + "}" * 30, "[" + "1, " * 20_000 + "]",
    "{name = 'sgd', nothing = 1}", "{name = 1}", "{name = 'sgd', momentum = 'x'}", "{}", "['resnet20', 'resnet20']",
    "{low = 1, high = 0}", "{low = 1e-300, high = 1e300, log = true}", "'''\n\n'''", "'a\nb'", "nothing", "=", "'",
)  # fmt: skip
LINES = (
    "seeds = 0x7fffffffffffffff", "seeds = 10_000_000", "seeds = [0, 0]", "seeds = [-1]", "seeds = []", "seeds = true",
    "[axes]", "[set]", "[[arms]]", "[[claims]]", "[compare]", "[search]", "[search.space]", "[[published]]", "[sources]",
    "[nothing]", "[[set]]", "[a." * 1 + "a." * 50_000 + "a]", "x." * 50_000 + "x = 1", "a.b.c.d = 1", '"" = 1', "'' = 1",
    '"é\\u0000" = 1', "x" * 70_000 + " = 1", "question = ''", "name = 'a/b'", "name = '..'", "base = 'nothing'",
    "only = ['nothing']", "inside = ['nothing']", "select = 'test'", "metric = 'test_error'", "expect = 'a > a'",
    "expect = ' > '", "expect = 'a > b > c'", "text = ''", "margin = -1", "margin = nan", "factor = 0", "value = inf",
    "set = 3", "set = {}", "set = {model = {depth = {depth = 3}}}", "claims = 3", "arms = {}", "arms = [3]",
    "trials = 100_000", "space = {}", "'optim.lr' = [" + "1, " * 99 + "1]", "'train.epochs' = [" + "1, " * 99 + "2]",
    "'optim.weight_decay' = [" + ", ".join(map(str, range(1, 60))) + "]", "__proto__ = 1", "extends = 'x.toml'",
)  # fmt: skip
LETTERS_IN = (
    "\0",
    "\x1b",
    "\ufeff",
    "\u202e",
    "\r",
    "\n",
    "=",
    "[",
    "]",
    '"',
    "'",
    "#",
    ".",
    ",",
    "{",
    "\\u",
    "é",
    "0",
)


KINDS = ("value", "value", "value", "value", "line", "line", "letter", "gone", "twice", "key", "moved")


@st.composite
def mangled(draw: Any) -> bytes:
    """A study file of the package with one to three things wrong."""
    lines = TEXTS[draw(st.sampled_from(sorted(TEXTS)))].splitlines()
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(KINDS))
        if kind == "value":
            keyed = [number for number, one in enumerate(lines) if re.match(r"[\w.\"']+ *=", one)]
            at = draw(st.sampled_from(keyed)) if keyed else at
            key, _, _ = lines[at].partition("=")
            lines[at] = f"{key}= {draw(st.sampled_from(VALUES))}"
        elif kind == "line":
            lines.insert(at, draw(st.sampled_from(LINES)))
        elif kind == "letter":
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + draw(st.sampled_from(LETTERS_IN)) + lines[at][place + draw(st.booleans()) :]
        elif kind == "gone":
            del lines[at : at + draw(st.integers(1, 5))]
        elif kind == "twice":
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
        elif kind == "key":
            key, equals, value = lines[at].partition("=")
            others = (key[1:], f"{key}s", key.replace(".", "_"), f"model.{key}", f'"{key}"', "a b")
            lines[at] = draw(st.sampled_from(others)) + equals + value
        else:
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
        lines = lines or [""]
    content = "\n".join(lines).encode(errors="surrogatepass")
    at_the_end = draw(st.integers(0, 40))
    return content + {1: b"\xff\xfe", 2: b"\n# " + b"x" * 300_000}.get(at_the_end, b"")


@st.composite
def changed(draw: Any) -> list[str]:
    """Options with settings that somebody has mangled."""
    words = []
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(PATHS))
        value = draw(
            st.one_of(st.sampled_from(VALUES), st.sampled_from(VALUES), st.text(max_size=30), st.floats().map(str))
        )
        kind = draw(st.sampled_from(("plain",) * 8 + ("path", "deep", "bare")))
        path = draw(st.text(max_size=20)) if kind == "path" else path + ".x" * 30_000 * (kind == "deep")
        words += ["--set", f"{path}{'' if kind == 'bare' else '='}{value.strip()}"]
    return words


def wrong(words: list[str], content: bytes | None = None, *, most: float = SECONDS) -> str:
    """What is wrong with how a command takes a file of such content, in a folder of its own; empty where nothing is."""
    before, out, err = Path.cwd(), io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            if content is not None:
                Path(FILE).write_bytes(content)
            began = time.process_time()
            with redirect_stdout(out), redirect_stderr(err):
                code = main(words)
            spent = time.process_time() - began
        except BaseException as error:
            return f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            there = {str(path.relative_to(place)) for path in Path(place).rglob("*")}
            os.chdir(before)
    if there != ({FILE} if content is not None else set()):
        return f"it leaves {sorted(there)}"
    return "" if code == 0 else _refusal(code, err.getvalue(), content, spent, most)


def _refusal(code: int, said: str, content: bytes | None, spent: float, most: float) -> str:
    """What is wrong with how something was refused; empty where nothing is."""
    if code != 2:
        return f"exit {code}: {said[-300:]!a}"
    if not re.fullmatch(r"residuum: [^\x00-\x1f\x7f\u202e]+\n", said):
        return f"no line of text: {said[-600:]!a}"
    if len(said) > LETTERS + len("residuum: \n"):
        return f"{len(said)} letters: {said!a}"
    if content is not None and FILE not in said:
        return f"the file is not named: {said!a}"
    if content is not None and not _names_a_place(said, content):
        return f"no place in the file is named: {said!a}"
    return f"{spent:.1f} s: {said!a}" if spent > most else ""


WHOLE = ("not a text file", "a study file has at most", "a value is missing")
"""What is said of a whole file."""


def _names_a_place(said: str, content: bytes) -> bool:
    keys = {key.strip("\"' ") for key in re.findall(r"[\w.\"']+", content.decode(errors="replace"))}
    words = {*re.findall(r"[\w.]+", said.partition(FILE)[2])}
    return bool(re.search(r"line \d+", said) or keys & words or any(text in said for text in WHOLE))


def study_file(content: bytes, most: float = SECONDS) -> str:
    """What is wrong with how a mangled study file is taken."""
    return wrong(["study", "show", FILE, "--data", "digits"], content, most=most)


def setting(words: list[str], most: float = SECONDS) -> str:
    """What is wrong with how mangled settings are taken."""
    return wrong(["study", "show", "quickstart", *words], most=most)


def code_of(words: list[str]) -> int:
    """The exit code of a command that writes nothing."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return main(words)


WAYS: tuple[tuple[str, st.SearchStrategy[Any], Callable[[Any, float], str], float], ...] = (
    ("study file", mangled(), study_file, 0.8),
    ("settings", changed(), setting, 0.2),
)


def tried(count: int, most: float = SECONDS) -> list[str]:
    """Try so many cases; for each way the first thing that was wrong, as small as it could be made."""
    with redirect_stdout(io.StringIO()):  # what is imported once is no part of a case
        main(["study", "show", "quickstart"])
    return [f"{name}: {problem}" for name, strategy, judge, share in WAYS
            if (problem := _found(strategy, lambda case, judge=judge: judge(case, most), round(count * share)))]  # fmt: skip


def _found(strategy: st.SearchStrategy[Any], judge: Callable[[Any], str], count: int) -> str:
    """The smallest thing that is wrong with one of so many cases; empty where nothing is."""
    seen = [""]

    @settings(max_examples=max(1, count), derandomize=True, deadline=None, database=None,
              phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=strategy)
    def check(case: Any) -> None:
        if problem := judge(case):
            text = case.decode(errors="replace") if isinstance(case, bytes) else str(case)
            seen[0] = f"{problem}; of {text[:3000]!a}"
            raise AssertionError(problem)

    try:
        check()
    except Exception as error:
        return seen[0] or f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2500)
    options = parser.parse_args()
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (here + SPACE,) * 2)
    found = tried(options.count)
    print("\n".join(found) or f"{options.count} mangled files and settings are refused in a line, or are studies")
    sys.exit(bool(found))
