"""Messages with priorities: the most urgent comes first. Their topic has four levels."""

from clients import equal, message, receive


class PriorityScenarios:
    def __init__(self, clients, producer):
        self._clients = clients
        self._producer = producer

    def all(self):
        return [self.most_urgent_message_comes_first]

    def most_urgent_message_comes_first(self):
        """The highest level has everything from 3 on, in order."""
        topic = "python-priority"
        for priority in (1, 3, 0, 7, 2) * 3:
            sent = message(topic, str(priority).encode())
            sent.priority = priority
            self._producer.send(sent)
        with self._clients.simple(topic, "python-priority-group") as consumer:
            priorities = []
            for received in receive(consumer, 15):
                equal(str(received.priority).encode(), received.body, "body")
                equal(1, received.delivery_attempt, "delivery attempt")
                priorities.append(received.priority)
                consumer.ack(received)
            equal([3, 7, 3, 7, 3, 7, 2, 2, 2, 1, 1, 1, 0, 0, 0], priorities, "priorities")
