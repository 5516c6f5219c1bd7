/** Producers and simple consumers: what was sent comes, once acked never again, otherwise when its lease ends. */
'use strict';

const { check, elapsed, equal, refused } = require('./check');
const { LEASE, SILENCE, expectNothing, receive, receiveOne, text } = require('./clients');

const BODY_MAX = 4 * 1024 * 1024;
// This SDK receives nothing larger than 4 MiB with all that is around the body.
const BODY_RECEIVED_MAX = BODY_MAX - 4096;
const FIVE_MINUTES = 300_000;

function simpleScenarios(clients, producer) {
  return {
    /** Tags, keys, properties, Unicode and large bodies come out as they went in. */
    async messages_arrive_as_sent() {
      const topic = 'node-as-sent';
      const messages = [
        text(topic, 'plain'),
        text(topic, 'snow ☃, Größe, 日本語, 🚀'),
        { topic, body: Buffer.from([0, 1, 0xff, 0]), tag: 'binary' },
        { ...text(topic, 'k'), keys: ['order-1', 'order-2'] },
        { ...text(topic, 'p'), properties: new Map([['colour', 'dark blue'], ['größe.x-y_z', '日本語 🚀 = a,b;c']]) },
        { topic, body: large(), tag: 'large', keys: ['order-3'], properties: new Map([['size', 'large']]) },
      ];
      const sent = new Map();
      for (const message of messages) {
        sent.set((await producer.send(message)).messageId, message);
      }
      equal(messages.length, sent.size, 'different message ids');
      await clients.withSimple(topic, 'node-as-sent-group', async consumer => {
        for (const received of await receive(consumer, messages.length, 60_000)) {
          const wanted = sent.get(received.messageId);
          check(sent.delete(received.messageId), `${received.messageId} was not sent, or came twice`);
          checkSame(wanted, received);
          await consumer.ack(received);
        }
      });
    },

    async acked_message_never_comes_again() {
      const [topic, group] = ['node-acked', 'node-acked-group'];
      for (let i = 0; i < 20; i++) {
        await producer.send(text(topic, `message ${i}`));
      }
      await clients.withSimple(topic, group, async consumer => {
        for (const received of await receive(consumer, 20)) {
          await consumer.ack(received);
        }
      });
      await clients.expectNothing(topic, group);
    },

    async body_over_the_limit_is_refused() {
      const over = { topic: 'node-over-the-limit', body: Buffer.alloc(BODY_MAX + 1) };
      await refused(() => producer.send(over), `a body of ${BODY_MAX + 1} bytes was taken`);
    },

    async tag_filter_selects() {
      const topic = 'node-tags';
      for (const tag of ['red', 'green', 'blue']) {
        await producer.send({ ...text(topic, tag), tag });
      }
      await producer.send(text(topic, 'none'));
      await clients.withSimple(topic, 'node-tags-some', some => clients.withSimple(topic, 'node-tags-all', async all => {
        equal(['blue', 'red'], await receiveBodies(some, 2), 'bodies with tag red or blue');
        equal(['blue', 'green', 'none', 'red'], await receiveBodies(all, 4), 'all bodies');
        await expectNothing(some);
      }), { tags: 'red || blue', awaitDuration: SILENCE });
    },

    /** A lease that ends brings the message back with attempt 2, and the first handle then acks nothing. */
    async expired_lease_is_redelivered() {
      const [topic, group] = ['node-expiry', 'node-expiry-group'];
      await producer.send(text(topic, 'again'));
      await clients.withSimple(topic, group, async consumer => {
        const start = performance.now();
        const first = await receiveOne(consumer);
        equal(1, first.deliveryAttempt, 'first delivery attempt');
        const second = await receiveOne(consumer);
        elapsed(start, LEASE, 'the redelivery');
        equal(first.messageId, second.messageId, 'message id');
        equal(2, second.deliveryAttempt, 'second delivery attempt');
        await refused(() => consumer.ack(first), 'the handle of a replaced delivery was acked');
        await consumer.ack(second);
      });
      await clients.expectNothing(topic, group);
    },

    async shorter_invisible_duration() {
      const topic = 'node-shorter';
      await producer.send(text(topic, 'sooner'));
      await clients.withSimple(topic, 'node-shorter-group', async consumer => {
        const first = await receiveOne(consumer, FIVE_MINUTES);
        const start = performance.now();
        await consumer.changeInvisibleDuration(first, LEASE);
        const second = await receiveOne(consumer);
        elapsed(start, LEASE, 'the redelivery');
        equal(first.messageId, second.messageId, 'message id');
        equal(2, second.deliveryAttempt, 'delivery attempt');
        await consumer.ack(second);
      });
    },

    async longer_invisible_duration() {
      const [topic, group] = ['node-longer', 'node-longer-group'];
      await producer.send(text(topic, 'later'));
      await clients.withSimple(topic, group, async consumer => {
        const received = await receiveOne(consumer);
        await consumer.changeInvisibleDuration(received, FIVE_MINUTES);
        await clients.expectNothing(topic, group);
        await consumer.ack(received);
      });
    },
  };
}

/** A body as large as can be received, the same in every run, in which no byte follows from the one before. */
function large() {
  const body = Buffer.alloc(BODY_RECEIVED_MAX);
  for (let i = 0, state = 4; i < body.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    body[i] = state >>> 24;
  }
  return body;
}

function checkSame(wanted, received) {
  equal(wanted.topic, received.topic, 'topic');
  equal(wanted.tag ?? '', received.tag ?? '', 'tag');
  equal(wanted.keys ?? [], received.keys, 'keys');
  equal(wanted.properties ?? new Map(), received.properties, 'properties');
  check(wanted.body.equals(received.body), `a body of ${received.body.length} bytes is not what was sent`);
  check(!received.corrupted, 'the body digest does not match');
  equal(1, received.deliveryAttempt, 'delivery attempt');
  check(received.bornTimestamp > new Date(0), 'born timestamp');
}

/** Receives and acks `count` messages; their bodies, sorted. */
async function receiveBodies(consumer, count) {
  const bodies = [];
  for (const received of await receive(consumer, count)) {
    bodies.push(received.body.toString());
    await consumer.ack(received);
  }
  return bodies.sort();
}

module.exports = { simpleScenarios };
