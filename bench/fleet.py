#!/usr/bin/env python3
"""How soon a revoked key is refused by every gateway of a fleet, under load: `make bench-fleet`.

Three gateways on one PostgreSQL server, each under load with a key that stays good. A thousand keys are revoked one after
another. The clock starts when the command line has acknowledged, and runs until each gateway has refused the key; the key is
asked about on kept-alive connections without a pause.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from peers import ORIGIN_PORT, SECRET, origin
from run import wait_for

GATEWAY = Path("target/release/gateway").absolute()


class Postgres:
    """A server of its own, in a folder of its own. It refuses to run as root."""

    def __init__(self, folder):
        self.folder = folder / "postgres"
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        self.folder.mkdir()
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")
            folder.chmod(0o755)
        subprocess.run(
            [*self.user, program("initdb"), "--username=postern", "--auth=trust", "--locale=C.UTF-8", "--pgdata", self.folder / "data"],
            check=True, stdout=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgres://postern@127.0.0.1:{self.port}/postgres"
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self.process = subprocess.Popen(
            [*self.user, program("postgres"), "-D", self.folder / "data", "-p", str(self.port), *settings],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        by = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > by:
                    sys.exit("PostgreSQL did not start")
                time.sleep(0.05)


def program(name):
    places = [Path(p) for p in os.environ["PATH"].split(":")] + sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = next((place / name for place in places if (place / name).exists()), None)
    return found or sys.exit(f"{name} is not installed (Debian: apt-get install postgresql)")


class Gateway:
    """One gateway of the fleet."""

    def __init__(self, number, folder, url):
        self.environment = {
            "PATH": os.environ["PATH"], "SHARED_SECRET": SECRET, "ORIGIN_URL": f"http://127.0.0.1:{ORIGIN_PORT}", "DATABASE_URL": url,
            "GATEWAY__LISTEN__ADDRESS": "127.0.0.1:0", "GATEWAY__ADMIN__ADDRESS": "127.0.0.1:0", "GATEWAY__LISTEN__WORKERS": "1",
            "GATEWAY__LOG__ACCESS": "off",
        }  # fmt: skip
        log = folder / f"gateway-{number}.log"
        self.process = subprocess.Popen([GATEWAY, "serve"], cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stderr=log.open("w"))
        by = time.monotonic() + 30
        while not (found := re.search(r"] listening on http://127\.0\.0\.1:(\d+)\n", log.read_text())):
            if time.monotonic() > by:
                sys.exit(log.read_text())
            time.sleep(0.02)
        self.port = int(found[1])
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)

    def status(self, key):
        self.connection.request("GET", "/x", headers={"authorization": f"Bearer {key}"})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def until(self, key, status):
        """When the gateway first answered `status`."""
        while self.status(key) != status:
            pass
        return time.monotonic()


def command(url, *arguments):
    """Runs the command line; returns what it printed, and when it had acknowledged."""
    done = subprocess.run([GATEWAY, *arguments, "--json"], env={"PATH": os.environ["PATH"], "DATABASE_URL": url}, check=True, capture_output=True)
    return json.loads(done.stdout), time.monotonic()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--gateways", type=int, default=3)
    arguments = parser.parse_args()
    started = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            started.append(subprocess.Popen(origin(folder), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_for(ORIGIN_PORT, started[0])
            database = Postgres(folder)
            started.append(database.process)
            fleet = [Gateway(number, folder, database.url) for number in range(arguments.gateways)]
            started += [gateway.process for gateway in fleet]
            good, _ = command(database.url, "keys", "create", "--consumer", "load")
            for gateway in fleet:
                assert gateway.status(good["key"]) == 200, "a command returns once the gateways know the key"
                load = ["wrk", "-t1", "-c16", "-d1h", "-H", f"authorization: Bearer {good['key']}", f"http://127.0.0.1:{gateway.port}/x"]
                started.append(subprocess.Popen(load, stdout=subprocess.DEVNULL))
            delays = [delay for number in range(arguments.keys) for delay in revoke(database.url, fleet, number)]
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()
    delays.sort()
    p99 = delays[int(len(delays) * 0.99)]
    print(f"{arguments.keys} keys revoked, {arguments.gateways} gateways under load, {len(delays)} refusals awaited")
    print(f"median {statistics.median(delays):.1f} ms, p99 {p99:.1f} ms, longest {delays[-1]:.1f} ms after the acknowledgement")


def revoke(url, fleet, number):
    """Makes a key, revokes it, and returns how long each gateway went on, in milliseconds."""
    made, _ = command(url, "keys", "create", "--consumer", f"consumer-{number % 50}")
    for gateway in fleet:
        assert gateway.status(made["key"]) == 200, "a command returns once the gateways know the key"
    refused = [0.0] * len(fleet)

    def follow(index):
        refused[index] = fleet[index].until(made["key"], 401)

    followers = [threading.Thread(target=follow, args=(index,)) for index in range(len(fleet))]
    for follower in followers:
        follower.start()
    # It would return once all have refused: what is measured is how soon they do.
    _, acknowledged = command(url, "--no-wait", "keys", "revoke", made["id"])
    for follower in followers:
        follower.join()
    return [max(0.0, when - acknowledged) * 1000 for when in refused]


if __name__ == "__main__":
    main()
