"""The page: what each address answers. It reads folders; what takes long is done aside, what trains by commands.

Pages are whole without a script; with one, their living parts ask for themselves anew, a plain fragment each.
"""

import asyncio
import re
import shlex
import shutil
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from residuum import recipes
from residuum.analysis import standing
from residuum.errors import BusyError, InputError, Remedy, ResiduumError, duration, quoted, tally, unknown
from residuum.networks.names import network_names, short_name
from residuum.records import run_folder
from residuum.records.record import RunRecord, labels
from residuum.report import commands
from residuum.run import detached, trust
from residuum.run.detached import Detached
from residuum.serve import lab as reading
from residuum.serve import pace
from residuum.serve.aside import Aside
from residuum.serve.guard import REPORT_POLICY, App, Rules, guarded
from residuum.serve.lab import Lab, NotHereError
from residuum.serve.pictures import PICTURES
from residuum.studies import parsing
from residuum.studies.plan import Plan

ROWS = 50
"""Runs on one page of the list."""
MOST_BESIDE = 12
"""Runs that are compared side by side."""
EPOCHS = 400
"""Epochs in the table of a run, the latest ones."""
STARTED = 8
"""Commands that were begun here and are told of."""
PATIENCE = 30.0
"""Seconds in which what is sent has to arrive."""
STATIC = {
    "htmx.min.js": "text/javascript", "uPlot.iife.min.js": "text/javascript", "page.js": "text/javascript",
    "uPlot.min.css": "text/css", "page.css": "text/css",
}  # fmt: skip
WORD = r"[a-z0-9][a-z0-9_-]{0,60}"
"""What a network and a data set may be called in a form: names of the package, never a path or somebody's code."""


def application(runs: Path, rules: Rules, *, paced: bool = False) -> App:
    """The page over the run folders in `runs`, behind its rules; `paced` where it has the process for itself."""
    lab, aside, reports = Lab(runs), Aside(), TemporaryDirectory(prefix="residuum-")

    @asynccontextmanager
    async def life(_app: FastAPI) -> Any:
        keeping = asyncio.create_task(pace.keep(asked)) if paced else None
        yield
        if keeping is not None:
            keeping.cancel()
        aside.close()
        reports.cleanup()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=life)
    _errors(app, lab, rules)
    _pages(app, lab, rules)
    _drawn(app, lab, aside, Path(reports.name))
    if not rules.read_only:
        _acting(app, lab)
    guard, asked = pace.counted(guarded(app, rules))
    return guard


