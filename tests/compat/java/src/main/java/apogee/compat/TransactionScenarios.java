package apogee.compat;

import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** Messages that come when their transaction is committed, and never when it is rolled back. */
final class TransactionScenarios {
    private final Clients clients;

    TransactionScenarios(Clients clients) {
        this.clients = clients;
    }

    void addTo(Map<String, Compat.Scenario> scenarios) {
        scenarios.put("committed_message_comes", this::committedMessageComes);
        scenarios.put("rolled_back_message_never_comes", this::rolledBackMessageNeverComes);
        scenarios.put("lost_commit_is_asked_for", this::lostCommitIsAskedFor);
        scenarios.put("another_producer_answers", this::anotherProducerAnswers);
        scenarios.put("transaction_ends_once", this::transactionEndsOnce);
    }

    private Producer undecided(String topic) throws ClientException {
        return clients.transactional(topic, message -> TransactionResolution.UNKNOWN);
    }

    private void committedMessageComes() throws Exception {
        String topic = "java-commit";
        try (Producer producer = undecided(topic); SimpleConsumer consumer = clients.simple(topic, "java-commit-group")) {
            Transaction transaction = producer.beginTransaction();
            SendReceipt sent = producer.send(clients.text(topic, "paid"), transaction);
            Clients.expectNothing(consumer);
            transaction.commit();
            MessageView received = Clients.receiveOne(consumer, Clients.LEASE);
            Check.equal(sent.getMessageId(), received.getMessageId(), "message id");
            consumer.ack(received);
        }
    }

    private void rolledBackMessageNeverComes() throws Exception {
        String topic = "java-rollback";
        try (Producer producer = undecided(topic)) {
            Transaction transaction = producer.beginTransaction();
            producer.send(clients.text(topic, "never"), transaction);
            transaction.rollback();
            clients.expectNothing(topic, "java-rollback-group");
        }
    }

    /** The producer forgets to end its transaction, and remembers when it is asked. */
    private void lostCommitIsAskedFor() throws Exception {
        String topic = "java-lost-commit";
        AtomicInteger asked = new AtomicInteger();
        String[] about = new String[2];
        try (Producer producer = clients.transactional(topic, message -> {
            about[0] = message.getMessageId().toString();
            about[1] = message.getProperties().get("order");
            asked.incrementAndGet();
            return TransactionResolution.COMMIT;
        }); SimpleConsumer consumer = clients.simple(topic, "java-lost-commit-group")) {
            Transaction transaction = producer.beginTransaction();
            SendReceipt sent = producer.send(
                clients.message(topic, new byte[] {'p'}).addProperty("order", "17").build(), transaction);
            MessageView received = Clients.receiveOne(consumer, Clients.LEASE);
            Check.equal(sent.getMessageId(), received.getMessageId(), "message id");
            Check.equal(1, asked.get(), "times the producer was asked");
            Check.equal(sent.getMessageId().toString(), about[0], "message it was asked about");
            Check.equal("17", about[1], "property of the message it was asked about");
            consumer.ack(received);
        }
    }

    /** The producer is gone, and another one of the topic knows. */
    private void anotherProducerAnswers() throws Exception {
        String topic = "java-other-producer";
        SendReceipt sent;
        try (Producer producer = undecided(topic)) {
            sent = producer.send(clients.text(topic, "paid"), producer.beginTransaction());
        }
        try (Producer other = clients.transactional(topic, message -> TransactionResolution.COMMIT);
            SimpleConsumer consumer = clients.simple(topic, "java-other-producer-group")) {
            MessageView received = Clients.receiveOne(consumer, Clients.LEASE);
            Check.equal(sent.getMessageId(), received.getMessageId(), "message id");
            consumer.ack(received);
        }
    }

    /** A second commit changes nothing; a rollback behind it is refused. */
    private void transactionEndsOnce() throws Exception {
        String topic = "java-end-twice";
        try (Producer producer = undecided(topic);
            SimpleConsumer consumer = clients.simple(topic, "java-end-twice-group")) {
            Transaction transaction = producer.beginTransaction();
            producer.send(clients.text(topic, "once"), transaction);
            transaction.commit();
            transaction.commit();
            try {
                transaction.rollback();
                throw new AssertionError("a committed transaction was rolled back");
            } catch (ClientException refused) {
                consumer.ack(Clients.receiveOne(consumer, Clients.LEASE));
            }
            Clients.expectNothing(consumer);
        }
    }
}
