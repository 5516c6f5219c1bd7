package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * What order costs: push consumers work off messages that wait, of many message groups or of none.
 *
 * <p>Usage: {@code Order HOST:PORT fifo|normal TOPIC GROUP MESSAGES}. Topic and group are made for it. With {@code fifo} the
 * listener always fails for one of the message groups, which must hold back nobody else, and the order of every other
 * is checked. Prints {@code RATE messages/s} of all that the listener took, and exits with 0 when nothing was missing or
 * out of order.
 */
public final class Order {
    private static final int MESSAGE_GROUPS = 1_000;
    private static final int CONSUMERS = 32;
    private static final int THREADS_EACH = 2;
    private static final int SENDS_AT_ONCE = 64;
    private static final int FAILING = 500;
    private static final int BODY_BYTES = 1_024;
    private static final Duration ALL_MAX = Duration.ofSeconds(120);

    private final ClientServiceProvider provider = ClientServiceProvider.loadService();
    private final ClientConfiguration configuration;
    private final boolean fifo;
    private final String topic;
    private final String group;
    private final int messages;
    /** By message group: how many of it were taken. */
    private final AtomicIntegerArray taken = new AtomicIntegerArray(MESSAGE_GROUPS);
    private final AtomicInteger disordered = new AtomicInteger();
    private final AtomicInteger refused = new AtomicInteger();
    private final AtomicLong begun = new AtomicLong();
    private final AtomicLong ended = new AtomicLong();
    private final CountDownLatch missing;

    private Order(String endpoint, boolean fifo, String topic, String group, int messages) {
        configuration = ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
        this.fifo = fifo;
        this.topic = topic;
        this.group = group;
        this.messages = messages / MESSAGE_GROUPS * MESSAGE_GROUPS;
        missing = new CountDownLatch(fifo ? this.messages - this.messages / MESSAGE_GROUPS : this.messages);
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 5 || !(args[1].equals("fifo") || args[1].equals("normal"))) {
            System.err.println("usage: Order HOST:PORT fifo|normal TOPIC GROUP MESSAGES");
            System.exit(2);
        }
        // Without closing the clients, which wait for their last long polls.
        boolean fifo = args[1].equals("fifo");
        System.exit(new Order(args[0], fifo, args[2], args[3], Integer.parseInt(args[4])).run() ? 0 : 1);
    }

    private boolean run() throws Exception {
        send();
        long all = missing.getCount();
        List<PushConsumer> consumers = new ArrayList<>();
        for (int i = 0; i < CONSUMERS; i++) {
            consumers.add(provider.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Map.of(topic, FilterExpression.SUB_ALL))
                .setConsumptionThreadCount(THREADS_EACH)
                .setMessageListener(this::take)
                .build());
        }
        boolean complete = missing.await(ALL_MAX.toSeconds(), TimeUnit.SECONDS);
        if (!complete) {
            System.err.println(missing.getCount() + " messages did not come");
        }
        if (disordered.get() > 0) {
            System.err.println(disordered.get() + " messages came out of order");
        }
        if (fifo && refused.get() == 0) {
            System.err.println("the failing message group was never seen");
        }
        double seconds = (ended.get() - begun.get()) / 1e9;
        System.out.printf("%.0f messages/s%n", (all - missing.getCount()) / seconds);
        return complete && disordered.get() == 0 && (!fifo || refused.get() > 0);
    }

    /** One message after the other of each message group, the groups side by side. */
    private void send() throws Exception {
        Semaphore room = new Semaphore(SENDS_AT_ONCE);
        try (Producer producer = provider.newProducerBuilder()
                .setClientConfiguration(configuration).setTopics(topic).build()) {
            for (int round = 0; round < messages / MESSAGE_GROUPS; round++) {
                List<CompletableFuture<?>> sends = new ArrayList<>();
                for (int of = 0; of < MESSAGE_GROUPS; of++) {
                    room.acquire();
                    MessageBuilder message = provider.newMessageBuilder().setTopic(topic).setBody(body(of, round));
                    if (fifo) {
                        message.setMessageGroup("group-" + of);
                    }
                    sends.add(producer.sendAsync(message.build()).whenComplete((sent, failed) -> room.release()));
                }
                // The next of a message group is sent when this one is there.
                CompletableFuture.allOf(sends.toArray(new CompletableFuture<?>[0])).get();
            }
        }
    }

    private ConsumeResult take(MessageView view) {
        String[] words = StandardCharsets.UTF_8.decode(view.getBody()).toString().trim().split(" ");
        int of = Integer.parseInt(words[0]);
        if (fifo && of == FAILING) {
            refused.incrementAndGet();
            return ConsumeResult.FAILURE;
        }
        long now = System.nanoTime();
        begun.compareAndSet(0, now);
        if (fifo && taken.get(of) != Integer.parseInt(words[1])) {
            disordered.incrementAndGet();
        }
        taken.incrementAndGet(of);
        ended.accumulateAndGet(now, Math::max);
        missing.countDown();
        return ConsumeResult.SUCCESS;
    }

    private static byte[] body(int of, int round) {
        byte[] body = new byte[BODY_BYTES];
        byte[] words = (of + " " + round + " ").getBytes(StandardCharsets.UTF_8);
        System.arraycopy(words, 0, body, 0, words.length);
        Arrays.fill(body, words.length, body.length, (byte) ' ');
        return body;
    }
}
