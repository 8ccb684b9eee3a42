"""What the page refuses by the head of a request alone."""

import asyncio
import random
import string

import pytest

from residuum.serve.guard import IMAGE, Rules, guarded

HERE = Rules("127.0.0.1", 8091)
ELSEWHERE = Rules("0.0.0.0", 8091, token="a-token-of-its-own")


def ask(rules, method="GET", path="/", query="", **headers):
    """The status, the headers, and whether the application behind the guard was reached."""
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    head = [(name.replace("_", "-").encode(), str(value).encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": head}
    asyncio.run(guarded(app, rules)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), bool(reached)


@pytest.mark.parametrize("host", ["127.0.0.1:8091", "localhost:8091", "localhost", "[::1]:8091", "127.0.0.1:9000"])
def test_this_machine_is_answered_by_every_name_and_through_a_tunnel(host):
    assert ask(HERE, host=host)[::2] == (200, True)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8091", "", "[", "localhost.evil.example", "evil@127.0.0.1.x"]
)
def test_a_name_that_was_bound_to_this_machine_is_refused(host):
    assert ask(HERE, host=host)[::2] == (403, False)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_other_origins_are_refused_whatever_they_are(method):
    draw = random.Random(7)
    others = ["null", "http://evil.example", "http://127.0.0.1:8092", "https://127.0.0.1:8091:1", "file://", "http://["]
    others += ["http://" + "".join(draw.choices(string.printable[:95], k=draw.randrange(1, 30))) for _ in range(200)]
    for origin in others:
        status, _, reached = ask(HERE, method, "/run/x/predict", host="127.0.0.1:8091", origin=origin, content_length=1)
        assert (status, reached) == (403, False), origin
    good = ask(HERE, method, "/run/x/predict", host="127.0.0.1:8091", origin="http://127.0.0.1:8091", content_length=1)
    assert good[::2] == (200, True)


def test_what_another_site_begins_may_come_to_a_page_and_do_nothing():
    site = {"host": "127.0.0.1:8091", "sec_fetch_site": "cross-site"}
    assert ask(HERE, sec_fetch_mode="navigate", **site)[0] == 200
    assert ask(HERE, sec_fetch_mode="no-cors", **site)[0] == 403
    assert ask(HERE, "POST", "/stop", sec_fetch_mode="navigate", content_length=1, **site)[0] == 403
    same_site = {**site, "sec_fetch_site": "same-site"}  # another port of this machine is another site's page, too
    assert ask(HERE, "POST", "/stop", sec_fetch_mode="navigate", content_length=1, **same_site)[0] == 403


def test_elsewhere_a_token_is_asked_for_which_a_cookie_then_holds():
    host = {"host": "lab.example:8091"}
    assert ask(ELSEWHERE, **host)[::2] == (403, False)
    status, headers, reached = ask(ELSEWHERE, path="/run/x", query=f"token={ELSEWHERE.token}&page=2", **host)
    assert (status, reached, headers[b"location"]) == (303, False, b"/run/x?page=2")
    cookie = headers[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ask(ELSEWHERE, cookie=cookie.partition(";")[0], **host)[::2] == (200, True)


def test_no_other_token_is_let_in():
    draw, token = random.Random(11), ELSEWHERE.token
    near = ["", token[:-1], token + "x", token.upper(), token[::-1], "é" * 18, "\x00" * 18]
    for _ in range(300):
        at = draw.randrange(len(token))
        letter = draw.choice(sorted(set(string.ascii_letters) - {token[at]}))
        near.append(token[:at] + letter + token[at + 1 :])
    for given in near:
        cookie = f"{ELSEWHERE.cookie}={given}".encode("latin-1", errors="replace").decode("latin-1")
        assert ask(ELSEWHERE, host="lab:8091", cookie=cookie)[::2] == (403, False)
    assert ask(ELSEWHERE, host="lab:8091", query=f"token={token[:-1]}")[0] == 403
    assert ask(ELSEWHERE, host="lab:8091", cookie=f"residuum-8092={token}")[0] == 403  # of a page on another port


def test_the_token_leads_to_no_other_machine():
    for path in ("//evil.example/x", "/\\evil.example", "///evil.example", "//evil.example\r\nset-cookie: a=b"):
        _, headers, _ = ask(ELSEWHERE, path=path, query=f"token={ELSEWHERE.token}", host="lab:8091")
        place = headers[b"location"]
        assert place.startswith(b"/")
        assert not place.startswith((b"//", b"/\\"))
        assert not {b"\r"[0], b"\n"[0]} & set(place)


def test_read_only_pages_act_on_nothing_but_still_predict():
    rules = Rules("127.0.0.1", 8091, read_only=True)
    host = {"host": "localhost", "content_length": 10}
    for path in ("/start/run", "/start/study", "/start/again", "/start/resume", "/start/explain", "/stop", "/anything"):
        assert ask(rules, "POST", path, **host)[::2] == (403, False)
    assert ask(rules, "PUT", "/run/x/predict", **host)[::2] == (200, True)


@pytest.mark.parametrize(
    ("method", "length", "status"),
    [("POST", 64 * 2**10, 200), ("POST", 64 * 2**10 + 1, 413), ("PUT", IMAGE, 200), ("PUT", IMAGE + 1, 413),
     ("POST", "", 411), ("POST", "-1", 411), ("POST", "9" * 5000, 413), ("DELETE", 1, 405),
     ("HEAD", 1, 405), ("TRACE", 1, 405)],
)  # fmt: skip
def test_what_is_sent_is_bounded_before_it_is_read(method, length, status):
    path = "/run/x/predict" if method == "PUT" else "/start/run"
    assert ask(HERE, method, path, host="localhost", content_length=length)[0] == status


def test_every_answer_says_what_a_browser_may_do_with_it():
    for headers in (ask(HERE, host="localhost")[1], ask(HERE, host="evil.example")[1]):
        assert headers[b"content-security-policy"].startswith(b"default-src 'none'")
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"x-frame-options"] == b"DENY"
        assert b"unsafe" not in headers[b"content-security-policy"]
