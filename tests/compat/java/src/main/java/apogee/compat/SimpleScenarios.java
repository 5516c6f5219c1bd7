package apogee.compat;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** Producers and simple consumers: what was sent comes, once acked never again, otherwise when its lease ends. */
final class SimpleScenarios {
    private static final int BODY_MAX = 4 * 1024 * 1024;

    private final Clients clients;
    private final Producer producer;

    SimpleScenarios(Clients clients, Producer producer) {
        this.clients = clients;
        this.producer = producer;
    }

    void addTo(Map<String, Compat.Scenario> scenarios) {
        scenarios.put("messages_arrive_as_sent", this::messagesArriveAsSent);
        scenarios.put("acked_message_never_comes_again", this::ackedMessageNeverComesAgain);
        scenarios.put("body_over_the_limit_is_refused", this::bodyOverTheLimitIsRefused);
        scenarios.put("tag_filter_selects", this::tagFilterSelects);
        scenarios.put("sql_filter_selects", this::sqlFilterSelects);
        scenarios.put("bad_sql_filter_is_refused", this::badSqlFilterIsRefused);
        scenarios.put("expired_lease_is_redelivered", this::expiredLeaseIsRedelivered);
        scenarios.put("shorter_invisible_duration", this::shorterInvisibleDuration);
        scenarios.put("longer_invisible_duration", this::longerInvisibleDuration);
    }

    /** Tags, keys, properties, Unicode and 4 MiB bodies come out as they went in. */
    private void messagesArriveAsSent() throws Exception {
        String topic = "java-as-sent";
        byte[] large = new byte[BODY_MAX];
        new Random(4).nextBytes(large);
        Message[] messages = {
            clients.text(topic, "plain"),
            clients.text(topic, "snow ☃, Größe, 日本語, 🚀"),
            clients.message(topic, new byte[] {0, 1, (byte) 0xff, 0}).setTag("binary").build(),
            clients.message(topic, new byte[] {'k'}).setKeys("order-1", "order-2").build(),
            clients.message(topic, new byte[] {'p'})
                .addProperty("colour", "dark blue").addProperty("größe.x-y_z", "日本語 🚀 = a,b;c").build(),
            clients.message(topic, large).setTag("large").setKeys("order-3").addProperty("size", "4 MiB").build(),
        };
        Map<String, Message> sent = new HashMap<>();
        for (Message message : messages) {
            sent.put(producer.send(message).getMessageId().toString(), message);
        }
        Check.equal(messages.length, sent.size(), "different message ids");

        try (SimpleConsumer consumer = clients.simple(topic, "java-as-sent-group")) {
            for (MessageView received : Clients.receive(consumer, messages.length, Duration.ofSeconds(60))) {
                String id = received.getMessageId().toString();
                Message wanted = sent.remove(id);
                Check.that(wanted != null, id + " was not sent, or came twice");
                checkSame(wanted, received);
                consumer.ack(received);
            }
        }
    }

    private static void checkSame(Message wanted, MessageView received) {
        Check.equal(wanted.getTopic(), received.getTopic(), "topic");
        Check.equal(wanted.getTag(), received.getTag(), "tag");
        Check.equal(new HashSet<>(wanted.getKeys()), new HashSet<>(received.getKeys()), "keys");
        Check.equal(wanted.getProperties(), received.getProperties(), "properties");
        ByteBuffer body = received.getBody();
        Check.that(wanted.getBody().equals(body), "a body of " + body.remaining() + " bytes is not what was sent");
        Check.equal(1, received.getDeliveryAttempt(), "delivery attempt");
        Check.that(received.getBornTimestamp() > 0, "born timestamp");
    }

    private void ackedMessageNeverComesAgain() throws Exception {
        String topic = "java-acked";
        String group = "java-acked-group";
        for (int i = 0; i < 20; i++) {
            producer.send(clients.text(topic, "message " + i));
        }
        try (SimpleConsumer consumer = clients.simple(topic, group)) {
            for (MessageView received : Clients.receive(consumer, 20, Clients.LEASE)) {
                consumer.ack(received);
            }
        }
        clients.expectNothing(topic, group);
    }

    private void bodyOverTheLimitIsRefused() throws Exception {
        Message message = clients.message("java-over-the-limit", new byte[BODY_MAX + 1]).build();
        try {
            producer.send(message);
        } catch (Exception refused) {
            return;
        }
        throw new AssertionError("a body of " + (BODY_MAX + 1) + " bytes was taken");
    }

    private void tagFilterSelects() throws Exception {
        String topic = "java-tags";
        for (String tag : List.of("red", "green", "blue")) {
            producer.send(clients.message(topic, tag.getBytes(StandardCharsets.UTF_8)).setTag(tag).build());
        }
        producer.send(clients.text(topic, "none"));
        try (SimpleConsumer some = clients.simple(topic, "java-tags-some", "red || blue", Clients.SILENCE);
             SimpleConsumer all = clients.simple(topic, "java-tags-all")) {
            Check.equal(Set.of("red", "blue"), receiveBodies(some, 2), "bodies with tag red or blue");
            Check.equal(Set.of("red", "green", "blue", "none"), receiveBodies(all, 4), "all bodies");
            Clients.expectNothing(some);
        }
    }

