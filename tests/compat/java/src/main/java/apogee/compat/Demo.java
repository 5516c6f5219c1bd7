package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageId;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * The quickstart: a producer sends messages, a push consumer takes them, and both print what they see.
 *
 * <p>Usage: {@code Demo [HOST:PORT [COUNT]]}, by default 127.0.0.1:8081 and 1,000 messages.
 */
public final class Demo {
    private static final String TOPIC = "demo";
    private static final String GROUP = "demo-group";
    private static final long DRAIN_MAX_SECONDS = 60;

    private Demo() {
    }

    public static void main(String[] args) throws Exception {
        String endpoint = args.length > 0 ? args[0] : "127.0.0.1:8081";
        int count = args.length > 1 ? Integer.parseInt(args[1]) : 1_000;
        ClientServiceProvider provider = ClientServiceProvider.loadService();
        ClientConfiguration configuration =
            ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
        System.exit(run(provider, configuration, count) ? 0 : 1);
    }

    private static boolean run(ClientServiceProvider provider, ClientConfiguration configuration, int count)
            throws Exception {
        Set<MessageId> sent = ConcurrentHashMap.newKeySet();
        Set<MessageId> received = ConcurrentHashMap.newKeySet();
        try (Producer producer = provider.newProducerBuilder()
                .setClientConfiguration(configuration).setTopics(TOPIC).build()) {
            long start = System.nanoTime();
            for (int i = 1; i <= count; i++) {
                MessageId id = producer.send(message(provider, i)).getMessageId();
                sent.add(id);
                System.out.println("sent     " + id);
            }
            report("sent", count, start);
        }
        CountDownLatch missing = new CountDownLatch(count);
        AtomicLong start = new AtomicLong(System.nanoTime());
        AtomicBoolean begun = new AtomicBoolean();
        boolean complete;
        try (PushConsumer consumer = provider.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(GROUP)
                .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
                .setMessageListener(view -> {
                    if (begun.compareAndSet(false, true)) {
                        start.set(System.nanoTime());
                    }
                    String body = StandardCharsets.UTF_8.decode(view.getBody()).toString();
                    System.out.println("received " + view.getMessageId() + " attempt " + view.getDeliveryAttempt()
                        + " " + body);
                    // What an earlier, interrupted run left behind is printed and acked, but not counted.
                    if (sent.contains(view.getMessageId()) && received.add(view.getMessageId())) {
                        missing.countDown();
                    }
                    return ConsumeResult.SUCCESS;
                })
                .build()) {
            complete = missing.await(DRAIN_MAX_SECONDS, TimeUnit.SECONDS);
            report("received", received.size(), start.get());
            System.out.println("closing the consumer; the SDK waits for its last long poll, up to 30 s");
        }
        if (!complete) {
            System.err.println(missing.getCount() + " messages did not come within " + DRAIN_MAX_SECONDS + " s");
        }
        return complete;
    }

    private static Message message(ClientServiceProvider provider, int i) {
        byte[] body = ("Hello ApogeeMQ " + i).getBytes(StandardCharsets.UTF_8);
        return provider.newMessageBuilder().setTopic(TOPIC).setTag("demo").setKeys("demo-" + i).setBody(body).build();
    }

    private static void report(String what, int count, long startNanos) {
        Duration took = Duration.ofNanos(System.nanoTime() - startNanos);
        double rate = count * 1e9 / Math.max(1, took.toNanos());
        System.out.printf("%s %,d messages in %.2f s: %,.0f messages/s%n", what, count, took.toNanos() / 1e9, rate);
    }
}
