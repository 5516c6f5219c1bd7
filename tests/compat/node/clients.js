/** Clients of one server, made as an application makes them. Each lives as long as the work it is given to. */
'use strict';

const { LitePushConsumerBuilder, Producer, PushConsumer, SimpleConsumer, getDefaultLogger } = require('rocketmq-client-nodejs');
const { check, equal } = require('./check');

// All in milliseconds.
const LEASE = 10_000; // the shortest lease a client may ask for
const ARRIVAL_MAX = 30_000; // longest wait for messages that must come
const SILENCE = 12_000; // how long an empty receive waits; longer than LEASE, so that a lease left behind would show
const POLL = 3_000;
const BATCH = 32;

class Clients {
  #options;

  constructor(endpoint, tls) {
    // Each client of this SDK closes its log and then writes to it; so all have one that nobody closes.
    const logger = getDefaultLogger();
    logger.close = undefined;
    // A longer request timeout than the default of 3 s: a busy machine must not look like a lost message.
    this.#options = { endpoints: endpoint, sslEnabled: tls, requestTimeout: 20_000, logger };
  }

  withProducer(work) {
    return alive(new Producer(this.#options), work);
  }

  /** One that begins transactions of a topic, and is asked about them. */
  withTransactional(topic, check, work) {
    return alive(new Producer({ ...this.#options, topics: [topic], checker: { check } }), work);
  }

  withSimple(topic, group, work, { tags = '*', awaitDuration = POLL } = {}) {
    const subscriptions = new Map([[topic, tags]]);
    return alive(new SimpleConsumer({ ...this.#options, consumerGroup: group, subscriptions, awaitDuration }), work);
  }

  /** `count` push consumers of one group. */
  withPush(topic, group, consume, work, count = 1) {
    const subscriptions = new Map([[topic, '*']]);
    const options = { ...this.#options, consumerGroup: group, subscriptions, messageListener: { consume } };
    return allAlive(Array.from({ length: count }, () => new PushConsumer(options)), work);
  }

  /** A lite push consumer of one group for each of the listeners. Building one starts it. */
  async withLitePush(topic, group, listeners, work) {
    const built = await Promise.all(listeners.map(consume => new LitePushConsumerBuilder()
      .bindTopic(topic)
      .setClientConfiguration(this.#options)
      .setConsumerGroup(group)
      .setMessageListener({ consume })
      .build()));
    try {
      return await work(...built);
    } finally {
      await Promise.all(built.map(consumer => consumer.close()));
    }
  }

  /** One long poll of a consumer of its own that must find nothing for longer than a lease. */
  expectNothing(topic, group) {
    return this.withSimple(topic, group, expectNothing, { awaitDuration: SILENCE });
  }
}

/** Starts the client, does the work with it, and shuts it down. */
function alive(client, work) {
  return allAlive([client], work);
}

/** The same with several clients; the shutdown of each waits for its last long poll. */
async function allAlive(clients, work) {
  await Promise.all(clients.map(client => client.startup()));
  try {
    return await work(...clients);
  } finally {
    await Promise.all(clients.map(client => client.shutdown()));
  }
}

function text(topic, body) {
  return { topic, body: Buffer.from(body) };
}

/** Receives until `count` messages are there. */
async function receive(consumer, count, lease = LEASE) {
  const start = performance.now();
  const received = [];
  while (received.length < count) {
    const waited = performance.now() - start;
    check(waited < ARRIVAL_MAX, `${received.length} of ${count} messages within ${ARRIVAL_MAX} ms`);
    received.push(...await consumer.receive(BATCH, lease));
  }
  equal(count, received.length, 'messages received');
  return received;
}

/** Receives one message, which must be the only one. */
async function receiveOne(consumer, lease = LEASE) {
  return (await receive(consumer, 1, lease))[0];
}

/** Waits for what must come. */
async function within(promise, otherwise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${otherwise()} within ${ARRIVAL_MAX} ms`)), ARRIVAL_MAX);
  });
  try {
    await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** One long poll, as long as the consumer waits, that must find nothing. */
async function expectNothing(consumer) {
  const received = await consumer.receive(BATCH, LEASE);
  equal([], received.map(it => `${it.messageId}, attempt ${it.deliveryAttempt}`), 'nothing should come');
}

module.exports = { ARRIVAL_MAX, Clients, LEASE, SILENCE, expectNothing, receive, receiveOne, text, within };
