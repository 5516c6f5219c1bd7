package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Lite topics, of a topic and for a consumer group that the test has created. */
final class LiteScenarios {
    private static final String TOPIC = "java-lite";
    private static final int LITE_TOPICS = 3;
    private static final int MESSAGES = 5;

    private final Clients clients;
    private final Producer producer;

    LiteScenarios(Clients clients, Producer producer) {
        this.clients = clients;
        this.producer = producer;
    }

    void addTo(Map<String, Compat.Scenario> scenarios) {
        scenarios.put("lite_push_consumers_get_what_they_subscribed_to", this::eachItsOwn);
    }

    /** Each consumer gets the messages of its lite topics, in order; what it unsubscribes from goes to nobody. */
    private void eachItsOwn() throws Exception {
        Seen first = new Seen();
        Seen second = new Seen();
        try (LitePushConsumer one = clients.litePush(TOPIC, "java-lite-push", first);
             LitePushConsumer two = clients.litePush(TOPIC, "java-lite-push", second)) {
            for (int lite = 0; lite < LITE_TOPICS; lite++) {
                one.subscribeLite("one-" + lite);
                two.subscribeLite("two-" + lite);
            }
            one.subscribeLite("nobody");
            one.unsubscribeLite("nobody");
            Check.equal(Set.of("one-0", "one-1", "one-2"), one.getLiteTopicSet(), "lite topics");
            send("nobody", 0);
            for (int number = 0; number < MESSAGES; number++) {
                for (int lite = 0; lite < LITE_TOPICS; lite++) {
                    send("one-" + lite, number);
                    send("two-" + lite, number);
                }
            }
            first.check("one-");
            second.check("two-");
        }
    }

    private void send(String liteTopic, int number) throws Exception {
        byte[] body = (liteTopic + " " + number).getBytes(StandardCharsets.UTF_8);
        producer.send(clients.message(TOPIC, body).setLiteTopic(liteTopic).build());
    }

    /** Notes what a listener saw, and fails now and then. */
    private static final class Seen implements MessageListener {
        private final Map<String, List<String>> done = new ConcurrentHashMap<>();
        private final CountDownLatch missing = new CountDownLatch(LITE_TOPICS * MESSAGES);

        @Override
        public ConsumeResult consume(MessageView view) {
            String body = StandardCharsets.UTF_8.decode(view.getBody()).toString();
            if (body.endsWith(" 2") && view.getDeliveryAttempt() == 1) {
                return ConsumeResult.FAILURE;
            }
            String lite = view.getLiteTopic().orElse("");
            done.computeIfAbsent(lite, unused -> Collections.synchronizedList(new ArrayList<>())).add(body);
            missing.countDown();
            return ConsumeResult.SUCCESS;
        }

        void check(String prefix) throws InterruptedException {
            boolean all = missing.await(Clients.ARRIVAL_MAX.toMillis(), TimeUnit.MILLISECONDS);
            Check.that(all, missing.getCount() + " messages did not come");
            Check.equal(LITE_TOPICS, done.size(), "lite topics");
            for (int lite = 0; lite < LITE_TOPICS; lite++) {
                List<String> expected = new ArrayList<>();
                for (int number = 0; number < MESSAGES; number++) {
                    expected.add(prefix + lite + " " + number);
                }
                Check.equal(expected, done.get(prefix + lite), "messages of " + prefix + lite);
            }
        }
    }
}
