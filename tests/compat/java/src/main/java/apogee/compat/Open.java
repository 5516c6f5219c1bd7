package apogee.compat;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;

/**
 * A push consumer that an operator looks into from outside: it wants no message of its topic, but works on whatever it is
 * handed, and fails on a body that says so.
 *
 * <p>Usage: {@code Open HOST:PORT}. Prints {@code ready} when it consumes and {@code worked BODY} for each message, and ends
 * with its standard input.
 */
public final class Open {
    private static final String TOPIC = "open";
    private static final String GROUP = "open-push";

    private Open() {
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 1) {
            System.err.println("usage: Open HOST:PORT");
            System.exit(2);
        }
        ClientServiceProvider provider = ClientServiceProvider.loadService();
        ClientConfiguration configuration =
            ClientConfiguration.newBuilder().setEndpoints(args[0]).enableSsl(false).build();
        PushConsumer consumer = provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(GROUP)
            .setSubscriptionExpressions(Map.of(TOPIC, new FilterExpression("none", FilterExpressionType.TAG)))
            .setMessageListener(view -> {
                String body = StandardCharsets.UTF_8.decode(view.getBody()).toString();
                System.out.println("worked " + body);
                return body.equals("fail") ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
            })
            .build();
        System.out.println("ready");
        while (System.in.read() >= 0) {
            // Whoever started it says nothing and closes the pipe some time.
        }
        consumer.close();
        System.exit(0);
    }
}
