/** Push consumers: each message once, and again with a higher attempt after a listener that failed. */
'use strict';

const { ConsumeResult } = require('rocketmq-client-nodejs');
const { check, equal } = require('./check');
const { text, within } = require('./clients');

const MESSAGES = 300;
// Milliseconds: the first step of the back-off a group has by default. This SDK asks for less, and does not get it.
const BACK_OFF = 1_000;

function pushScenarios(clients, producer) {
  async function send(topic, count) {
    for (let i = 0; i < count; i++) {
      await producer.send(text(topic, `message ${i}`));
    }
  }

  /** Consumes one message, for the first time with what `first` does. */
  async function failingListener(topic, first) {
    const group = `${topic}-group`;
    const { messageId } = await producer.send(text(topic, 'poison at first'));
    const deliveries = new Deliveries();
    const consume = view => {
      const { deliveryAttempt } = view;
      deliveries.add({ when: performance.now(), messageId: view.messageId, body: view.body.toString(), deliveryAttempt });
      return deliveryAttempt === 1 ? first() : ConsumeResult.SUCCESS;
    };
    await clients.withPush(topic, group, consume, async () => {
      const failed = await deliveries.next(messageId, 1);
      const repeated = await deliveries.next(messageId, 2);
      check(repeated - failed >= BACK_OFF, `attempt 2 came after ${repeated - failed} ms`);
    });
    await clients.expectNothing(topic, group);
    equal(2, deliveries.count, 'deliveries');
  }

  return {
    /** Half of the messages are there before the consumer is, half come while it waits. */
    async push_consumer_takes_each_message_once() {
      const [topic, group] = ['node-push', 'node-push-group'];
      await send(topic, MESSAGES / 2);
      const tally = new Tally();
      await clients.withPush(topic, group, tally.consume, async () => {
        await send(topic, MESSAGES / 2);
        await tally.complete();
      });
      await clients.expectNothing(topic, group);
      tally.checkOnce();
    },

    async push_consumers_of_a_group_share() {
      const [topic, group] = ['node-shared', 'node-shared-group'];
      const tally = new Tally();
      await clients.withPush(topic, group, tally.consume, async () => {
        await send(topic, MESSAGES);
        await tally.complete();
      }, 2);
      await clients.expectNothing(topic, group);
      tally.checkOnce();
    },

    failing_listener_gets_attempt_2: () => failingListener('node-failing', () => ConsumeResult.FAILURE),

    throwing_listener_gets_attempt_2: () => failingListener('node-throwing', () => {
      throw new Error('the listener of this test fails on purpose');
    }),
  };
}

/** What a listener saw, in order. */
class Deliveries {
  #came = [];
  #taken = 0;
  #changed = () => {};

  get count() {
    return this.#came.length;
  }

  add(delivery) {
    this.#came.push(delivery);
    this.#changed();
  }

  /** When the next delivery came, which must have this id and attempt. */
  async next(messageId, attempt) {
    if (this.#came.length === this.#taken) {
      await within(new Promise(resolve => { this.#changed = resolve; }), () => `no attempt ${attempt}`);
    }
    const delivery = this.#came[this.#taken++];
    equal(messageId, delivery.messageId, 'message id');
    equal('poison at first', delivery.body, 'body');
    equal(attempt, delivery.deliveryAttempt, 'delivery attempt');
    return delivery.when;
  }
}

/** Counts deliveries by message id. */
class Tally {
  #seen = new Map();
  #reached;
  #all = new Promise(resolve => { this.#reached = resolve; });

  consume = view => {
    this.#seen.set(view.messageId, (this.#seen.get(view.messageId) ?? 0) + 1);
    if (this.#seen.size >= MESSAGES) {
      this.#reached();
    }
    return ConsumeResult.SUCCESS;
  };

  complete() {
    return within(this.#all, () => `${this.#seen.size} of ${MESSAGES} messages came`);
  }

  checkOnce() {
    equal(MESSAGES, this.#seen.size, 'different messages');
    equal([], [...this.#seen].filter(([, times]) => times !== 1), 'messages delivered more than once');
  }
}

module.exports = { pushScenarios };
