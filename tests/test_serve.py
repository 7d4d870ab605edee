"""The page of a run over loopback: made anew as the run goes on, and for nobody but whoever started it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_runs import a_run, step

from runner import cli, holding, runfile, serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[serve.Server]:
    """A run that goes on and its server, which makes a page whenever it is asked for."""
    with holding.alone(tmp_path / "outputs" / "begun"), serve.server(tmp_path / "outputs" / "begun", 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def asked(
    server: serve.Server, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection(serve.HOST, server.server_port, timeout=60)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path.replace("SECRET", server.secret), headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return found


def test_a_page_follows_its_run(served: serve.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "SHARE", 0)
    monkeypatch.setenv("HF_TOKEN", "unlikely-secret-value")
    directory = served.live.directory
    _, _, page = asked(served, "/SECRET/")
    assert "about to begin; this page follows it" in page
    stamps = [asked(served, "/SECRET/stamp")[2]]
    assert stamps == [asked(served, "/SECRET/stamp")[2]]
    runfile.update(directory, status="training", name="unlikely-secret-value")
    stamps.append(asked(served, "/SECRET/stamp")[2])
    (directory / "metrics.jsonl").write_text(json.dumps(step(1)) + "\n")
    stamps.append(asked(served, "/SECRET/stamp")[2])
    assert len(set(stamps)) == 3
    status, headers, page = asked(served, "/SECRET/page")
    assert status == 200 and "The run is training" in page and "Loss" in page and "unlikely-secret" not in page
    assert headers["Content-Type"] == "text/html; charset=utf-8" and headers["Cache-Control"] == "no-store"
    assert "default-src 'none'; " in page and "connect-src 'self'" in page and "unsafe" not in page
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert not (directory / "report.html").exists()


def test_pages_are_made_no_more_often_than_the_machine_bears(
    served: serve.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "SHARE", 10**9)
    before = asked(served, "/SECRET/stamp")[2]
    runfile.update(served.live.directory, status="training")
    assert asked(served, "/SECRET/stamp")[2] == before
    assert "about to begin" in asked(served, "/SECRET/page")[2]


@pytest.mark.parametrize("path", ["/", "/SECRET", "/wrong/", "/SECRET/run.json", "/SECRET/../run.json", "/%C3%A9/"])
def test_there_is_nothing_else(served: serve.Server, path: str) -> None:
    status, _, text = asked(served, path)
    assert status == 404 and served.secret not in text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:PORT", "127.0.0.1", "localhost:1", "127.0.0.1:PORT.evil.example", ""]
)
def test_a_name_that_leads_here_from_elsewhere_is_refused(served: serve.Server, host: str) -> None:
    status, _, text = asked(served, "/SECRET/", host=host.replace("PORT", str(served.server_port)))
    assert status == 421 and "<" not in text
    assert asked(served, "/SECRET/", host=f"localhost:{served.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "WORSE"])
def test_nothing_but_get(served: serve.Server, method: str) -> None:
    status, headers, _ = asked(served, "/SECRET/", method)
    assert status == 405 and headers["Allow"] == "GET"


def test_it_listens_on_this_machine_alone(served: serve.Server) -> None:
    assert served.server_address[0] == "127.0.0.1"


def test_ports_that_cannot_be_had(served: serve.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(a_run(tmp_path))
    assert cli.main(["watch", directory, "--serve", str(served.server_port)]) == 1
    told = capsys.readouterr().err
    assert f"cannot listen at `127.0.0.1:{served.server_port}`: another program listens there" in told
    assert cli.main(["watch", directory, "--serve", "70000"]) == 2
    assert "there is no port 70000" in capsys.readouterr().err
