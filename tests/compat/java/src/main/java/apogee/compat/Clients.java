package apogee.compat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;

/**
 * Clients of one server, made as an application makes them. One starts after the other: the SDK gives a client up that
 * does not come up within seconds, and dozens at once take longer on a small machine.
 */
final class Clients {
    /** The shortest lease a client may ask for. */
    static final Duration LEASE = Duration.ofSeconds(10);
    /** Longest wait for messages that must come. */
    static final Duration ARRIVAL_MAX = Duration.ofSeconds(30);
    /** How long an empty receive waits; longer than {@link #LEASE}, so that a lease left behind would show. */
    static final Duration SILENCE = Duration.ofSeconds(12);

    private static final Duration POLL = Duration.ofSeconds(3);
    private static final int BATCH = 32;

    private final ClientServiceProvider provider = ClientServiceProvider.loadService();
    private final ClientConfiguration configuration;

    Clients(String endpoint, boolean tls) {
        // A longer request timeout than the default of 3 s: a busy machine must not look like a lost message.
        configuration = ClientConfiguration.newBuilder()
            .setEndpoints(endpoint)
            .enableSsl(tls)
            .setRequestTimeout(Duration.ofSeconds(10))
            .build();
    }

    /**
     * One that has already sent. The first send of a producer without topics opens its telemetry stream, and threads that
     * do so at once write into one gRPC call without a lock: some frame is torn, and no send of that producer ever ends
     * well. (Seen with SDK 5.2.0: 24 threads, within a handful of new producers; never in 80 after a send of one thread.)
     */
    synchronized Producer producer() throws ClientException {
        Producer producer = provider.newProducerBuilder().setClientConfiguration(configuration).build();
        producer.send(text("java-first-send", "by one thread"));
        return producer;
    }

    /** One that begins transactions of these topics, and is asked about them. */
    synchronized Producer transactional(TransactionChecker checker, String... topics) throws ClientException {
        return provider.newProducerBuilder()
            .setClientConfiguration(configuration)
            .setTopics(topics)
            .setTransactionChecker(checker)
            .build();
    }

    MessageBuilder message(String topic, byte[] body) {
        return provider.newMessageBuilder().setTopic(topic).setBody(body);
    }

    Message text(String topic, String body) {
        return message(topic, body.getBytes(java.nio.charset.StandardCharsets.UTF_8)).build();
    }

    SimpleConsumer simple(String topic, String group) throws ClientException {
        return simple(topic, group, "*", POLL);
    }

    SimpleConsumer simple(String topic, String group, String tags, Duration await) throws ClientException {
        return simple(topic, group, tags(tags), await);
    }

    synchronized SimpleConsumer simple(String topic, String group, FilterExpression filter, Duration await)
        throws ClientException {
        return provider.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(group)
            .setAwaitDuration(await)
            .setSubscriptionExpressions(Collections.singletonMap(topic, filter))
            .build();
    }

    synchronized PushConsumer push(String topic, String group, MessageListener listener) throws ClientException {
        return provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(group)
            .setSubscriptionExpressions(Collections.singletonMap(topic, tags("*")))
            .setMessageListener(listener)
            .build();
    }

    synchronized LitePushConsumer litePush(String topic, String group, MessageListener listener)
        throws ClientException {
        return provider.newLitePushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(group)
            .bindTopic(topic)
            .setMessageListener(listener)
            .build();
    }

    /** Receives until {@code count} messages are there. */
    static List<MessageView> receive(SimpleConsumer consumer, int count, Duration lease) throws Exception {
        long deadline = System.nanoTime() + ARRIVAL_MAX.toNanos();
        List<MessageView> received = new ArrayList<>();
        while (received.size() < count) {
            Check.that(System.nanoTime() < deadline, received.size() + " of " + count + " messages within " + ARRIVAL_MAX);
            received.addAll(consumer.receive(BATCH, lease));
        }
        Check.equal(count, received.size(), "messages received");
        return received;
    }

    /** Receives one message, which must be the only one. */
    static MessageView receiveOne(SimpleConsumer consumer, Duration lease) throws Exception {
        return receive(consumer, 1, lease).get(0);
    }

    /** One long poll that must find nothing for longer than a lease. */
    void expectNothing(String topic, String group) throws Exception {
        try (SimpleConsumer consumer = simple(topic, group, "*", SILENCE)) {
            expectNothing(consumer);
        }
    }

    /** One long poll, as long as the consumer waits, that must find nothing. */
    static void expectNothing(SimpleConsumer consumer) throws Exception {
        List<MessageView> received = consumer.receive(BATCH, LEASE);
        Check.that(received.isEmpty(), "nothing should come, but there is " + received);
    }

    static FilterExpression sql(String expression) {
        return new FilterExpression(expression, FilterExpressionType.SQL92);
    }

    private static FilterExpression tags(String tags) {
        return new FilterExpression(tags, FilterExpressionType.TAG);
    }
}
