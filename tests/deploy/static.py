#!/usr/bin/env python3
"""Runs a static pullgate where there is nothing else, and pulls an image through it.

    unshare --net tests/deploy/static.py PROGRAM DIRECTORY

DIRECTORY must be empty. It becomes a root file system with the program, its configuration, /etc/hosts, /etc/resolv.conf and
a state directory; there is no C library, no /proc and no /dev. The registry has three names: one in /etc/hosts, one that
only DNS has, and localhost. The answers of DNS do not fit into a datagram, so the resolver must ask again over TCP. The
network namespace is empty, so port 53 is free. It needs root and ip.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER = 65532
NAMES = ["hosts.test", "dns.test", "localhost"]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def image():
    """The content of a registry with one image: bytes and media type by path, below the repository."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        file = tarfile.TarInfo("etc/motd")
        file.size = 3
        archive.addfile(file, io.BytesIO(b"hi\n"))
    packed = gzip.compress(layer.getvalue(), mtime=0)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(layer.getvalue())]}}
    config = json.dumps(config).encode()

    def descriptor(kind, data):
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": [descriptor("layer.v1.tar+gzip", packed)],
    }
    manifest_type, manifest = manifest["mediaType"], json.dumps(manifest).encode()
    content = {f"blobs/{digest(data)}": (data, "application/octet-stream") for data in (config, packed)}
    content["manifests/1"] = content[f"manifests/{digest(manifest)}"] = manifest, manifest_type
    return content, f"blobs/{digest(packed)}"


class Registry(BaseHTTPRequestHandler):
    content = {}

    def do_GET(self):
        data, kind = self.content.get(self.path.removeprefix("/v2/demo/"), (b"{}", "application/json"))
        self.send_response(200 if self.path == "/v2/" or data != b"{}" else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", digest(data))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def answer(query, truncated):
    """The answer of DNS to a query: 127.0.0.1 for dns.test, and nothing else exists."""
    end = query.index(b"\0", 12) + 5
    question, kind = query[12:end], struct.unpack("!H", query[end - 4 : end - 2])[0]
    known = question.startswith(b"\3dns\4test\0")
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1])
    records = [record] if known and kind == 1 and not truncated else []
    flags = 0x8180 | (0x0200 if truncated else 0) | (0 if known else 3)
    return query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)


class Datagrams(socketserver.BaseRequestHandler):
    def handle(self):
        query, sender = self.request
        sender.sendto(answer(query, truncated=True), self.client_address)


class Streams(socketserver.StreamRequestHandler):
    asked = 0

    def handle(self):
        while length := self.rfile.read(2):
            text = answer(self.rfile.read(struct.unpack("!H", length)[0]), truncated=False)
            self.wfile.write(struct.pack("!H", len(text)) + text)
            Streams.asked += 1


def serve(server):
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def prepare(program, root, registry):
    """The root file system."""
    for folder in ("etc/pullgate/policies", "state"):
        (root / folder).mkdir(parents=True)
    os.chown(root / "state", USER, USER)
    shutil.copy(program, root / "pullgate")
    shutil.copy("config/policies/pullgate/observe.yaml", root / "etc/pullgate/policies")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.0.1 hosts.test\n")
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    upstreams = "".join(f'[[upstream]]\nhost = "{name}"\nurl = "http://{name}:{registry}"\ninsecure = true\n' for name in NAMES)
    listeners = '[[listener]]\naddress = "127.0.0.1:0"\n[admin]\naddress = "127.0.0.1:0"\n[policy]\ndir = "policies"\n'
    (root / "etc/pullgate/pullgate.toml").write_text(f'state_dir = "/state"\n{listeners}{upstreams}')


def main():
    program, root = sys.argv[1], Path(sys.argv[2])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Registry.content, layer = image()
    port = serve(ThreadingHTTPServer(("127.0.0.1", 0), Registry))
    serve(socketserver.ThreadingUDPServer(("127.0.0.1", 53), Datagrams))
    serve(socketserver.ThreadingTCPServer(("127.0.0.1", 53), Streams))
    prepare(program, root, port)
    inside = ["chroot", f"--userspec={USER}:{USER}", root, "/pullgate"]
    config = ["--config", "/etc/pullgate/pullgate.toml"]
    subprocess.run([*inside, "config", "check", "--online", *config], check=True)
    gate = subprocess.Popen([*inside, "serve", "--ready-file", "/state/ready", *config], stderr=subprocess.PIPE, text=True)
    for line in gate.stderr:
        print(line, end="")
        if "pullgate is ready" in line:
            break
    threading.Thread(target=lambda: print(*gate.stderr), daemon=True).start()
    places = json.loads((root / "state/ready").read_text())
    for name in NAMES:
        for path in ("manifests/1", layer):
            with urllib.request.urlopen(f"http://{places['listeners'][0]}/v2/{name}/demo/{path}") as response:
                assert response.read() == Registry.content[path][0], (name, path)
    with urllib.request.urlopen(f"http://{places['admin']}/readyz") as response:
        assert json.load(response)["ready"]
    assert Streams.asked > 0
    gate.terminate()
    assert gate.wait() == 0
    print(f"pulled through {', '.join(NAMES)}")


main()
