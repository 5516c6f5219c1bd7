package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Message groups, with a topic and consumer groups that the test has created as ordered ones. */
final class FifoScenarios {
    private static final String TOPIC = "java-fifo";
    private static final int MESSAGE_GROUPS = 6;
    private static final int MESSAGES = 12;

    private final Clients clients;
    private final Producer producer;

    FifoScenarios(Clients clients, Producer producer) {
        this.clients = clients;
        this.producer = producer;
    }

    void addTo(Map<String, Compat.Scenario> scenarios) {
        scenarios.put("fifo_push_consumers_keep_the_order", this::pushKeepsOrder);
        scenarios.put("fifo_message_group_waits_for_its_ack", this::waitsForAck);
    }

    /** Two consumers share the message groups; the listener fails on some messages, which come again before the next. */
    private void pushKeepsOrder() throws Exception {
        Sequence sequence = new Sequence("push-");
        try (PushConsumer one = clients.push(TOPIC, "java-fifo-push", sequence);
             PushConsumer two = clients.push(TOPIC, "java-fifo-push", sequence)) {
            for (int i = 0; i < MESSAGES; i++) {
                for (int group = 0; group < MESSAGE_GROUPS; group++) {
                    send("push-" + group, i);
                }
            }
            sequence.await();
        }
        sequence.check();
    }

    private void waitsForAck() throws Exception {
        for (int i = 0; i < 3; i++) {
            send("simple", i);
        }
        try (SimpleConsumer consumer = clients.simple(TOPIC, "java-fifo-simple")) {
            for (int i = 0; i < 3; i++) {
                MessageView view = next(consumer);
                Check.equal("simple " + i, text(view), "body");
                Check.that(none(consumer), "message " + (i + 1) + " came before message " + i + " was acked");
                consumer.ack(view);
            }
        }
    }

    /** The next message of this scenario; those of the other one are acked. */
    private static MessageView next(SimpleConsumer consumer) throws Exception {
        long deadline = System.nanoTime() + Clients.ARRIVAL_MAX.toNanos();
        while (System.nanoTime() < deadline) {
            for (MessageView view : consumer.receive(1, Duration.ofSeconds(30))) {
                if (view.getMessageGroup().orElse("").equals("simple")) {
                    return view;
                }
                consumer.ack(view);
            }
        }
        throw new AssertionError("no message within " + Clients.ARRIVAL_MAX);
    }

    private static boolean none(SimpleConsumer consumer) throws Exception {
        for (MessageView view : consumer.receive(1, Duration.ofSeconds(30))) {
            if (view.getMessageGroup().orElse("").equals("simple")) {
                return false;
            }
            consumer.ack(view);
        }
        return true;
    }

    private void send(String messageGroup, int number) throws Exception {
        byte[] body = (messageGroup + " " + number).getBytes(StandardCharsets.UTF_8);
        producer.send(clients.message(TOPIC, body).setMessageGroup(messageGroup).build());
    }

    private static String text(MessageView view) {
        return StandardCharsets.UTF_8.decode(view.getBody()).toString();
    }

    /** Notes what a listener saw, and fails now and then. */
    private static final class Sequence implements MessageListener {
        private final String prefix;
        private final Map<String, List<String>> done = new ConcurrentHashMap<>();
        private final Map<String, Boolean> busy = new ConcurrentHashMap<>();
        private final Map<String, String> wrong = new ConcurrentHashMap<>();
        private final CountDownLatch missing = new CountDownLatch(MESSAGE_GROUPS * MESSAGES);

        Sequence(String prefix) {
            this.prefix = prefix;
        }

        @Override
        public ConsumeResult consume(MessageView view) {
            String group = view.getMessageGroup().orElse("");
            if (!group.startsWith(prefix)) {
                return ConsumeResult.SUCCESS;
            }
            if (busy.putIfAbsent(group, true) != null) {
                wrong.put(group, "two messages of a message group at the same time");
            }
            String body = text(view);
            boolean fails = body.endsWith(" 5") && view.getDeliveryAttempt() == 1;
            if (!fails) {
                done.computeIfAbsent(group, unused -> Collections.synchronizedList(new ArrayList<>())).add(body);
                missing.countDown();
            }
            busy.remove(group);
            return fails ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
        }

        void await() throws InterruptedException {
            boolean all = missing.await(Clients.ARRIVAL_MAX.toMillis(), TimeUnit.MILLISECONDS);
            Check.that(all, missing.getCount() + " messages did not come");
        }

        void check() {
            Check.that(wrong.isEmpty(), wrong.toString());
            Check.equal(MESSAGE_GROUPS, done.size(), "message groups");
            done.forEach((group, bodies) -> {
                List<String> expected = new ArrayList<>();
                for (int i = 0; i < MESSAGES; i++) {
                    expected.add(group + " " + i);
                }
                Check.equal(expected, bodies, "messages of " + group);
            });
        }
    }
}
