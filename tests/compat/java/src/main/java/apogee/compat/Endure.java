package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * Sends and receives with the defaults of the SDK until its standard input ends, whatever happens to the server; then
 * waits until all that was sent for certain has come.
 *
 * <p>Usage: {@code Endure HOST:PORT [resends]}. With {@code resends} connections break, after which the SDK sends at once
 * what may have been sent: two messages of one body, each of which comes as a first delivery. Prints what it did, times in milliseconds since the Unix epoch:
 * {@code begun} once messages come and go, {@code sent BEGIN END}, {@code received BEGIN END COUNT} by the simple
 * consumer, {@code failed WHAT BEGIN END REASON}, {@code lost GROUP BODY}, {@code again BODY} for a message that came
 * after its ack and was sent once, and {@code over SENT RECEIVED PUSHED}. Exit code 0 when nothing was lost and nothing came again.
 */
public final class Endure {
    private static final String TOPIC = "endure";
    private static final String SIMPLE = "endure-simple";
    private static final String PUSH = "endure-push";
    private static final int SENDERS = 2;
    private static final long PACE_MS = 20;
    private static final Duration LEASE = Duration.ofSeconds(30);
    private static final Duration POLL = Duration.ofSeconds(3);
    private static final int BATCH = 32;
    /** A send that takes longer may have been made again by the SDK, whose attempts take 3 s; then it is two messages. */
    private static final long ONE_ATTEMPT_MS = 2_000;
    /** Longer than a lease and the pause of a consumer after a failure. */
    private static final long DRAIN_MAX_MS = 60_000;

    private final ClientServiceProvider provider = ClientServiceProvider.loadService();
    private final ClientConfiguration configuration;
    private final AtomicInteger next = new AtomicInteger();
    private final Set<String> sent = ConcurrentHashMap.newKeySet();
    private final Set<String> received = ConcurrentHashMap.newKeySet();
    private final Set<String> pushed = ConcurrentHashMap.newKeySet();
    private final Set<String> again = ConcurrentHashMap.newKeySet();
    private final Set<String> repeated = ConcurrentHashMap.newKeySet();
    private final boolean resends;
    private volatile boolean sending = true;
    private volatile boolean receiving = true;

    private Endure(String endpoint, boolean resends) {
        this.resends = resends;
        configuration = ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
    }

    public static void main(String[] args) throws Exception {
        if (args.length < 1 || args.length > 2 || args.length == 2 && !args[1].equals("resends")) {
            System.err.println("usage: Endure HOST:PORT [resends]");
            System.exit(2);
        }
        // Without closing the clients, which wait for their last long polls.
        System.exit(new Endure(args[0], args.length == 2).run() ? 0 : 1);
    }

    private boolean run() throws Exception {
        Producer producer = provider.newProducerBuilder().setClientConfiguration(configuration).setTopics(TOPIC).build();
        SimpleConsumer simple = provider.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(SIMPLE)
            .setAwaitDuration(POLL)
            .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
            .build();
        PushConsumer push = provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(PUSH)
            .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
            .setMessageListener(view -> {
                pushed.add(body(view));
                return ConsumeResult.SUCCESS;
            })
            .build();
        List<Thread> senders = new ArrayList<>();
        for (int i = 0; i < SENDERS; i++) {
            senders.add(start(() -> send(producer)));
        }
        Thread receiver = start(() -> receive(simple));
        while (received.isEmpty() || pushed.isEmpty()) {
            Thread.sleep(PACE_MS);
        }
        System.out.println("begun");
        while (System.in.read() >= 0) {
            // whoever started this closes our input when it is time
        }
        sending = false;
        for (Thread sender : senders) {
            sender.join();
        }
        boolean complete = drained();
        receiving = false;
        receiver.join();
        again.removeAll(repeated);
        again.forEach(body -> System.out.println("again " + body));
        System.out.println("over " + sent.size() + " " + received.size() + " " + pushed.size());
        return complete && again.isEmpty();
    }

    private static Thread start(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private void send(Producer producer) {
        while (sending) {
            String body = "message " + next.incrementAndGet();
            long begin = System.currentTimeMillis();
            boolean done = attempt("send", () -> producer.send(provider.newMessageBuilder()
                    .setTopic(TOPIC).setBody(body.getBytes(StandardCharsets.UTF_8)).build())) != null;
            long end = System.currentTimeMillis();
            if (end - begin > ONE_ATTEMPT_MS) {
                repeated.add(body);
            }
            if (done) {
                System.out.println("sent " + begin + " " + end);
                sent.add(body);
            }
            pause();
        }
    }

    /** Each batch is acked before the next receive begins, so that what was acked must not be in it. */
    private void receive(SimpleConsumer consumer) {
        Set<String> acked = new HashSet<>();
        Set<String> first = new HashSet<>();
        while (receiving) {
            long begin = System.currentTimeMillis();
            List<MessageView> batch = attempt("receive", () -> consumer.receive(BATCH, LEASE));
            if (batch == null) {
                pause();
                continue;
            }
            if (!batch.isEmpty()) {
                System.out.println("received " + begin + " " + System.currentTimeMillis() + " " + batch.size());
            }
            for (MessageView view : batch) {
                String body = body(view);
                if (view.getDeliveryAttempt() == 1 && !first.add(body) && resends) {
                    repeated.add(body);
                }
                if (acked.contains(body)) {
                    again.add(body);
                }
                received.add(body);
                if (attempt("ack", () -> {
                    consumer.ack(view);
                    return view;
                }) != null) {
                    acked.add(body);
                }
            }
        }
    }

    /** What the call returns, or null when it failed. */
    private static <T> T attempt(String what, Callable<T> call) {
        long begin = System.currentTimeMillis();
        try {
            return call.call();
        } catch (Exception failed) {
            String reason = String.valueOf(failed).replace('\n', ' ');
            System.out.println("failed " + what + " " + begin + " " + System.currentTimeMillis() + " " + reason);
            return null;
        }
    }

    private boolean drained() throws InterruptedException {
        long deadline = System.currentTimeMillis() + DRAIN_MAX_MS;
        while (System.currentTimeMillis() < deadline && !(received.containsAll(sent) && pushed.containsAll(sent))) {
            Thread.sleep(PACE_MS);
        }
        return complete(SIMPLE, received) & complete(PUSH, pushed);
    }

    private boolean complete(String group, Set<String> came) {
        Set<String> lost = new TreeSet<>(sent);
        lost.removeAll(came);
        lost.forEach(body -> System.out.println("lost " + group + " " + body));
        return lost.isEmpty();
    }

    private static String body(MessageView view) {
        return StandardCharsets.UTF_8.decode(view.getBody()).toString();
    }

    private static void pause() {
        try {
            Thread.sleep(PACE_MS);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