    private void sqlFilterSelects() throws Exception {
        String topic = "java-sql";
        for (int size = 1; size <= 6; size++) {
            byte[] body = Integer.toString(size).getBytes(StandardCharsets.UTF_8);
            String color = size % 2 == 0 ? "red" : "blue";
            producer.send(clients.message(topic, body).setTag("t" + size)
                .addProperty("size", Integer.toString(size)).addProperty("color", color).build());
        }
        producer.send(clients.text(topic, "bare"));
        try (SimpleConsumer some = clients.simple(topic, "java-sql-some", Clients.sql("size > 2 AND color = 'red'"), Clients.SILENCE);
             SimpleConsumer odd = clients.simple(topic, "java-sql-odd", Clients.sql("TAGS IN ('t1', 't3') OR size IS NULL"), Clients.SILENCE)) {
            Check.equal(Set.of("4", "6"), receiveBodies(some, 2), "bodies of red messages above 2");
            Check.equal(Set.of("1", "3", "bare"), receiveBodies(odd, 3), "bodies by tag, or without a size");
            Clients.expectNothing(some);
        }
    }

    /** With a good filter the same consumer starts, before and after: only the filter can be the reason. */
    private void badSqlFilterIsRefused() throws Exception {
        startAndReceive("size > 2");
        String told = null;
        try {
            startAndReceive("size >> 2");
        } catch (Exception refused) {
            told = refused + ", " + refused.getCause();
        }
        Check.that(told != null, "a consumer with a bad filter started and received");
        // The SDK keeps the reason to itself when its settings are refused at each of its attempts to start.
        Check.that(told.contains("character 7") || told.contains("Failed to fetch topics"),
            "the refusal tells the place: " + told);
        startAndReceive("size > 2");
    }

    private void startAndReceive(String filter) throws Exception {
        try (SimpleConsumer consumer = clients.simple("java-sql", "java-sql-bad", Clients.sql(filter), Duration.ofSeconds(3))) {
            consumer.receive(1, Clients.LEASE);
        }
    }

    private static Set<String> receiveBodies(SimpleConsumer consumer, int count) throws Exception {
        Set<String> bodies = new HashSet<>();
        for (MessageView received : Clients.receive(consumer, count, Clients.LEASE)) {
            bodies.add(StandardCharsets.UTF_8.decode(received.getBody()).toString());
            consumer.ack(received);
        }
        return bodies;
    }

    /** A lease that ends brings the message back with attempt 2, and the first handle then acks nothing. */
    private void expiredLeaseIsRedelivered() throws Exception {
        String topic = "java-expiry";
        String group = "java-expiry-group";
        producer.send(clients.text(topic, "again"));
        try (SimpleConsumer consumer = clients.simple(topic, group)) {
            long start = System.nanoTime();
            MessageView first = Clients.receiveOne(consumer, Clients.LEASE);
            Check.equal(1, first.getDeliveryAttempt(), "first delivery attempt");
            MessageView second = Clients.receiveOne(consumer, Clients.LEASE);
            Check.elapsed(start, Clients.LEASE, "the redelivery");
            Check.equal(first.getMessageId(), second.getMessageId(), "message id");
            Check.equal(2, second.getDeliveryAttempt(), "second delivery attempt");
            checkReplaced(consumer, first);
            consumer.ack(second);
        }
        clients.expectNothing(topic, group);
    }

    private static void checkReplaced(SimpleConsumer consumer, MessageView first) {
        try {
            consumer.ack(first);
        } catch (Exception refused) {
            return;
        }
        throw new AssertionError("the handle of a replaced delivery was acked");
    }

    private void shorterInvisibleDuration() throws Exception {
        String topic = "java-shorter";
        producer.send(clients.text(topic, "sooner"));
        try (SimpleConsumer consumer = clients.simple(topic, "java-shorter-group")) {
            MessageView first = Clients.receiveOne(consumer, Duration.ofMinutes(5));
            long start = System.nanoTime();
            consumer.changeInvisibleDuration(first, Clients.LEASE);
            MessageView second = Clients.receiveOne(consumer, Clients.LEASE);
            Check.elapsed(start, Clients.LEASE, "the redelivery");
            Check.equal(first.getMessageId(), second.getMessageId(), "message id");
            Check.equal(2, second.getDeliveryAttempt(), "delivery attempt");
            consumer.ack(second);
        }
    }

    private void longerInvisibleDuration() throws Exception {
        String topic = "java-longer";
        String group = "java-longer-group";
        producer.send(clients.text(topic, "later"));
        try (SimpleConsumer consumer = clients.simple(topic, group)) {
            MessageView received = Clients.receiveOne(consumer, Clients.LEASE);
            consumer.changeInvisibleDuration(received, Duration.ofMinutes(5));
            clients.expectNothing(topic, group);
            consumer.ack(received);
        }
    }
}
