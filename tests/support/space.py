"""A Space that really runs on this machine: the files that were deployed, its variables, secrets, bucket and address.

    space = RunningSpace(hub, hub_url, "me/look", tmp_path)
    space.start(); visit = Visit(browser, space.url, LAPTOP, ignore_https_errors=True)
    space.restart()     # as the Hub does: the disk is empty, the bucket is not

An HTTPS server stands before the app, as the Hub's does: the page has a secure address, and the app is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.app_process import Process
from tests.support.hub.client import client_env
from tests.support.hub.machines import Jobs
from tests.support.hub.repos import Hub
from tests.support.hub.spaces import space_of

_LOOPBACK = "127.0.0.1"


class HttpsServer:
    """Hands each request on to a port of this machine, one connection each, and says that it came by HTTPS."""

    def __init__(self, folder: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(_certificate(folder))
        self._loop, started = asyncio.new_event_loop(), threading.Event()
        self.port, self.target = 0, 0
        self._connections: set[asyncio.Task[None]] = set()
        """Kept here, since the loop has only weak references to those that wait."""

        async def serve(browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
            connection = asyncio.create_task(self._serve(browser, answer))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

        async def listen() -> None:
            server = await asyncio.start_server(serve, _LOOPBACK, 0, ssl=self._context, backlog=128)
            self.port = int(server.sockets[0].getsockname()[1])
            started.set()

        def run() -> None:
            self._loop.create_task(listen())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, name="https", daemon=True)
        self._thread.start()
        assert started.wait(20)

    def close(self) -> None:
        """Drops the connections and ends the loop."""

        async def drop() -> None:
            open_ones = asyncio.all_tasks() - {asyncio.current_task()}
            for task in open_ones:
                task.cancel()
            await asyncio.gather(*open_ones, return_exceptions=True)
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(drop(), self._loop)
        self._thread.join(20)

    async def _serve(self, browser: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):  # either went away
            head = (await browser.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            lines += [b"Connection: close", b"X-Forwarded-Proto: https", b"X-Forwarded-For: 203.0.113.7"]
            app, request = await asyncio.open_connection(_LOOPBACK, self.target)
            request.write(b"\r\n".join(lines) + b"\r\n\r\n")
            rest = asyncio.create_task(_pump(browser, request))
            await _pump(app, answer)
            rest.cancel()
            request.close()
        answer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()


def _certificate(folder: Path) -> Path:
    """A certificate for this machine, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _LOOPBACK)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_LOOPBACK))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).add_extension(address, critical=False)
    signed = builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "certificate.pem"
    path.write_bytes(encoded + signed.public_bytes(serialization.Encoding.PEM))
    return path


class RunningSpace:
    """One Space of the test Hub as a process; what was deployed decides what it is."""

    def __init__(self, hub: Hub, hub_url: str, name: str, folder: Path, **more: str) -> None:
        """`more` are further variables."""
        self.name, self._hub, self._hub_url, self._folder, self._more = name, hub, hub_url, folder, more
        self.https = HttpsServer(folder)
        self.url = f"https://{_LOOPBACK}:{self.https.port}"
        self.home, self.code = folder / "disk" / "home", folder / "disk" / "code"
        self.process: Process | None = None

    @property
    def env(self) -> dict[str, str]:
        """What the Hub puts into the Space's environment."""
        space, jobs = space_of(self._hub, self.name), self._hub.more.get("jobs")
        assert isinstance(jobs, Jobs)
        mounts = {one["mountPath"]: str(jobs.bucket(one["source"])) for one in space.volumes}
        own = {name: mounts.get(value, value) for name, value in (space.variables | space.secrets).items()}
        login = {"OAUTH_CLIENT_ID": "the-space", "OAUTH_CLIENT_SECRET": "a secret of the Space", "SYSTEM": "spaces"}
        login |= {"OAUTH_SCOPES": "openid profile read-memberships", "OPENID_PROVIDER_URL": self._hub_url}
        about = {"SPACE_ID": self.name, "SPACE_AUTHOR_NAME": self.name.split("/")[0]}
        about |= {"SPACE_HOST": self.url.removeprefix("https://"), "GRADIO_SERVER_NAME": _LOOPBACK}
        # no GPU is here, so the variable names the base that space.yaml names for one
        cache = client_env(self._hub_url, self._folder / "disk" / "cache")
        return cache | own | login | about | {"LOOKTHINK_HOME": str(self.home), "OMP_NUM_THREADS": "1"} | self._more

    def start(self) -> None:
        """Boots it from the files on the Hub, on an empty disk."""
        repo = self._hub.repos["space", self.name]
        for path, data in repo.commits[repo.refs["main"]].items():
            (self.code / path).parent.mkdir(parents=True, exist_ok=True)
            (self.code / path).write_bytes(data)
        self.process = Process(self.home, self.code, **self.env)
        self.https.target = self.process.port
        self.process.wait_ready()

    def stop(self) -> None:
        """Ends it as the Hub does, and its disk."""
        if self.process is not None:
            self.process.popen.send_signal(signal.SIGTERM)
            self.process.popen.wait(300)
        shutil.rmtree(self._folder / "disk", ignore_errors=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def command(self, *words: str) -> str:
        """What `python -m training …` prints, typed in the Space's terminal."""
        done = subprocess.run(
            [sys.executable, "-m", "training", *words],
            cwd=self.code,
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
