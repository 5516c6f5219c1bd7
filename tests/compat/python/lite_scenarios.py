"""Lite topics, of a topic and for consumer groups that the test has created."""

import threading
import time

from clients import ARRIVAL_MAX, Listener, check, equal, message, receive
from rocketmq import ConsumeResult
from rocketmq.v5.exception import LiteSubscriptionQuotaExceededException

TOPIC = "python-lite"
MESSAGES = 5


class LiteScenarios:
    def __init__(self, clients, producer):
        self._clients = clients
        self._producer = producer

    def all(self):
        return [
            self.lite_push_consumers_get_what_they_subscribed_to,
            self.lite_simple_consumer_gets_what_it_subscribed_to,
        ]

    def lite_push_consumers_get_what_they_subscribed_to(self):
        """Each consumer gets the messages of its lite topics, in order; what it unsubscribes from goes to nobody."""
        group = "python-lite-push"
        first, second = Seen(2 * MESSAGES), Seen(2 * MESSAGES)
        with self._clients.lite_push(TOPIC, group, Listener(first.consume)) as one:
            with self._clients.lite_push(TOPIC, group, Listener(second.consume)) as two:
                subscribe(one, "one-0", "one-1", "nobody")
                subscribe(two, "two-0", "two-1")
                one.unsubscribe_lite("nobody")
                self._send("nobody", 1)
                for lite_topic in ("one-0", "two-0", "one-1", "two-1"):
                    self._send(lite_topic, MESSAGES)
                first.check("one-0", "one-1")
                second.check("two-0", "two-1")

    def lite_simple_consumer_gets_what_it_subscribed_to(self):
        with self._clients.lite_simple(TOPIC, "python-lite-simple") as consumer:
            subscribe(consumer, "simple-0", "simple-1")
            for lite_topic in ("simple-0", "simple-1", "simple-other"):
                self._send(lite_topic, MESSAGES)
            bodies = {}
            for received in receive(consumer, 2 * MESSAGES):
                equal(1, received.delivery_attempt, "delivery attempt")
                bodies.setdefault(received.lite_topic, []).append(received.body.decode())
                consumer.ack(received)
            equal({"simple-0": sent("simple-0"), "simple-1": sent("simple-1")}, bodies, "bodies")
            consumer.unsubscribe_lite("simple-0")
            for lite_topic in ("simple-0", "simple-1"):
                self._send(lite_topic, 1)
            last = receive(consumer, 1)[0]
            equal("simple-1", last.lite_topic, "lite topic")
            consumer.ack(last)

    def _send(self, lite_topic, count):
        for body in sent(lite_topic)[:count]:
            made = message(TOPIC, body.encode())
            made.lite_topic = lite_topic
            self._producer.send(made)


def subscribe(consumer, *lite_topics):
    """Subscribes at once: this SDK has no quota before the settings came, which a simple consumer does not wait for; and
    the call for one lite topic tells the server the letters of its name, the name itself only within 30 seconds."""
    deadline = time.monotonic() + ARRIVAL_MAX
    for lite_topic in lite_topics:
        while not subscribed(consumer, lite_topic):
            check(time.monotonic() < deadline, f"no quota within {ARRIVAL_MAX} s")
    consumer.subscribe_lite_all()


def subscribed(consumer, lite_topic):
    try:
        consumer.subscribe_lite(lite_topic)
        return True
    except LiteSubscriptionQuotaExceededException:
        return False


def sent(lite_topic):
    return [f"{lite_topic} {number}" for number in range(MESSAGES)]


class Seen:
    """Notes what a listener saw, and fails the first time for one message of each lite topic. This SDK then gives it to
    the listener again on its own, with the same delivery attempt."""

    def __init__(self, count):
        self._missing = count
        self._failed = set()
        self._done = {}
        self._changed = threading.Condition()

    def consume(self, received):
        body = received.body.decode()
        if body.endswith(" 2") and body not in self._failed:
            self._failed.add(body)
            return ConsumeResult.FAILURE
        with self._changed:
            self._done.setdefault(received.lite_topic, []).append(body)
            self._missing -= 1
            self._changed.notify_all()
        return ConsumeResult.SUCCESS

    def check(self, *lite_topics):
        with self._changed:
            self._changed.wait_for(lambda: self._missing <= 0, ARRIVAL_MAX)
            check(self._missing == 0, f"{self._missing} messages did not come: {self._done}")
            equal({lite_topic: sent(lite_topic) for lite_topic in lite_topics}, self._done, "messages")
