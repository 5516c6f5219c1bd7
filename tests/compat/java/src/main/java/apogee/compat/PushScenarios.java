package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageId;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Push consumers: each message once, and again with a higher attempt after a listener that failed. */
final class PushScenarios {
    private static final int MESSAGES = 300;
    /** The first step of the back-off a group has by default. */
    private static final Duration BACK_OFF = Duration.ofSeconds(1);

    private final Clients clients;
    private final Producer producer;

    PushScenarios(Clients clients, Producer producer) {
        this.clients = clients;
        this.producer = producer;
    }

    void addTo(Map<String, Compat.Scenario> scenarios) {
        scenarios.put("push_consumer_takes_each_message_once", this::eachMessageOnce);
        scenarios.put("push_consumers_of_a_group_share", this::consumersShare);
        scenarios.put("failing_listener_gets_attempt_2", () -> failingListener("java-failing", view -> ConsumeResult.FAILURE));
        scenarios.put("throwing_listener_gets_attempt_2", () -> failingListener("java-throwing", view -> {
            throw new IllegalStateException("the listener of this test fails on purpose");
        }));
    }

    /** Half of the messages are there before the consumer is, half come while it waits. */
    private void eachMessageOnce() throws Exception {
        String topic = "java-push";
        String group = "java-push-group";
        send(topic, MESSAGES / 2);
        Tally tally = new Tally();
        try (PushConsumer consumer = clients.push(topic, group, tally)) {
            send(topic, MESSAGES / 2);
            tally.await();
        }
        clients.expectNothing(topic, group);
        tally.checkOnce();
    }

    private void consumersShare() throws Exception {
        String topic = "java-shared";
        String group = "java-shared-group";
        Tally tally = new Tally();
        try (PushConsumer one = clients.push(topic, group, tally);
             PushConsumer two = clients.push(topic, group, tally)) {
            send(topic, MESSAGES);
            tally.await();
        }
        clients.expectNothing(topic, group);
        tally.checkOnce();
    }

    private void send(String topic, int count) throws Exception {
        for (int i = 0; i < count; i++) {
            producer.send(clients.text(topic, "message " + i));
        }
    }

    private void failingListener(String topic, MessageListener first) throws Exception {
        String group = topic + "-group";
        MessageId id = producer.send(clients.text(topic, "poison at first")).getMessageId();
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        MessageListener listener = view -> {
            deliveries.add(new Delivery(view));
            return view.getDeliveryAttempt() == 1 ? first.consume(view) : ConsumeResult.SUCCESS;
        };
        try (PushConsumer consumer = clients.push(topic, group, listener)) {
            Delivery failed = next(deliveries, id, 1);
            Delivery repeated = next(deliveries, id, 2);
            Duration apart = Duration.ofNanos(repeated.nanos - failed.nanos);
            Check.that(apart.compareTo(BACK_OFF) >= 0, "attempt 2 came after " + apart);
        }
        clients.expectNothing(topic, group);
        Check.that(deliveries.isEmpty(), "more than two deliveries");
    }

    private static Delivery next(BlockingQueue<Delivery> deliveries, MessageId id, int attempt) throws Exception {
        Delivery delivery = deliveries.poll(Clients.ARRIVAL_MAX.toMillis(), TimeUnit.MILLISECONDS);
        Check.that(delivery != null, "no attempt " + attempt + " within " + Clients.ARRIVAL_MAX);
        Check.equal(id, delivery.view.getMessageId(), "message id");
        Check.equal("poison at first", StandardCharsets.UTF_8.decode(delivery.view.getBody()).toString(), "body");
        Check.equal(attempt, delivery.view.getDeliveryAttempt(), "delivery attempt");
        return delivery;
    }

    /** A delivery and when the listener saw it. */
    private static final class Delivery {
        final MessageView view;
        final long nanos = System.nanoTime();

        Delivery(MessageView view) {
            this.view = view;
        }
    }

    /** Counts deliveries by message id. */
    private static final class Tally implements MessageListener {
        private final Map<MessageId, Integer> seen = new ConcurrentHashMap<>();
        private final CountDownLatch missing = new CountDownLatch(MESSAGES);

        @Override
        public ConsumeResult consume(MessageView view) {
            if (seen.merge(view.getMessageId(), 1, Integer::sum) == 1) {
                missing.countDown();
            }
            return ConsumeResult.SUCCESS;
        }

        void await() throws InterruptedException {
            boolean all = missing.await(Clients.ARRIVAL_MAX.toMillis(), TimeUnit.MILLISECONDS);
            Check.that(all, missing.getCount() + " of " + MESSAGES + " messages did not come");
        }

        void checkOnce() {
            Check.equal(MESSAGES, seen.size(), "different messages");
            seen.forEach((id, times) -> Check.equal(1, times, "deliveries of " + id));
        }
    }
}
