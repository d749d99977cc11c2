"""`make audit`: what it says of releases with a known weakness, and of those that it could not ask about."""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.support import audit

WEAKNESS = {"id": "PYSEC-2030-1", "fix_versions": ["9.1"], "aliases": [], "description": "…"}
CLEAN, WEAK = ({"name": name, "version": "9.0", "vulns": vulns} for name, vulns in (("a", []), ("b", [WEAKNESS])))
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([CLEAN], 0, "1 of 1 releases were looked up; known weaknesses: 0."),
        ([CLEAN, WEAK], 1, "b 9.0: PYSEC-2030-1, mended in 9.1\n2 of 2"),
        ([CLEAN, UNKNOWN], 2, "1 of 2 releases .*For 1 the data cannot be had from here, .*: c"),
        ([WEAK, UNKNOWN], 1, "mended in 9.1"),
        ([], 2, "0 of 0"),
    ],
)
def test_what_was_not_asked_is_never_called_clean(found: list[dict[str, Any]], status: int, said: str) -> None:
    ended, words = audit.judged(found)
    assert ended == status and re.search(said, words, re.S)


class Osv(BaseHTTPRequestHandler):
    """The service with the data, which knows of one weakness."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["package"]["name"]
        affected = [{"package": {"name": asked, "ecosystem": "PyPI"}, "ranges": [], "versions": []}]
        known = [{"id": "PYSEC-2030-1", "summary": "…", "details": "…", "affected": affected}]
        body = json.dumps({"vulns": known} if asked == "pillow" else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def osv() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Osv)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()


@pytest.mark.skipif(importlib.util.find_spec("pip_audit") is None, reason="pip-audit is not installed")
def test_the_real_pip_audit_is_understood(osv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--vulnerability-service", "osv", "--osv-url", osv]) == 1
    said = capsys.readouterr().out
    assert "pillow 12.3.0: PYSEC-2030-1" in said and "known weaknesses: 1." in said
    assert audit.main(["--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:1/v1/query"]) == 2
    assert "Nothing was audited, as the data cannot be had from here" in capsys.readouterr().out
