#!/usr/bin/env python3
"""Measures the key table: memory for each key, time to ready, time of a look-up: `make bench-table`.

Fills SQLite files with keys in two shapes, has the gateway itself make the schema, and starts the real gateway on each.
Memory is what the kernel says of its process (VmRSS), less that of a gateway with one key; time to ready is from the
start of the process to the first 200 of /readyz. Look-ups are timed in a program of their own, without HTTP.
"""

import argparse
import hashlib
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SCOPES = ["orders:read", "orders:read orders:write", "orders:read orders:write users:read"]
NOW = 1_764_000_000_000


def public_id(prefix, number):
    digest = int.from_bytes(hashlib.sha256(f"{prefix}{number}".encode()).digest())
    chars = []
    for _ in range(20):
        digest, char = divmod(digest, 62)
        chars.append(ALPHABET[char])
    return prefix + "".join(chars)


def environment(database):
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"sqlite://{database}",
        "SHARED_SECRET": "a-secret-of-the-benchmark-only",
        "GATEWAY__LISTEN__ADDRESS": "127.0.0.1:0",
        "GATEWAY__ADMIN__ADDRESS": "127.0.0.1:0",
        "RUST_LOG": "info",
    }


def fill(gateway, database, keys, keys_per_consumer):
    """Every consumer has a name of 15 characters, scopes that others have too, and no custom id."""
    subprocess.run([gateway, "keys", "list"], env=environment(database), check=True, stdout=subprocess.DEVNULL)
    with sqlite3.connect(database) as file:
        file.execute("PRAGMA synchronous = OFF")
        consumers = [public_id("csmr_", number) for number in range(-(-keys // keys_per_consumer))]
        file.executemany(
            "INSERT INTO consumers (id, bucket, name, tags, scopes, created_at, updated_at) VALUES (?, 'default', ?, '{}', ?, ?, ?)",
            ((id, f"consumer-{number:06}", SCOPES[number % len(SCOPES)], NOW, NOW) for number, id in enumerate(consumers)),
        )
        file.executemany(
            "INSERT INTO keys (id, consumer_id, digest, hint, state, created_at, updated_at) VALUES (?, ?, ?, 'pstn_abcd', 'active', ?, ?)",
            (
                (public_id("key_", number), consumers[number // keys_per_consumer], hashlib.sha256(f"key {number}".encode()).digest(), NOW, NOW)
                for number in range(keys)
            ),
        )
    file.close()


def memory_kb(process, what):
    return int(re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(text, log, process, seconds=90):
    by = time.monotonic() + seconds
    while True:
        found = re.search(text, log.read_text())
        if found:
            return found[1]
        if process.poll() is not None or time.monotonic() > by:
            sys.exit(f"the gateway did not say {text!r}:\n{log.read_text()}")
        time.sleep(0.005)


def start(gateway, database, folder):
    """Starts the gateway and waits until it is ready. Returns seconds to ready, seconds of CPU until then, and kB in use now and at most."""
    log = Path(folder, "gateway.log")
    with log.open("w") as out:
        begun = time.monotonic()
        process = subprocess.Popen([gateway, "serve"], env=environment(database), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        port = wait_for(r"admin listening on http://127\.0\.0\.1:(\d+)\n", log, process)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30)
                break
            except urllib.error.HTTPError:
                time.sleep(0.01)
        ready = time.monotonic() - begun
        cpu = cpu_seconds(process)
        # What the load needed for a while goes back to the system within moments.
        time.sleep(3)
        return ready, cpu, memory_kb(process, "VmRSS"), memory_kb(process, "VmHWM")
    finally:
        process.terminate()
        process.wait(30)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gateway", default="target/release/gateway")
    arguments.add_argument("--lookups", default="target/release/examples/table_lookups")
    arguments.add_argument("--keys", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--folder", help="where the databases are made and kept; otherwise they are removed at the end")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        Path(folder).mkdir(exist_ok=True)

        def database(keys, per_consumer):
            file = Path(folder, f"{keys}-{per_consumer}.db").absolute()
            if not file.exists():
                fill(options.gateway, file, keys, per_consumer)
            return file

        _, _, empty, _ = start(options.gateway, database(1, 1), temporary)
        print(f"a gateway with one key: {empty / 1024:.1f} MB resident\n")
        print(f"| {options.keys:,} keys | bytes a key | with the process | at most while loading | ready after | CPU until then |")
        print("|---|---|---|---|---|---|")
        for per_consumer in (1000, 1):
            file = database(options.keys, per_consumer)
            runs = [start(options.gateway, file, temporary) for _ in range(options.rounds)]
            ready, cpu, resident, peak = ([run[column] for run in runs] for column in range(4))

            def span(numbers, form):
                low, middle, high = (form.format(number) for number in (min(numbers), statistics.median(numbers), max(numbers)))
                return f"{middle} ({low}–{high})" if low != high else middle

            own = [(kb - empty) * 1024 / options.keys for kb in resident]
            whole = [kb * 1024 / options.keys for kb in resident]
            most = [kb * 1024 / options.keys for kb in peak]
            shape = f"{per_consumer:,} a consumer" if per_consumer > 1 else "one a consumer"
            cells = [span(own, "{:.0f} B"), span(whole, "{:.0f} B"), span(most, "{:.0f} B"), span(ready, "{:.2f} s"), span(cpu, "{:.2f} s")]
            print(f"| {shape} | {' | '.join(cells)} |", flush=True)
    print()
    subprocess.run([options.lookups], check=True)


if __name__ == "__main__":
    main()
