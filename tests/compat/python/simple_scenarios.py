"""Producers and simple consumers: what was sent comes, once acked never again, otherwise when its lease ends."""

import random
import time

from clients import (LEASE, SILENCE, check, elapsed, equal, expect_nothing, message, receive, receive_one, refused)

BODY_MAX = 4 * 1024 * 1024


class SimpleScenarios:
    def __init__(self, clients, producer):
        self._clients = clients
        self._producer = producer

    def all(self):
        return [
            self.messages_arrive_as_sent,
            self.acked_message_never_comes_again,
            self.body_over_the_limit_is_refused,
            self.tag_filter_selects,
            self.expired_lease_is_redelivered,
            self.shorter_invisible_duration,
            self.longer_invisible_duration,
        ]

    def messages_arrive_as_sent(self):
        """Tags, keys, properties, Unicode and 4 MiB bodies come out as they went in."""
        topic = "python-as-sent"
        large = random.Random(4).randbytes(BODY_MAX)
        messages = [
            message(topic, b"plain"),
            message(topic, "snow ☃, Größe, 日本語, 🚀".encode()),
            message(topic, b"\x00\x01\xff\x00", tag="binary"),
            message(topic, b"k", keys=["order-1", "order-2"]),
            message(topic, b"p", properties={"colour": "dark blue", "größe.x-y_z": "日本語 🚀 = a,b;c"}),
            message(topic, large, tag="large", keys=["order-3"], properties={"size": "4 MiB"}),
        ]
        sent = {self._producer.send(it).message_id: it for it in messages}
        equal(len(messages), len(sent), "different message ids")
        with self._clients.simple(topic, "python-as-sent-group") as consumer:
            for received in receive(consumer, len(messages), 60):
                wanted = sent.pop(received.message_id, None)
                check(wanted is not None, f"{received.message_id} was not sent, or came twice")
                check_same(wanted, received)
                consumer.ack(received)

    def acked_message_never_comes_again(self):
        topic, group = "python-acked", "python-acked-group"
        for i in range(20):
            self._producer.send(message(topic, f"message {i}".encode()))
        with self._clients.simple(topic, group) as consumer:
            for received in receive(consumer, 20):
                consumer.ack(received)
        self._clients.expect_nothing(topic, group)

    def body_over_the_limit_is_refused(self):
        over = message("python-over-the-limit", bytes(BODY_MAX + 1))
        refused(lambda: self._producer.send(over), f"a body of {BODY_MAX + 1} bytes was taken")

    def tag_filter_selects(self):
        topic = "python-tags"
        for tag in ("red", "green", "blue"):
            self._producer.send(message(topic, tag.encode(), tag=tag))
        self._producer.send(message(topic, b"none"))
        with self._clients.simple(topic, "python-tags-some", "red || blue", SILENCE) as some:
            with self._clients.simple(topic, "python-tags-all") as every:
                equal({b"red", b"blue"}, receive_bodies(some, 2), "bodies with tag red or blue")
                equal({b"red", b"green", b"blue", b"none"}, receive_bodies(every, 4), "all bodies")
                expect_nothing(some)

    def expired_lease_is_redelivered(self):
        """A lease that ends brings the message back with attempt 2, and the first handle then acks nothing."""
        topic, group = "python-expiry", "python-expiry-group"
        self._producer.send(message(topic, b"again"))
        with self._clients.simple(topic, group) as consumer:
            start = time.monotonic()
            first = receive_one(consumer)
            equal(1, first.delivery_attempt, "first delivery attempt")
            second = receive_one(consumer)
            elapsed(start, LEASE, "the redelivery")
            equal(first.message_id, second.message_id, "message id")
            equal(2, second.delivery_attempt, "second delivery attempt")
            refused(lambda: consumer.ack(first), "the handle of a replaced delivery was acked")
            consumer.ack(second)
        self._clients.expect_nothing(topic, group)

    def shorter_invisible_duration(self):
        topic = "python-shorter"
        self._producer.send(message(topic, b"sooner"))
        with self._clients.simple(topic, "python-shorter-group") as consumer:
            first = receive_one(consumer, 300)
            start = time.monotonic()
            consumer.change_invisible_duration(first, LEASE)
            second = receive_one(consumer)
            elapsed(start, LEASE, "the redelivery")
            equal(first.message_id, second.message_id, "message id")
            equal(2, second.delivery_attempt, "delivery attempt")
            consumer.ack(second)

    def longer_invisible_duration(self):
        topic, group = "python-longer", "python-longer-group"
        self._producer.send(message(topic, b"later"))
        with self._clients.simple(topic, group) as consumer:
            received = receive_one(consumer)
            consumer.change_invisible_duration(received, 300)
            self._clients.expect_nothing(topic, group)
            consumer.ack(received)


def check_same(wanted, received):
    equal(wanted.topic, received.topic, "topic")
    equal(wanted.tag, received.tag, "tag")
    equal(wanted.keys, received.keys, "keys")
    equal(wanted.properties, received.properties, "properties")
    check(wanted.body == received.body, f"a body of {len(received.body)} bytes is not what was sent")
    check(not received.corrupted, "the body digest does not match")
    equal(1, received.delivery_attempt, "delivery attempt")
    check(received.born_timestamp > 0, "born timestamp")


def receive_bodies(consumer, count):
    bodies = set()
    for received in receive(consumer, count):
        bodies.add(received.body)
        consumer.ack(received)
    return bodies