def _visible(value: Any) -> Any:
    """What stands on the page: letters that would hide, turn or control something are shown as their codes."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("residuum.serve", "templates"), autoescape=True, undefined=StrictUndefined,
        finalize=_visible, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        duration=duration, tally=tally, name=lambda text: quote(text, safe=""), network=short_name,
        percent=lambda share: f"{100 * share:.2f}",
        when=lambda ns: datetime.fromtimestamp(ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M") if ns else "–",
    )  # fmt: skip
    environment.globals.update(version=_version())
    return environment


@cache
def _version() -> str:
    """What changes when a file of the page does: browsers keep the others."""
    return sha256(b"".join(_static(name) for name in STATIC)).hexdigest()[:12]


@cache
def _static(name: str) -> bytes:
    return (resources.files("residuum.serve") / "static" / name).read_bytes()


def _shown(template: str, rules: Rules, status: int = 200, **values: Any) -> HTMLResponse:
    text = _environment().get_template(template).render(read_only=rules.read_only, **values)
    return HTMLResponse(text, status)


def _errors(app: FastAPI, lab: Lab, rules: Rules) -> None:
    def said(request: Request, status: int, text: str) -> Response:
        if request.method != "GET" or "/part/" in request.url.path:
            return PlainTextResponse(text, status)
        return _shown("error.html.j2", rules, status, text=text, title="Not shown")

    async def of_residuum(request: Request, error: Exception) -> Response:
        assert isinstance(error, ResiduumError)
        status = 404 if isinstance(error, NotHereError) else 503 if isinstance(error, BusyError) else 400
        return said(request, status, reading.said(error, lab.runs))

    async def of_address(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 400
        return said(
            request, status, "There is nothing at this address." if status == 404 else "This cannot be answered."
        )

    app.add_exception_handler(ResiduumError, of_residuum)
    app.add_exception_handler(HTTPException, of_address)
    app.add_exception_handler(RequestValidationError, of_address)


def _pages(app: FastAPI, lab: Lab, rules: Rules) -> None:
    """The pages, and the parts of them that live."""

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        kept = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(_static(name), media_type=STATIC[name], headers=kept)

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/")
    def home(find: str = "", status: str = "", page: int = 1) -> Response:
        values = {**_going(lab), **_listed(lab, find, status, page)}
        return _shown("home.html.j2", rules, **values, **_startable(lab, rules))

    @app.get("/part/going")
    def going() -> Response:
        return _shown("going.html.j2", rules, **_going(lab))

    @app.get("/part/runs")
    def runs(find: str = "", status: str = "", page: int = 1) -> Response:
        return _shown("runs.html.j2", rules, **_listed(lab, find, status, page))

    @app.get("/part/started")
    def started() -> Response:
        return _shown("started.html.j2", rules, started=_started(lab))

    @app.get("/run/{name}")
    def run(name: str) -> Response:
        return _shown("run.html.j2", rules, **_of_run(lab, name))

    @app.get("/part/run/{name}")
    def run_part(name: str, was: str = "") -> Response:
        values = _of_run(lab, name)
        answer = _shown("run_part.html.j2", rules, **values)
        if was and was != values["now"].status:  # there are figures now, or what may be done is another thing
            answer.headers["hx-refresh"] = "true"
        return answer

    @app.get("/run/{name}/curves")
    def curves(name: str) -> Response:
        record = lab.record(name)
        return JSONResponse({"going": record.status == "running", **reading.curves(record.epochs)})

    @app.get("/study/{label}")
    def study(label: str, page: int = 1) -> Response:
        return _shown("study.html.j2", rules, **_of_study(lab, label, page))

    @app.get("/part/study/{label}/curves")
    def study_curves(label: str, was: str = "") -> Response:
        stamp = lab.stamp(label)
        if was == stamp:
            return Response(status_code=204)
        return _shown("study_curves.html.j2", rules, title=label, stamp=stamp)

    @app.get("/part/study/{label}")
    def study_part(label: str, page: int = 1) -> Response:
        return _shown("study_part.html.j2", rules, **_of_study(lab, label, page))

    @app.get("/beside")
    def beside(request: Request) -> Response:
        records = _beside(lab, request)
        return _shown(
            "beside.html.j2", rules, records=records, labels=labels(records), differing=reading.differing(records),
            stamp=_stamp(records), query=_query(records), apart=reading.classes_apart(records),
        )  # fmt: skip

    @app.get("/part/beside")
    def beside_part(request: Request, was: str = "") -> Response:
        records = _beside(lab, request)
        if was == _stamp(records):
            return Response(status_code=204)
        return _shown("beside_part.html.j2", rules, records=records, labels=labels(records), stamp=_stamp(records),
                      query=_query(records), apart=reading.classes_apart(records))  # fmt: skip


def _beside(lab: Lab, request: Request) -> list[RunRecord]:
    names = [*dict.fromkeys(request.query_params.getlist("run"))]
    if not 1 <= len(names) <= MOST_BESIDE:
        raise InputError(f"{tally(len(names), 'run')} to be compared; choose 1 to {MOST_BESIDE}")
    return [lab.record(name) for name in names]


def _query(records: list[RunRecord]) -> str:
    return "&".join(f"run={quote(record.folder.name, safe='')}" for record in records)


def _stamp(records: list[RunRecord]) -> str:
    return "-".join(str(len(record.epochs)) for record in records)


def _going(lab: Lab) -> dict[str, Any]:
    return {"going": list(lab.going()), "studies": lab.studies()}


def _listed(lab: Lab, find: str, status: str, page: int) -> dict[str, Any]:
    reasons, listed = lab.reasons(), lab.listed()
    places = lab.places()
    rows = [reading.row_of(one, reasons, places.get(one.folder.name, ())) for one in listed.values()]
    statuses = sorted({row["status"] for row in rows})
    found = reading.chosen(rows, find[:200], status)
    pages = max(1, -(-len(found) // ROWS))
    page = min(max(1, page), pages)
    return {"rows": found[(page - 1) * ROWS : page * ROWS], "found": len(found), "all": len(rows), "page": page,
            "pages": pages, "find": find[:200], "statuses": statuses, "wanted": status}  # fmt: skip


def _of_run(lab: Lab, name: str) -> dict[str, Any]:
    record = lab.record(name)
    own = reading.own_code(record.config.model_dump(mode="json"))
    return {
        "known": not own or trust.is_known(record.config),
        "title": name, "record": record, "now": standing.of_run(record, datetime.now(UTC)),
        "rows": [*reversed(record.epochs)][:EPOCHS], "own_code": own,
        "pictures": {key: one for key, one in PICTURES.items() if one.is_there(record)},
        "attributions": [*reading.kept_attributions(record)],
        "weights": _has_weights(record),
        "stamp": f"{len(record.epochs)}-{record.status}",
        "command": _command_of(lab, rf"^run {re.escape(record.id)} \|"),
        "remarks": _remarks(record),
    }  # fmt: skip


def _has_weights(record: RunRecord) -> bool:
    """Whether its newest state is here whole: copies of runs that lie in a store come without weights."""
    states = run_folder.checkpoints(record.folder)
    return bool(states) and (states[-1][1] / "weights.safetensors").exists()


def _remarks(record: RunRecord) -> list[str]:
    try:
        return run_folder.read_remarks(record.folder)
    except InputError as error:
        return [run_folder.without_path(record.folder, error)]


def _of_study(lab: Lab, label: str, page: int) -> dict[str, Any]:
    found = lab.study(label)
    pages = max(1, -(-len(found.runs) // ROWS))
    page = min(max(1, page), pages)
    return {"title": label, "study": found, "stamp": lab.stamp(label), "page": page, "pages": pages,
            "listed": lab.listed(), "runs": found.runs[(page - 1) * ROWS : page * ROWS],
            "command": _command_of(lab, rf"^{re.escape(label)}: [\d,]+ runs?"),
            "words": _again(found.plan)}  # fmt: skip


def _command_of(lab: Lab, pattern: str) -> Detached | None:
    """The command begun from here or with --detach that is at a run or a study now, by what it has printed."""
    alive = (one for one in detached.commands(lab.runs)[:STARTED] if detached.is_alive(one, lab.runs))
    return next((one for one in alive if re.search(pattern, detached.printed(one, lab.runs), re.MULTILINE)), None)


def _started(lab: Lab) -> list[dict[str, Any]]:
    """The latest commands, with the last lines that each printed."""
    found = []
    for one in detached.commands(lab.runs)[:STARTED]:
        alive = detached.is_alive(one, lab.runs)
        end = None if alive else detached.ended(one, lab.runs)
        lines = detached.printed(one, lab.runs).strip().split("\n")
        if end and end.reason and lines[-1].endswith(end.reason):
            lines.pop()  # it is told by itself
        found.append({"one": one, "alive": alive, "end": end, "words": shlex.join(["residuum", *one.words]),
                      "said": "\n".join(lines[-6:])})  # fmt: skip
    return found


def _startable(lab: Lab, rules: Rules) -> dict[str, Any]:
    if rules.read_only:
        return {"started": [], "recipes": [], "networks": [], "shipped": []}
    return {"started": _started(lab), "recipes": [*recipes.RECIPES], "networks": network_names(),
            "shipped": parsing.names()}  # fmt: skip


def _drawn(app: FastAPI, lab: Lab, aside: Aside, place: Path) -> None:
    """What is made aside: figures, predictions, reports."""

    def svg(text: str) -> Response:
        headers = {"content-security-policy": REPORT_POLICY, "cache-control": "private, max-age=60"}
        return Response(text, media_type="image/svg+xml", headers=headers)

    @app.get("/run/{name}/figure/{which}.svg")
    def figure(name: str, which: str) -> Response:
        record = lab.record(name)
        if which not in PICTURES or not PICTURES[which].is_there(record):
            raise NotHereError(f"run {name} has no figure {quoted(which[:40])}")
        return svg(aside.call("figure", str(record.folder), which))

    @app.get("/run/{name}/attributions/{which}.svg")
    def attributions(name: str, which: str) -> Response:
        there = reading.kept_attributions(lab.record(name))
        if which not in there:
            raise NotHereError(f"run {name} has no attributions {quoted(which[:80])}")
        return svg(aside.call("attributions", str(there[which])))

    @app.get("/beside/curves.svg")
    def beside(request: Request, narrow: bool = False) -> Response:
        return svg(aside.call("beside", [str(record.folder) for record in _beside(lab, request)], narrow))

    @app.get("/study/{label}/curves.svg")
    def arms(label: str, narrow: bool = False) -> Response:
        return svg(aside.call("arms", str(lab.runs), lab.plan(label).label, narrow))

    @app.put("/run/{name}/predict")
    async def predict(name: str, request: Request) -> Response:
        content = await _body(request)
        record = await run_in_threadpool(lab.record, name)
        _check_trusted(record)
        found = await run_in_threadpool(aside.call, "predict", str(record.folder), b64encode(content).decode())
        text = _environment().get_template("predicted.html.j2").render(**found)
        return HTMLResponse(text)

    @app.get("/study/{label}/report/")
    def report(label: str) -> Response:
        folder = _report(lab, aside, place, label)
        return HTMLResponse((folder / "index.html").read_bytes(), headers={"content-security-policy": REPORT_POLICY})

    @app.get("/study/{label}/report/figures/{name}")
    def report_figure(label: str, name: str) -> Response:
        folder = _report(lab, aside, place, label) / "figures"
        if name not in {path.name for path in folder.iterdir()}:
            raise NotHereError(f"the report has no figure {quoted(name[:80])}")
        kind = "image/png" if name.endswith(".png") else "image/svg+xml"
        content = (folder / name).read_bytes()
        return Response(content, media_type=kind, headers={"content-security-policy": REPORT_POLICY})


def _report(lab: Lab, aside: Aside, place: Path, label: str) -> Path:
    """The folder of the report of a study as it stands now, written unless it is there; the one before goes."""
    of, stamp = (sha256(text.encode()).hexdigest()[:20] for text in (label, lab.stamp(label)))
    folder = place / of / stamp
    if not (folder / "index.html").exists():
        aside.call("report", str(lab.runs), label, str(folder))
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    return folder


async def _body(request: Request) -> bytes:
    try:
        return await asyncio.wait_for(request.body(), PATIENCE)
    except TimeoutError:
        raise InputError(f"nothing came for {PATIENCE:.0f} s") from None


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form, each once."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise InputError("a form is sent as application/x-www-form-urlencoded")
    try:
        found = parse_qs((await _body(request)).decode(), max_num_fields=20)
    except (UnicodeDecodeError, ValueError):
        raise InputError("the form cannot be read") from None
    return {name: values[0] for name, values in found.items()}


def _acting(app: FastAPI, lab: Lab) -> None:
    """Starting and stopping: each is a command of residuum in a session of its own, which outlives the page."""

    def post(path: str, act: Callable[[Mapping[str, str]], list[str] | None]) -> None:
        async def answer(request: Request) -> Response:
            form = await _form(request)
            words = await run_in_threadpool(act, form)
            if words is not None:
                kind = f"{words[0]} {words[1]}" if words[0] == "study" else words[0]
                await run_in_threadpool(detached.begin, words, lab.runs, kind)
            return RedirectResponse("/#started", 303)

        handler: Callable[[Request], Awaitable[Response]] = answer
        app.add_api_route(path, handler, methods=["POST"], response_class=Response)

    def train(form: Mapping[str, str]) -> list[str]:
        recipe, model, data = (form.get(key, "").strip() for key in ("recipe", "model", "data"))
        if recipe not in recipes.RECIPES:
            raise unknown("recipe", recipe[:80], recipes.RECIPES)
        settings: dict[str, Any] = {}
        words = ["train", recipe]
        for key, value in (("model", model), ("data", data)):
            if value and not re.fullmatch(WORD, value):
                raise InputError(
                    f"{key}: {quoted(value[:80])} is not a name; paths and own code are for the command line"
                )
            words += [f"--{key}", value] if value else []
        settings |= {"model": model} if model else {}
        for key, path, least, most in (("epochs", "train.epochs", 1, 10_000), ("seed", "train.seed", 0, 2**31 - 1)):
            number = _number(form, key, least, most)
            words += [f"--{key}", str(number)] if number is not None else []
            settings |= {path: number} if number is not None else {}
        recipes.recipe(recipe).changed(settings)  # what cannot be is said here, not in a log
        return [*words, "--runs", str(lab.runs)]

    def study(form: Mapping[str, str]) -> list[str]:
        name = form.get("study", "")
        if name not in parsing.names():
            raise unknown("study", name[:80], parsing.names())
        words = ["study", "run", name]
        seeds, workers = _number(form, "seeds", 1, 1000), _number(form, "workers", 1, 64)
        for key, number in (("seeds", seeds), ("workers", workers)):
            words += [f"--{key}", str(number)] if number is not None else []
        if scale := form.get("scale", "").strip():
            if not re.fullmatch(r"\d{0,3}(\.\d{1,6})?", scale) or not float(f"0{scale}"):
                raise InputError(f"scale: {quoted(scale[:40])} is not a share of the epochs, as 0.1")
            words += ["--scale", scale]
        return [*words, "--runs", str(lab.runs)]

    def again(form: Mapping[str, str]) -> list[str]:
        plan = lab.plan(form.get("study", ""))
        words = _again(plan)
        if words is None:
            raise InputError(f"{plan.label} is a study of its user's own file: the command that ran it goes on with it")
        return [*words, "--runs", str(lab.runs)]

    def resume(form: Mapping[str, str]) -> list[str]:
        return ["resume", *_trusted(lab, form)]

    def explain(form: Mapping[str, str]) -> list[str]:
        return ["explain", *_trusted(lab, form)]

    def stop(form: Mapping[str, str]) -> None:
        name = form.get("command", "")
        found = next((one for one in detached.commands(lab.runs) if one.name == name), None)
        if found is None:
            raise NotHereError(f"no command {quoted(name[:80])} was begun here")
        detached.stop(found, lab.runs)

    for path, act in (("/start/run", train), ("/start/study", study), ("/start/again", again),
                      ("/start/resume", resume), ("/start/explain", explain), ("/stop", stop)):  # fmt: skip
        post(path, act)


def _check_trusted(record: RunRecord) -> None:
    """Refuse a run with own code that nobody named or trusted here: who opens the page has not said whose he trusts.

    Raises:
        InputError: it is one.
    """
    own = reading.own_code(record.config.model_dump(mode="json"))
    if own and not trust.is_known(record.config):
        raise InputError(f"{own} is own code that nobody has trusted here", remedies=[Remedy("trust by evaluate")])


def _trusted(lab: Lab, form: Mapping[str, str]) -> list[str]:
    """The words that name a run for a command, if it is one that may be computed with here."""
    record = lab.record(form.get("run", ""))
    _check_trusted(record)
    return [str(record.folder), "--runs", str(lab.runs)]


def _number(form: Mapping[str, str], key: str, least: int, most: int) -> int | None:
    text = form.get(key, "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise InputError(f"{key}: {quoted(text[:40])} is not a number from {least} to {most:,}")
    return int(text)


def _again(plan: Plan) -> list[str] | None:
    """The words that go on with a study of the package; None of another, whose file is its user's, or of own code."""
    firsts = [runs[0].config.model_dump(mode="json") for runs in plan.runs_of.values() if runs]
    if not commands.shipped(plan) or reading.own_code(firsts):
        return None
    root = str(plan.settings.get("data.root") or "")
    words = shlex.split(commands.study_command(plan))[1:]
    return [root if word == "DATA" and before == "--data" else word
            for before, word in zip(["", *words], words, strict=False)]  # fmt: skip
