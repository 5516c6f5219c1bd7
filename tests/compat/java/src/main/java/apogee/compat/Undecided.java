package apogee.compat;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/**
 * A producer whose transactions stay open while servers come and go. Then it commits a third of them, rolls a third back, and
 * waits to be asked for the rest, which it commits.
 *
 * <p>Usage: {@code Undecided HOST:PORT COUNT SECONDS}. Prints {@code open COUNT}, {@code delivered BODY} for each delivery and
 * {@code missing BODY} or {@code unwanted BODY}. Exit code 0 when what was committed came, and nothing else.
 */
public final class Undecided {
    private static final String TOPIC = "undecided";
    private static final String GROUP = "undecided-push";
    /** For all that was committed to come, checks and deliveries that were lost with a server included. */
    private static final long PATIENCE = TimeUnit.SECONDS.toMillis(150);

    private final Set<String> decided = ConcurrentHashMap.newKeySet();
    private final Set<String> delivered = ConcurrentHashMap.newKeySet();
    private final Set<String> wanted = new TreeSet<>();
    private final ClientServiceProvider provider = ClientServiceProvider.loadService();
    private final ClientConfiguration configuration;

    private Undecided(String endpoint) {
        configuration = ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build();
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 3) {
            System.err.println("usage: Undecided HOST:PORT COUNT SECONDS");
            System.exit(2);
        }
        Patience.endWithMain();
        Undecided undecided = new Undecided(args[0]);
        boolean right = undecided.run(Integer.parseInt(args[1]), Long.parseLong(args[2]));
        // Without closing the consumer, which waits for its last long polls.
        System.exit(right ? 0 : 1);
    }

    private boolean run(int count, long seconds) throws Exception {
        Producer producer = Patience.atLast(() -> provider.newProducerBuilder()
            .setClientConfiguration(configuration)
            .setTopics(TOPIC)
            .setTransactionChecker(view -> decided.contains(text(view.getBody()))
                ? TransactionResolution.COMMIT : TransactionResolution.UNKNOWN)
            .build());
        Patience.atLast(() -> provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(GROUP)
            .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
            .setMessageListener(view -> {
                delivered.add(text(view.getBody()));
                System.out.println("delivered " + text(view.getBody()));
                return ConsumeResult.SUCCESS;
            })
            .build());
        List<Transaction> open = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            Transaction transaction = producer.beginTransaction();
            producer.send(provider.newMessageBuilder()
                .setTopic(TOPIC).setBody(body(i).getBytes(StandardCharsets.UTF_8)).build(), transaction);
            open.add(transaction);
        }
        System.out.println("open " + count);
        TimeUnit.SECONDS.sleep(seconds);
        for (int i = 0; i < count; i++) {
            Transaction transaction = open.get(i);
            if (i % 3 == 0) {
                Patience.atLast(transaction::commit);
            } else if (i % 3 == 1) {
                Patience.atLast(transaction::rollback);
                continue;
            } else {
                decided.add(body(i));
            }
            wanted.add(body(i));
        }
        return allCame();
    }

    private boolean allCame() throws InterruptedException {
        long until = System.currentTimeMillis() + PATIENCE;
        while (!delivered.containsAll(wanted) && System.currentTimeMillis() < until) {
            Thread.sleep(100);
        }
        Thread.sleep(5_000); // for what nobody wants
        Set<String> missing = new TreeSet<>(wanted);
        missing.removeAll(delivered);
        missing.forEach(body -> System.out.println("missing " + body));
        Set<String> unwanted = new TreeSet<>(delivered);
        unwanted.removeAll(wanted);
        unwanted.forEach(body -> System.out.println("unwanted " + body));
        return missing.isEmpty() && unwanted.isEmpty();
    }

    private static String body(int i) {
        return "transaction " + i;
    }

    private static String text(ByteBuffer body) {
        return StandardCharsets.UTF_8.decode(body).toString();
    }
}
