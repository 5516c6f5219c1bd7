package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.RecallReceipt;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** Messages that come later, and never when they are recalled. */
final class DelayScenarios {
    private static final Duration DELAY = Duration.ofSeconds(4);

    private final Clients clients;
    private final Producer producer;

    DelayScenarios(Clients clients, Producer producer) {
        this.clients = clients;
        this.producer = producer;
    }

    void addTo(Map<String, Compat.Scenario> scenarios) {
        scenarios.put("delayed_message_comes_on_time", this::delayedMessageComesOnTime);
        scenarios.put("delivery_time_in_the_past_is_now", this::deliveryTimeInThePastIsNow);
        scenarios.put("recalled_message_never_comes", this::recalledMessageNeverComes);
        scenarios.put("recall_comes_too_late", this::recallComesTooLate);
    }

    private SendReceipt sendDelayed(String topic, String body, Duration delay) throws Exception {
        Message message = clients.message(topic, body.getBytes(StandardCharsets.UTF_8))
            .setDeliveryTimestamp(System.currentTimeMillis() + delay.toMillis())
            .build();
        return producer.send(message);
    }

    private void delayedMessageComesOnTime() throws Exception {
        String topic = "java-delay";
        try (SimpleConsumer consumer = clients.simple(topic, "java-delay-group")) {
            long start = System.nanoTime();
            SendReceipt sent = sendDelayed(topic, "later", DELAY);
            MessageView received = Clients.receiveOne(consumer, Clients.LEASE);
            Check.elapsed(start, DELAY, "the delayed message");
            Check.equal(sent.getMessageId(), received.getMessageId(), "message id");
            Check.equal(1, received.getDeliveryAttempt(), "delivery attempt");
            Check.that(received.getDeliveryTimestamp().isPresent(), "it has a delivery timestamp");
            consumer.ack(received);
        }
    }

    private void deliveryTimeInThePastIsNow() throws Exception {
        String topic = "java-delay-past";
        SendReceipt sent = sendDelayed(topic, "now", Duration.ofHours(-1));
        try (SimpleConsumer consumer = clients.simple(topic, "java-delay-past-group")) {
            MessageView received = Clients.receiveOne(consumer, Clients.LEASE);
            Check.equal(sent.getMessageId(), received.getMessageId(), "message id");
            consumer.ack(received);
        }
    }

    private void recalledMessageNeverComes() throws Exception {
        String topic = "java-recall";
        SendReceipt sent = sendDelayed(topic, "never", DELAY);
        for (int i = 0; i < 2; i++) {
            RecallReceipt recalled = producer.recallMessage(topic, sent.getRecallHandle());
            Check.equal(sent.getMessageId(), recalled.getMessageId(), "message id");
        }
        clients.expectNothing(topic, "java-recall-group");
    }

    private void recallComesTooLate() throws Exception {
        String topic = "java-recall-late";
        SendReceipt sent = sendDelayed(topic, "there", Duration.ofSeconds(1));
        try (SimpleConsumer consumer = clients.simple(topic, "java-recall-late-group")) {
            MessageView received = Clients.receiveOne(consumer, Clients.LEASE);
            try {
                producer.recallMessage(topic, sent.getRecallHandle());
            } catch (Exception refused) {
                consumer.ack(received);
                return;
            }
        }
        throw new AssertionError("a message that was delivered was recalled");
    }
}
