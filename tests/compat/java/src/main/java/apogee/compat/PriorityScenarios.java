package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Messages with priorities: the most urgent comes first, also when it comes again. Their topics have four levels. */
final class PriorityScenarios {
    /** The highest level has everything from 3 on, in order. */
    private static final int[] SENT = {1, 3, 0, 7, 2};

    private final Clients clients;
    private final Producer producer;

    PriorityScenarios(Clients clients, Producer producer) {
        this.clients = clients;
        this.producer = producer;
    }

    void addTo(Map<String, Compat.Scenario> scenarios) {
        scenarios.put("most_urgent_message_comes_first", this::mostUrgentMessageComesFirst);
        scenarios.put("priority_outlives_a_lease", this::priorityOutlivesALease);
    }

    private void send(String topic, int priority) throws Exception {
        byte[] body = Integer.toString(priority).getBytes(StandardCharsets.UTF_8);
        Message message = clients.message(topic, body).setPriority(priority).build();
        producer.send(message);
    }

    private void mostUrgentMessageComesFirst() throws Exception {
        String topic = "java-priority";
        for (int round = 0; round < 3; round++) {
            for (int priority : SENT) {
                send(topic, priority);
            }
        }
        try (SimpleConsumer consumer = clients.simple(topic, "java-priority-group")) {
            List<Integer> priorities = new ArrayList<>();
            for (MessageView received : Clients.receive(consumer, 3 * SENT.length, Clients.LEASE)) {
                int priority = received.getPriority().orElseThrow();
                Check.equal(Integer.toString(priority), text(received), "body");
                Check.equal(1, received.getDeliveryAttempt(), "delivery attempt");
                priorities.add(priority);
                consumer.ack(received);
            }
            Check.equal(List.of(3, 7, 3, 7, 3, 7, 2, 2, 2, 1, 1, 1, 0, 0, 0), priorities, "priorities");
        }
    }

    private void priorityOutlivesALease() throws Exception {
        String topic = "java-priority-again";
        send(topic, 1);
        send(topic, 3);
        try (SimpleConsumer consumer = clients.simple(topic, "java-priority-again-group")) {
            Check.equal(List.of("3, attempt 1", "1, attempt 1"), receiveTwo(consumer), "the first time");
            Check.equal(List.of("3, attempt 2", "1, attempt 2"), receiveTwo(consumer), "the second time");
        }
    }

    private static List<String> receiveTwo(SimpleConsumer consumer) throws Exception {
        List<String> two = new ArrayList<>();
        for (MessageView received : Clients.receive(consumer, 2, Clients.LEASE)) {
            two.add(text(received) + ", attempt " + received.getDeliveryAttempt());
        }
        return two;
    }

    private static String text(MessageView received) {
        return StandardCharsets.UTF_8.decode(received.getBody()).toString();
    }
}
