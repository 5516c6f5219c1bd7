"""Push consumers: each message once, and again with a higher attempt after a listener that failed."""

import queue
import threading
import time

from clients import ARRIVAL_MAX, Listener, check, equal, message
from rocketmq import ConsumeResult

MESSAGES = 300
BACK_OFF = 1  # seconds: the first step of the back-off a group has by default


class PushScenarios:
    def __init__(self, clients, producer):
        self._clients = clients
        self._producer = producer

    def all(self):
        return [
            self.push_consumer_takes_each_message_once,
            self.push_consumers_of_a_group_share,
            self.failing_listener_gets_attempt_2,
            self.throwing_listener_gets_attempt_2,
        ]

    def push_consumer_takes_each_message_once(self):
        """Half of the messages are there before the consumer is, half come while it waits."""
        topic, group = "python-push", "python-push-group"
        self._send(topic, MESSAGES // 2)
        tally = Tally()
        with self._clients.push(topic, group, Listener(tally.consume)):
            self._send(topic, MESSAGES // 2)
            tally.wait()
        self._clients.expect_nothing(topic, group)
        tally.check_once()

    def push_consumers_of_a_group_share(self):
        topic, group = "python-shared", "python-shared-group"
        tally = Tally()
        with self._clients.push(topic, group, Listener(tally.consume)):
            with self._clients.push(topic, group, Listener(tally.consume)):
                self._send(topic, MESSAGES)
                tally.wait()
        self._clients.expect_nothing(topic, group)
        tally.check_once()

    def failing_listener_gets_attempt_2(self):
        self._failing_listener("python-failing", lambda: ConsumeResult.FAILURE)

    def throwing_listener_gets_attempt_2(self):
        def throw():
            raise RuntimeError("the listener of this test fails on purpose")

        self._failing_listener("python-throwing", throw)

    def _failing_listener(self, topic, first):
        group = f"{topic}-group"
        message_id = self._producer.send(message(topic, b"poison at first")).message_id
        deliveries = queue.Queue()

        def consume(received):
            deliveries.put((time.monotonic(), received))
            return first() if received.delivery_attempt == 1 else ConsumeResult.SUCCESS

        with self._clients.push(topic, group, Listener(consume)):
            failed = next_delivery(deliveries, message_id, 1)
            repeated = next_delivery(deliveries, message_id, 2)
            check(repeated - failed >= BACK_OFF, f"attempt 2 came after {repeated - failed:.3f} s")
        self._clients.expect_nothing(topic, group)
        check(deliveries.empty(), "more than two deliveries")

    def _send(self, topic, count):
        for i in range(count):
            self._producer.send(message(topic, f"message {i}".encode()))


def next_delivery(deliveries, message_id, attempt):
    """When the delivery with this attempt came."""
    try:
        when, received = deliveries.get(timeout=ARRIVAL_MAX)
    except queue.Empty:
        raise AssertionError(f"no attempt {attempt} within {ARRIVAL_MAX} s") from None
    equal(message_id, received.message_id, "message id")
    equal(b"poison at first", received.body, "body")
    equal(attempt, received.delivery_attempt, "delivery attempt")
    return when


class Tally:
    """Counts deliveries by message id."""

    def __init__(self):
        self._seen = {}
        self._changed = threading.Condition()

    def consume(self, received):
        with self._changed:
            self._seen[received.message_id] = self._seen.get(received.message_id, 0) + 1
            self._changed.notify_all()
        return ConsumeResult.SUCCESS

    def wait(self):
        with self._changed:
            self._changed.wait_for(lambda: len(self._seen) >= MESSAGES, timeout=ARRIVAL_MAX)
            check(len(self._seen) >= MESSAGES, f"{len(self._seen)} of {MESSAGES} messages came")

    def check_once(self):
        with self._changed:
            equal(MESSAGES, len(self._seen), "different messages")
            again = {message_id: times for message_id, times in self._seen.items() if times != 1}
            equal({}, again, "messages delivered more than once")
