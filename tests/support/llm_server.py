"""An OpenAI-compatible server in a thread, which fails as scripted and counts requests and answers.

with LLMServer() as server:
    server.script["rib fracture"] = [status(500), cut]      # then answers well
"""

import http.server
import json
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from email.message import Message

from mavl.vocab import ASPECTS

NAMES = ["rib fracture", "covid19", "lung cyst"]
REQUEST = re.compile(r"^Finding: (.+)$", re.MULTILINE)


def good(finding: str, **changed: str) -> dict[str, str]:
    """A usable answer to a finding, or one with other lines."""
    lines = {aspect: f"{aspect} that only {finding} has on a film" for aspect in ASPECTS}
    lines["description"] = f"A pale patch that was drawn to stand for {finding} in the middle of a frontal chest film."
    return {"finding": finding} | lines | changed


class LLMServer:
    """requests, headers: in the order of arrival; asked, answered: their numbers by subject, here a finding.

    script: the replies to the requests for a subject, in order; after the last one, answers are good.
    always: a reply to every request before the script, which applies where it returns False.
    """

    def subjects_of(self, body: dict) -> list[str]:
        """What a request is about."""
        return REQUEST.findall("\n".join(each["content"] for each in body["messages"]))[-1:]

    def answer_well(self, reply: "Reply") -> None:
        answer(good(reply.finding))(reply)

    def __init__(self):
        self.requests: list[dict] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.headers: list[Message] = []
        self.script: dict[str, list[Callable]] = defaultdict(list)
        self.always: Callable | None = None
        self.closing, self.lock = threading.Event(), threading.Lock()

    def __enter__(self) -> "LLMServer":
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.handle(Reply(self, server, body))

            def log_message(self, *_) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients that hang up are no news
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def handle(self, reply: "Reply") -> None:
        with self.lock:
            self.requests.append(reply.body)
            self.asked.update(reply.subjects)
            self.headers.append(reply.handler.headers)
            acts = next((self.script[each] for each in reply.subjects if self.script[each]), None)
            act = acts.pop(0) if acts else self.answer_well
        if self.always is None or self.always(reply) is False:
            act(reply)

    @property
    def keys(self) -> set[str]:
        """The keys that arrived."""
        return {headers.get("Authorization", "") for headers in self.headers}


class Reply:
    """A request, and the ways to reply."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler, server: LLMServer, body: dict):
        self.handler, self.server, self.body = handler, server, body
        self.subjects = server.subjects_of(body)
        self.finding = self.subjects[0]

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None, missing: int = 0) -> None:
        """missing: bytes that are promised and never come."""
        handler = self.handler
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) + missing))
        handler.end_headers()
        handler.wfile.write(content)
        handler.wfile.flush()
        handler.close_connection = bool(missing)

    def complete(self, text: str | list | None, finish: str = "stop", **fields: str) -> None:
        """fields: more of the message, as refusal or reasoning_content."""
        message = {"role": "assistant", "content": text, **fields}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        usage = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
        with self.server.lock:
            self.server.answered.update(self.subjects)
        self.send(
            200, json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        )


def answer(content: dict | str | None, **how) -> Callable[[Reply], None]:
    return lambda reply: reply.complete(json.dumps(content) if isinstance(content, dict) else content, **how)


def status(
    number: int, message: str = "as scripted", code: str | None = None, **headers: str
) -> Callable[[Reply], None]:
    """An error in OpenAI's form; header names have _ for -. Without Retry_After the client may repeat it at once."""
    content = json.dumps({"error": {"message": message, "type": "scripted", "code": code}}).encode()
    headers = headers if "Retry_After" in headers else {"Retry_After_Ms": "1", **headers}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda reply: reply.send(number, content, named)


def raw(content: bytes) -> Callable[[Reply], None]:
    """Status 200 and these bytes."""
    return lambda reply: reply.send(200, content)


def cut(reply: Reply) -> None:
    """The connection ends in the middle of the answer."""
    reply.send(200, b'{"choices": [{"message": {"content": "{', missing=500)


def hang(reply: Reply) -> None:
    """No answer before the server closes."""
    reply.server.closing.wait(60)


def drip(reply: Reply) -> None:
    """An answer of spaces without an end."""
    reply.send(200, b"{", missing=10**6)
    while not reply.server.closing.wait(0.1):
        reply.handler.wfile.write(b" ")
        reply.handler.wfile.flush()


class ReportServer(LLMServer):
    """A server for labels of reports, whose subjects are their texts; labels: {text: its items in an answer}."""

    def __init__(self, labels: dict[str, list[dict]]):
        super().__init__()
        self.labels = labels

    def subjects_of(self, body: dict) -> list[str]:
        reports = json.JSONDecoder().raw_decode(body["messages"][-1]["content"])[0]
        return [report["text"] for report in reports]

    def answer_well(self, reply: Reply) -> None:
        answer({"reports": self.entries(reply)})(reply)

    def entries(self, reply: Reply) -> list[dict]:
        """The entries of a good answer."""
        return [{"id": str(n), "findings": self.labels[text]} for n, text in enumerate(reply.subjects, 1)]
