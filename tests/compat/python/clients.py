"""Clients of one server, made as an application makes them, and what scenarios demand of them."""

import time

from rocketmq import (ClientConfiguration, Credentials, FilterExpression, Message, MessageListener, Producer,
                      PushConsumer, SimpleConsumer, TransactionChecker)
from rocketmq.v5.consumer.push.lite_push_consumer import LitePushConsumer
from rocketmq.v5.consumer.simple.lite_simple_consumer import LiteSimpleConsumer

# All in seconds.
LEASE = 10  # the shortest lease a client may ask for
ARRIVAL_MAX = 30  # longest wait for messages that must come
SILENCE = 12  # how long an empty receive waits; longer than LEASE, so that a lease left behind would show
POLL = 3
EARLY_MAX = 0.05  # granularity of the clocks on both sides
LATE_MAX = 8  # how much later than due a redelivery may come on a busy machine
BATCH = 32


class Clients:
    def __init__(self, endpoint, tls):
        # A longer request timeout than the default of 3 s: a busy machine must not look like a lost message.
        self._configuration = ClientConfiguration(endpoint, Credentials(), request_timeout=10)
        self._tls = tls

    def producer(self):
        return Running(Producer(self._configuration, tls_enable=self._tls))

    def transactional(self, topic, check):
        """One that begins transactions of a topic, and is asked about them."""
        return Running(Producer(self._configuration, [topic], Checker(check), tls_enable=self._tls))

    def simple(self, topic, group, tags="*", await_duration=POLL):
        subscription = {topic: FilterExpression(tags)}
        return Running(SimpleConsumer(self._configuration, group, subscription, await_duration, tls_enable=self._tls))

    def push(self, topic, group, listener):
        subscription = {topic: FilterExpression()}
        return Running(PushConsumer(self._configuration, group, listener, subscription, tls_enable=self._tls))

    def lite_simple(self, topic, group):
        return Running(LiteSimpleConsumer(topic, self._configuration, group, POLL, tls_enable=self._tls))

    def lite_push(self, topic, group, listener):
        return Running(LitePushConsumer(self._configuration, group, topic, listener, tls_enable=self._tls))

    def expect_nothing(self, topic, group):
        """One long poll that must find nothing for longer than a lease."""
        with self.simple(topic, group, await_duration=SILENCE) as consumer:
            expect_nothing(consumer)


class Running:
    """A client between its start and its shutdown."""

    def __init__(self, client):
        self._client = client

    def __enter__(self):
        self._client.startup()
        return self._client

    def __exit__(self, *_):
        self._client.shutdown()


class Listener(MessageListener):
    def __init__(self, consume):
        self._consume = consume

    def consume(self, message):
        return self._consume(message)


class Checker(TransactionChecker):
    def __init__(self, check):
        self._check = check

    def check(self, message):
        return self._check(message)


def message(topic, body, tag=None, keys=(), properties=None):
    made = Message()
    made.topic = topic
    made.body = body
    if tag:
        made.tag = tag
    for key in keys:
        made.keys = key  # the setter of this SDK adds
    for name, value in (properties or {}).items():
        made.add_property(name, value)
    return made


def receive(consumer, count, lease=LEASE):
    """Receives until `count` messages are there."""
    deadline = time.monotonic() + ARRIVAL_MAX
    received = []
    while len(received) < count:
        check(time.monotonic() < deadline, f"{len(received)} of {count} messages within {ARRIVAL_MAX} s")
        received += consumer.receive(BATCH, lease)
    equal(count, len(received), "messages received")
    return received


def receive_one(consumer, lease=LEASE):
    return receive(consumer, 1, lease)[0]


def expect_nothing(consumer):
    received = consumer.receive(BATCH, LEASE)
    check(not received, f"nothing should come, but there is {[str(it) for it in received]}")


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def equal(wanted, found, what):
    check(wanted == found, f"{what}: wanted {wanted!r}, found {found!r}")


def refused(call, what):
    try:
        call()
    except Exception:
        return
    raise AssertionError(what)


def elapsed(start, due, what):
    """The time since `start` is `due`, hardly less and not much more."""
    took = time.monotonic() - start
    check(took >= due - EARLY_MAX, f"{what} came early, after {took:.3f} s")
    check(took <= due + LATE_MAX, f"{what} came late, after {took:.3f} s")
