"""Runs every scenario of the official Python SDK at once and prints `PASS name` or `FAIL name reason`.

Usage: python compat.py HOST:PORT plaintext|tls|endure=SECONDS
With endure it sends and receives for so long instead, by plaintext, while proxies may die.
Exit code: 0 when all passed, 1 otherwise, 2 when called wrongly.
With tls, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names the certificates that the SDK is to trust.
"""

import asyncio
import os
import sys
import threading
import time
import traceback

from clients import Clients
from endure import Endure
from lite_scenarios import LiteScenarios
from priority_scenarios import PriorityScenarios
from push_scenarios import PushScenarios
from rocketmq.v5.client.connection.rpc_client import RpcClient
from simple_scenarios import SimpleScenarios
from transaction_scenarios import TransactionScenarios

# Seconds: deadline of the whole run; scenarios run side by side, so one late one does not delay the others.
RUN_MAX = 150


def main():
    how, _, seconds = sys.argv[2].partition("=") if len(sys.argv) == 3 else ("", "", "")
    if how not in ("plaintext", "tls", "endure"):
        print(__doc__, file=sys.stderr)
        return 2
    clients = Clients(sys.argv[1], tls=how == "tls")
    with clients.producer() as producer:
        if how == "endure":
            return 0 if run(Endure(clients, producer, float(seconds)).all()) else 1
        scenarios = SimpleScenarios(clients, producer).all() + PushScenarios(clients, producer).all()
        scenarios += LiteScenarios(clients, producer).all() + PriorityScenarios(clients, producer).all()
        scenarios += TransactionScenarios(clients).all()
        return 0 if run(scenarios) else 1


def run(scenarios):
    deadline = time.monotonic() + RUN_MAX
    runs = [Run(scenario) for scenario in scenarios]
    reasons = [(it.name, it.reason(deadline)) for it in runs]
    for name, reason in reasons:
        print(f"FAIL {name} {reason}" if reason else f"PASS {name}", flush=True)
    return not any(reason for _, reason in reasons)


class Run:
    """One scenario in its own thread."""

    def __init__(self, scenario):
        self.name = scenario.__name__
        self._scenario = scenario
        self._failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        # The SDK goes on in this thread with a route that is there before it hooks its callback to it, and the stream it
        # then opens wants an event loop. Without one, now and then, there is no route and a consumer does not start.
        asyncio.set_event_loop(RpcClient.get_channel_io_loop())
        try:
            self._scenario()
        except Exception:
            self._failure = traceback.format_exc().strip()

    def reason(self, deadline):
        """Why the scenario failed, or None."""
        self._thread.join(max(0, deadline - time.monotonic()))
        return f"has not ended within {RUN_MAX} s" if self._thread.is_alive() else self._failure


if __name__ == "__main__":
    code = main()
    # Not sys.exit: that waits for threads of a scenario that overran.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
