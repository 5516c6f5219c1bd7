"""Messages that come when their transaction is committed, by their producer or when it is asked."""

from clients import equal, expect_nothing, message, receive_one
from rocketmq import TransactionResolution


class TransactionScenarios:
    def __init__(self, clients):
        self._clients = clients

    def all(self):
        return [self.committed_message_comes, self.lost_commit_is_asked_for]

    def committed_message_comes(self):
        topic = "python-commit"
        unknown = TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED
        with self._clients.transactional(topic, lambda _: unknown) as producer, \
                self._clients.simple(topic, "python-commit-group") as consumer:
            transaction = producer.begin_transaction()
            sent = producer.send(message(topic, b"paid"), transaction)
            expect_nothing(consumer)
            transaction.commit()
            received = receive_one(consumer)
            equal(sent.message_id, received.message_id, "message id")
            consumer.ack(received)

    def lost_commit_is_asked_for(self):
        """The producer forgets to end its transaction, and remembers when it is asked."""
        topic = "python-lost-commit"
        asked = []

        def check(about):
            asked.append(about.message_id)
            return TransactionResolution.COMMIT

        with self._clients.transactional(topic, check) as producer, \
                self._clients.simple(topic, "python-lost-commit-group") as consumer:
            sent = producer.send(message(topic, b"paid"), producer.begin_transaction())
            received = receive_one(consumer)
            equal(sent.message_id, received.message_id, "message id")
            equal([sent.message_id], asked, "messages the producer was asked about")
            consumer.ack(received)
