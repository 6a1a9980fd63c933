"""The key: which server gets it, and that nothing else does."""

import pytest

from mavl.llm import LLMError
from mavl.llm.client import Client
from mavl.llm.settings import ServerSettings
from tests.support.llm_server import answer, good, raw, status

KEY = "sk-test-Zq8vT1xK9mW3"


def test_the_key_of_openai_goes_to_no_other_server(start, server, monkeypatch):
    variables = {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "project-1"}
    process = start("--names", "covid19", **variables)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert server.keys == {"Bearer none"}
    assert not any("org-1" in str(headers) or "project-1" in str(headers) for headers in server.headers)
    host = server.url.removeprefix("http://").removesuffix("/v1")
    assert f"requesting from tiny at {host}, with no key (see --api-key-env)" in err


def test_a_server_from_the_environment_gets_no_key_either(run, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert run(["covid19"], base_url=None).complete == 1
    assert server.keys == {"Bearer none"}


def test_a_key_that_was_named_goes_to_the_server_that_was_named(run, server, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert run(["covid19"], api_key_env="MY_KEY").complete == 1
    assert server.keys == {f"Bearer {KEY}"}
    assert "with the key in MY_KEY" in capsys.readouterr().err


def test_the_server_of_openai_gets_its_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for base_url in (None, "https://api.openai.com/v1"):
        client = Client(ServerSettings(model="m", base_url=base_url), {})
        assert str(client) == "m at api.openai.com, with the key in OPENAI_API_KEY"
    for base_url in ("http://api.openai.com/v1", "https://api.openai.com.example.org/v1", "https://openai.com@h/v1"):
        assert "with no key (see --api-key-env)" in str(Client(ServerSettings(model="m", base_url=base_url), {}))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "no key: set OPENAI_API_KEY in the environment"),
        ({"api_key_env": "MY_KEY", "base_url": "http://h/v1"}, "no key: set MY_KEY in the environment"),
        ({"api_key_env": "ODD_KEY"}, "no key: set ODD_KEY"),
        (
            {"base_url": "localhost:8000"},
            "--base-url is no address of a server; it should read http://host:port/v1",
        ),
        ({"base_url": "http://user:secret@h:port/v1"}, "--base-url is no address of a server"),
    ],
)
def test_a_key_or_an_address_that_cannot_be_used_is_named(monkeypatch, settings, complaint):
    monkeypatch.setenv("ODD_KEY", "sk-\u00fc")
    with pytest.raises(LLMError, match=complaint) as error:
        Client(ServerSettings(model="m", **settings), {})
    assert "secret" not in str(error.value)


def test_the_key_reaches_the_server_and_nothing_else(start, server, tmp_path):
    """Though the server quotes it in its errors and its answers, with debugging on."""
    quoted = {
        "a1": [status(500, f"Authorization: Bearer {KEY}"), answer(good("a1", other=f"the key {KEY} on a film"))],
        "b2": [answer(f"{KEY} is no JSON")] * 3,
        "c3": [answer(None, refusal=f"not with {KEY}"), raw(KEY.encode()), status(400, KEY)],
        "d4": [raw(KEY.encode())] * 3,
        "e5": [status(401, f"Incorrect API key provided: {KEY}", **{"Www_Authenticate": KEY})],
    }
    server.script |= quoted
    variables = {"MY_KEY": f" {KEY}\n", "OPENAI_LOG": "debug", "MAVL_TRACEBACK": "1", "HOME": str(tmp_path)}
    arguments = ["--api-key-env", "MY_KEY", "--concurrency", "1", "--max-retries", "2"]
    process = start("--names", *quoted, *arguments, **variables)
    out, err = process.communicate(timeout=60)
    assert server.keys == {f"Bearer {KEY}"}
    assert "refuses requests with the key in MY_KEY" in err  # it did come to the last finding
    assert "failed b2" in err
    assert "failed d4" in err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4  # three of the cache and the book
    assert "[key]" in "".join(path.read_text() for path in files)
    for text in (out, err, *(path.read_text() for path in files)):
        assert KEY not in text
