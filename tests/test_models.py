"""Tests: the model registry fetches, checks, pins and finds models; the network is this machine's own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orveil.pipeline.errors import OrveilError
from orveil.stages import models

CONTENT = bytes(range(256)) * 9000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves one model whole, one cut short, and nothing else."""

    requests: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path.startswith("/cut") else CONTENT)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Handler.requests.clear()
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORVEIL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def registry(tmp_path: Path, url: str, sha256: str = "", prefix: str = "") -> Path:
    path = tmp_path / "models.toml"
    path.write_text(
        f'[net]\nkind = "detector"\nabout = "a test"\nurl = "{url}"\nsha256 = "{sha256}"\n'
        f'sha256_prefix = "{prefix}"\nconfig = "detector_embedded"\nlicence = "none"\n'
    )
    return path


def test_the_registry_names_what_the_site_file_needs():
    entries = {entry.name: entry for entry in models.list_models()}
    assert {"embedded-detector", "embedded-pose", "rtmdet-m-person", "rtmdet-l"} <= entries.keys()
    assert {"rtmpose-m-wholebody", "rtmw-l-wholebody"} <= entries.keys()
    for entry in entries.values():
        assert bool(entry.file) != bool(entry.url)
        assert entry.kind in ("detector", "pose")
        assert entry.url.startswith("https://") or entry.file
        # OpenMMLab's file names end with the first digits of the digest.
        assert not entry.sha256_prefix or entry.sha256_prefix in entry.url
        config = Path(models.__file__).parent.parent / "configs" / f"{entry.config}.py"
        assert config.is_file()
        assert f'kind = "{entry.kind}"' in config.read_text() or "_base_" in config.read_text()


def test_embedded_models_are_whole():
    states = {entry.name: state for entry, state in models.verify()}
    assert states["embedded-detector"] == states["embedded-pose"] == "right"
    model = models.resolve("embedded-detector")
    assert model.config == "detector_embedded"
    assert hashlib.sha256(model.weights.read_bytes()).hexdigest() == model.sha256


@pytest.mark.parametrize("known", [{"sha256": DIGEST}, {"prefix": DIGEST[:8]}, {}])
def test_pull_fetches_once_and_pins(known: dict[str, str], server: str, folder: Path, tmp_path: Path):
    names = registry(tmp_path, f"{server}/good.pth", **known)
    seen: list[tuple[int, int]] = []
    path = models.pull("net", progress=lambda done, total: seen.append((done, total)), registry=names)
    assert path == folder / "good.pth"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert (folder / "good.pth.sha256").read_text() == f"{DIGEST}  good.pth\n"
    assert models.pull("net", registry=names) == path
    assert Handler.requests == ["/good.pth"]
    model = models.resolve("net", registry=names)
    assert (model.name, model.weights, model.sha256) == ("net", path, DIGEST)
    assert models.verify("net", registry=names)[0][1].startswith("right")


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"prefix": "00000000"}])
def test_a_file_with_another_digest_is_not_kept(
    known: dict[str, str], server: str, folder: Path, tmp_path: Path
):
    with pytest.raises(OrveilError, match=f"sha256 is {DIGEST}"):
        models.pull("net", registry=registry(tmp_path, f"{server}/good.pth", **known))
    assert list(folder.iterdir()) == []


def test_a_pinned_file_that_changes_is_noticed(server: str, folder: Path, tmp_path: Path):
    names = registry(tmp_path, f"{server}/good.pth")
    path = models.pull("net", registry=names)
    path.write_bytes(CONTENT[:-1] + b"x")
    for check in (models.verify, models.pull, models.resolve):
        with pytest.raises(OrveilError, match="is not the model net") as caught:
            check("net", registry=names)
        assert caught.value.where == str(path)


@pytest.mark.parametrize(("page", "message"), [("/gone.pth", "404"), ("/cut.pth", "1000 of 2304000 bytes")])
def test_a_failed_transfer_leaves_nothing(page: str, message: str, server: str, folder: Path, tmp_path: Path):
    with pytest.raises(OrveilError, match=message) as caught:
        models.pull("net", registry=registry(tmp_path, server + page))
    assert caught.value.where == server + page
    assert list(folder.iterdir()) == []


def test_without_a_network_pull_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OrveilError, match="cannot be fetched") as caught:
        models.pull("net", registry=registry(tmp_path, "http://127.0.0.1:9/x.pth"))
    assert str(folder) in caught.value.remedy


def test_a_model_that_was_not_pulled_says_how(folder: Path):
    with pytest.raises(OrveilError, match="not here") as caught:
        models.resolve("rtmdet-m-person")
    assert caught.value.remedy == "run: orveil models pull rtmdet-m-person"
    with pytest.raises(OrveilError, match="no model of this name"):
        models.pull("unheard-of")
    with pytest.raises(OrveilError, match="no such model") as caught:
        models.resolve("unheard-of")
    assert "embedded-detector" in caught.value.remedy


def test_weights_by_path_need_a_config(tmp_path: Path):
    path = tmp_path / "own.pth"
    path.write_bytes(b"weights")
    with pytest.raises(OrveilError, match="need their config"):
        models.resolve(path)
    model = models.resolve(path, "detector_rtmdet_m_person")
    assert (model.name, model.config) == ("own", "detector_rtmdet_m_person")
    assert model.sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_folder_that_orveil_wrote_brings_its_config(tmp_path: Path):
    (tmp_path / "round2").mkdir()
    (tmp_path / "round2" / "model.safetensors").write_bytes(b"weights")
    model = models.resolve(tmp_path / "round2")
    assert model.config == str(tmp_path / "round2" / "config.py")
    assert model.weights == tmp_path / "round2"


def test_a_damaged_registry_is_named(tmp_path: Path):
    bad = tmp_path / "models.toml"
    bad.write_text("[net]\nunknown = 1\n")
    with pytest.raises(OrveilError, match="registry") as caught:
        models.list_models(bad)
    assert caught.value.where == str(bad)
