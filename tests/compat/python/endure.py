"""Sends, receives and works on messages for some time, in which proxies may die: the SDK hides it, or it does not."""

import threading
import time

from clients import BATCH, LEASE, Listener, check, equal, message
from rocketmq import ConsumeResult

PACE = 0.02  # seconds between two sends
HELD = 4  # messages that a listener works on for longer than any lease that is not renewed
HOLD = 70  # seconds
DRAIN_MAX = 60  # seconds until everything that was sent has come


class Endure:
    def __init__(self, clients, producer, seconds):
        self._clients = clients
        self._producer = producer
        self._until = time.monotonic() + seconds

    def all(self):
        return [self.sends_succeed_and_nothing_is_lost, self.held_messages_come_once]

    def sends_succeed_and_nothing_is_lost(self):
        topic, sent, failed, seen = "python-endure", set(), [], set()
        over = threading.Event()

        def send():
            while time.monotonic() < self._until:
                try:
                    sent.add(self._producer.send(message(topic, b"message")).message_id)
                except Exception as failure:
                    failed.append(repr(failure))
                time.sleep(PACE)
            over.set()

        sending = threading.Thread(target=send, daemon=True)
        with self._clients.simple(topic, "python-endure-group") as consumer:
            sending.start()
            while not over.is_set() or (sent - seen and time.monotonic() < self._until + DRAIN_MAX):
                seen.update(received_and_acked(consumer))
        print(f"sent {len(sent)}, failed {len(failed)}", flush=True)
        equal([], failed, "failed sends")
        equal(set(), sent - seen, "lost messages")

    def held_messages_come_once(self):
        topic, deliveries, lock, done = "python-held", {}, threading.Lock(), threading.Semaphore(0)
        for number in range(HELD):
            self._producer.send(message(topic, f"message {number}".encode()))

        def consume(received):
            with lock:
                deliveries[received.message_id] = deliveries.get(received.message_id, 0) + 1
            time.sleep(HOLD)
            done.release()
            return ConsumeResult.SUCCESS

        consumer = self._clients.push(topic, "python-held-group", Listener(consume))
        # Not shut down: that waits for its last long poll.
        consumer.__enter__()
        for _ in range(HELD):
            check(done.acquire(timeout=HOLD + DRAIN_MAX), f"deliveries: {deliveries}")
        equal([1] * HELD, list(deliveries.values()), "deliveries of each message")


def received_and_acked(consumer):
    """The ids of what one long poll brings. A call that fails is made again: what it lost comes when its lease ends."""
    seen = []
    try:
        for received in consumer.receive(BATCH, LEASE):
            seen.append(received.message_id)
            consumer.ack(received)
    except Exception:
        time.sleep(PACE)
    return seen
