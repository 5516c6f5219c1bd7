package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.producer.Producer;

/**
 * A push consumer that works on every message for longer than the lease it was given: the server renews it for as long as
 * the client lives.
 *
 * <p>Usage: {@code Hold HOST:PORT COUNT SECONDS}. Prints {@code delivered BODY ATTEMPT TIME} for each delivery, in milliseconds
 * since the program began, {@code again BODY TIMES} for a message that came more than once, and {@code over DONE}. Exit code 0
 * when all were done and none came twice.
 */
public final class Hold {
    private static final String TOPIC = "hold";
    private static final String GROUP = "hold-push";

    private Hold() {
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 3) {
            System.err.println("usage: Hold HOST:PORT COUNT SECONDS");
            System.exit(2);
        }
        Patience.endWithMain();
        long began = System.currentTimeMillis();
        int count = Integer.parseInt(args[1]);
        long seconds = Long.parseLong(args[2]);
        ClientServiceProvider provider = ClientServiceProvider.loadService();
        ClientConfiguration configuration =
            ClientConfiguration.newBuilder().setEndpoints(args[0]).enableSsl(false).build();
        Producer producer = Patience.atLast(
            () -> provider.newProducerBuilder().setClientConfiguration(configuration).setTopics(TOPIC).build());
        for (int i = 0; i < count; i++) {
            producer.send(provider.newMessageBuilder()
                .setTopic(TOPIC).setBody(("message " + i).getBytes(StandardCharsets.UTF_8)).build());
        }
        Map<String, Integer> deliveries = new ConcurrentHashMap<>();
        CountDownLatch working = new CountDownLatch(count);
        CountDownLatch done = new CountDownLatch(count);
        Patience.atLast(() -> provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(GROUP)
            .setConsumptionThreadCount(2 * count)
            .setSubscriptionExpressions(Map.of(TOPIC, FilterExpression.SUB_ALL))
            .setMessageListener(view -> {
                String body = StandardCharsets.UTF_8.decode(view.getBody()).toString();
                deliveries.merge(body, 1, Integer::sum);
                long time = System.currentTimeMillis() - began;
                System.out.println("delivered " + body + " " + view.getDeliveryAttempt() + " " + time);
                working.countDown();
                try {
                    Thread.sleep(TimeUnit.SECONDS.toMillis(seconds));
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                    return ConsumeResult.FAILURE;
                }
                done.countDown();
                return ConsumeResult.SUCCESS;
            })
            .build());
        boolean all = working.await(60, TimeUnit.SECONDS);
        all = all && done.await(seconds + 30, TimeUnit.SECONDS);
        boolean once = true;
        for (Map.Entry<String, Integer> delivery : deliveries.entrySet()) {
            if (delivery.getValue() > 1) {
                once = false;
                System.out.println("again " + delivery.getKey() + " " + delivery.getValue());
            }
        }
        System.out.println("over " + (count - done.getCount()));
        // Without closing the consumer, which waits for its last long polls.
        System.exit(all && once ? 0 : 1);
    }
}
