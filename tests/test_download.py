"""Downloads from a local server that breaks off, lies, moves, or knows no ranges."""

import hashlib
import random
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minimind.cli import main
from minimind.errors import UserError
from minimind.text import download as downloading
from minimind.text.download import download
from minimind.text.published import MIXES, PLACES, SETS, address

DATA = random.Random(0).randbytes(1_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """What it serves and how it behaves can be changed between requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.etag = DATA, '"one"'
        self.ranges = self.length = True
        self.breaks = []  # bytes sent before the connection ends, for each request
        self.status = []  # answered in place of the file, for each request
        self.asked = []  # the Range of each request
        self.pace = 0  # seconds between blocks

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/dpo.jsonl"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if self.path == "/moved/dpo.jsonl":
            server.asked.pop()
            self.send_response(302)
            self.send_header("Location", "/dpo.jsonl")
            self.end_headers()
            return
        status = server.status.pop(0) if server.status else None
        if self.path != "/dpo.jsonl":
            status = 404
        if status:
            self.send_error(status)
            return
        start = 0
        same = self.headers.get("If-Range") in (None, server.etag)
        if asked and server.ranges and same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.data):
                self.send_error(416)
                return
            self.send_response(206)
            end = len(server.data) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{end + 1}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", str(len(server.data) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        stop = start + server.breaks.pop(0) if server.breaks else len(server.data)
        for at in range(start, stop, 50_000):
            self.wfile.write(server.data[at : min(at + 50_000, stop)])
            self.wfile.flush()
            time.sleep(server.pace)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE", 0)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_whole_file(server, tmp_path):
    seen = []
    path = tmp_path / "new" / "dpo.jsonl"
    found = download([server.url], path, SHA, lambda *now: seen.append(now))
    assert found == SHA and path.read_bytes() == DATA
    assert names(path.parent) == ["dpo.jsonl", "dpo.jsonl.sha256"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert server.asked == [None]


def test_what_broke_off_goes_on(server, tmp_path):
    server.breaks = [300_000, 1, 200_000]
    path = tmp_path / "dpo.jsonl"
    assert download([server.url], path, SHA) == SHA
    assert path.read_bytes() == DATA
    ranges = [None, "bytes=300000-", "bytes=300001-", "bytes=500001-"]
    assert server.asked == ranges


def test_the_next_command_goes_on(server, tmp_path):
    server.breaks = [300_000] + [0] * downloading.TRIES
    path = tmp_path / "dpo.jsonl"
    with pytest.raises(UserError, match="300,000 bytes are kept in .* again to go on"):
        download([server.url], path, SHA)
    assert names(tmp_path) == ["dpo.jsonl.part", "dpo.jsonl.part.json"]
    server.asked.clear()
    assert download([server.url], path, SHA) == SHA
    assert server.asked == ["bytes=300000-"]
    assert path.read_bytes() == DATA
    assert names(tmp_path) == ["dpo.jsonl", "dpo.jsonl.sha256"]


def test_kill_9_in_the_middle(server, tmp_path):
    server.pace = 0.02
    path = tmp_path / "dpo.jsonl"
    command = "import sys; from pathlib import Path; from minimind.text import download"
    command += "; download.download([sys.argv[1]], Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", command, server.url, str(path)])
    part = tmp_path / "dpo.jsonl.part"
    while not part.is_file() or part.stat().st_size < 300_000:
        time.sleep(0.005)
    process.kill()
    assert process.wait() and not path.exists()
    server.asked.clear()
    assert download([server.url], path) == SHA
    assert int(server.asked[0].removeprefix("bytes=").rstrip("-")) >= 300_000
    assert path.read_bytes() == DATA


def test_a_server_without_ranges_begins_again(server, tmp_path):
    server.ranges, server.breaks = False, [300_000, 600_000]
    path = tmp_path / "dpo.jsonl"
    assert download([server.url], path, SHA) == SHA
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_version_nothing_is_joined(server, tmp_path, etag):
    server.etag, server.breaks = etag, [300_000]
    path = tmp_path / "dpo.jsonl"
    assert download([server.url], path, SHA) == SHA
    assert path.read_bytes() == DATA and server.asked == [None, None]


def test_without_a_length(server, tmp_path):
    server.length = False
    path = tmp_path / "dpo.jsonl"
    assert download([server.url], path, SHA) == SHA
    assert path.read_bytes() == DATA


def test_a_file_that_changes_meanwhile_is_not_joined(server, tmp_path):
    server.breaks = [300_000] + [0] * downloading.TRIES
    path = tmp_path / "dpo.jsonl"
    with pytest.raises(UserError):
        download([server.url], path)
    server.data, server.etag = bytes(500_000), '"two"'
    download([server.url], path)
    assert path.read_bytes() == bytes(500_000)


def test_a_part_that_is_longer_than_the_file(server, tmp_path):
    server.breaks = [300_000] + [0] * downloading.TRIES
    path = tmp_path / "dpo.jsonl"
    with pytest.raises(UserError):
        download([server.url], path)
    server.data = DATA[:100_000]
    download([server.url], path)
    assert path.read_bytes() == DATA[:100_000]


def test_another_file_is_refused_and_kept_aside(server, tmp_path):
    server.data = lie = b"x" * len(DATA)
    path = tmp_path / "dpo.jsonl"
    with pytest.raises(UserError) as caught:
        download([server.url], path, SHA)
    message, found = str(caught.value), hashlib.sha256(lie).hexdigest()
    assert f"its sha256 is {found} and not {SHA}" in message
    assert f"--sha256 {found}" in message and "--source" in message
    assert names(tmp_path) == ["dpo.jsonl.refused"]
    assert (tmp_path / "dpo.jsonl.refused").read_bytes() == lie
    server.data = DATA
    assert download([server.url], path, SHA) == SHA


def test_an_unknown_hash_is_recorded_and_holds(server, tmp_path):
    path = tmp_path / "dpo.jsonl"
    assert download([server.url], path) == SHA
    record = tmp_path / "dpo.jsonl.sha256"
    assert record.read_text() == f"{SHA}  dpo.jsonl\n"  # as sha256sum -c reads it
    path.unlink()
    server.data = b"other"
    with pytest.raises(UserError, match="refused"):
        download([server.url], path)
    server.data = DATA
    assert download([server.url], path) == SHA


def test_a_file_that_is_there(server, tmp_path):
    path = tmp_path / "dpo.jsonl"
    download([server.url], path, SHA)
    assert download([server.url], path, SHA) == SHA
    assert len(server.asked) == 1
    path.write_bytes(b"changed")
    with pytest.raises(UserError, match="move it away to download it again"):
        download([server.url], path)
    assert path.read_bytes() == b"changed"


def test_the_next_address_where_one_has_nothing(server, tmp_path):
    nowhere = server.url.replace("dpo", "none")
    closed = "http://127.0.0.1:1/dpo.jsonl"
    path = tmp_path / "dpo.jsonl"
    assert download([nowhere, closed, server.url], path, SHA) == SHA
    with pytest.raises(UserError) as caught:
        download([nowhere, closed], tmp_path / "other.jsonl", SHA)
    message = str(caught.value)
    assert f"{nowhere}: 404" in message and f"{closed}: " in message
    assert "--from-url" in message and "\n" not in message


def test_a_mirror_begins_again(server, tmp_path):
    path = tmp_path / "dpo.jsonl"
    server.breaks = [300_000] + [0] * downloading.TRIES
    with pytest.raises(UserError):
        download([server.url], path, SHA)
    with Server() as mirror:
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        assert download([mirror.url], path, SHA) == SHA
        assert mirror.asked == [None]
        mirror.shutdown()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(server, tmp_path, status):
    server.status = [status, status]
    assert download([server.url], tmp_path / "dpo.jsonl", SHA) == SHA
    assert len(server.asked) == 3


def test_a_moved_file(server, tmp_path):
    moved = server.url.replace("/dpo", "/moved/dpo")
    server.breaks = [300_000]
    assert download([moved], tmp_path / "dpo.jsonl", SHA) == SHA
    assert server.asked == [None, "bytes=300000-"]


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(UserError, match="no address has it"):
        download(["nonsense"], tmp_path / "dpo.jsonl")


def command(server, tmp_path, *options):
    base = server.url.removesuffix("/dpo.jsonl")
    where = ["--out", str(tmp_path), "--from-url", base]
    return main(["data", "download", "dpo", *where, *options])


def test_the_command_refuses_what_is_not_the_published_file(server, tmp_path, capsys):
    assert command(server, tmp_path) == 2
    said = capsys.readouterr().err
    assert f"its sha256 is {SHA} and not {SETS['dpo'].sha256}" in said
    assert names(tmp_path) == ["dpo.jsonl.refused"]
    assert command(server, tmp_path, "--sha256", SHA) == 0
    assert f"1,000,000 bytes, sha256 {SHA} (as known)" in capsys.readouterr().out
    assert (tmp_path / "dpo.jsonl").read_bytes() == DATA


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["dop"], "dop: no published set; there are tokenizer_train, pretrain_hq"),
        ([], "name one or more sets"),
        (["dpo", "sft_512", "--sha256", "0"], "--sha256: is for one file"),
    ],
)
def test_mistakes_are_one_line(capsys, argv, what):
    assert main(["data", "download", *argv]) == 2
    assert f"error: {what}" in capsys.readouterr().err


def test_the_table_of_sets(capsys):
    wanted = "pretrain_hq sft_mini_512 sft_512 sft_1024 sft_2048 dpo r1_mix_1024"
    wanted += " lora_identity lora_medical tokenizer_train"
    assert set(SETS) == set(wanted.split())
    for name, about in SETS.items():
        assert about.sha256 is None or len(bytes.fromhex(about.sha256)) == 32
        assert len(bytes.fromhex(about.revision)) == 20
        for place in PLACES:
            assert address(name, place).startswith("https://")
            assert address(name, place).endswith(f"/{name}.jsonl")
        assert about.revision in address(name, "hub")
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in SETS)
    assert all(set(mix) <= set(SETS) for mix in MIXES.values())
