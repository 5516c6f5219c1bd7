/** Lite topics, of a topic and for a consumer group that the test has created. */
'use strict';

const { ConsumeResult } = require('rocketmq-client-nodejs');
const { equal } = require('./check');
const { text, within } = require('./clients');

const TOPIC = 'node-lite';
const MESSAGES = 5;

function liteScenarios(clients, producer) {
  function send(liteTopic, number) {
    return producer.send({ ...text(TOPIC, `${liteTopic} ${number}`), liteTopic });
  }

  return {
    /** Each consumer gets the messages of its lite topics, in order; what it unsubscribes from goes to nobody. */
    async lite_push_consumers_get_what_they_subscribed_to() {
      const [first, second] = [new Seen(2 * MESSAGES), new Seen(2 * MESSAGES)];
      await clients.withLitePush(TOPIC, 'node-lite-push', [first.consume, second.consume], async (one, two) => {
        for (const liteTopic of ['one-0', 'one-1', 'nobody']) {
          await one.subscribeLite(liteTopic);
        }
        for (const liteTopic of ['two-0', 'two-1']) {
          await two.subscribeLite(liteTopic);
        }
        await one.unsubscribeLite('nobody');
        equal(['one-0', 'one-1'], [...one.getLiteTopicSet()].sort(), 'lite topics');
        await send('nobody', 0);
        for (let number = 0; number < MESSAGES; number++) {
          for (const liteTopic of ['one-0', 'two-0', 'one-1', 'two-1']) {
            await send(liteTopic, number);
          }
        }
        await first.check('one-0', 'one-1');
        await second.check('two-0', 'two-1');
      });
    },
  };
}

/** Notes what a listener saw, and fails the first time for one message of each lite topic. */
class Seen {
  #failed = new Set();
  #done = {};
  #missing;
  #reached;
  #all = new Promise(resolve => { this.#reached = resolve; });

  constructor(count) {
    this.#missing = count;
  }

  consume = view => {
    const body = view.body.toString();
    if (body.endsWith(' 2') && !this.#failed.has(body)) {
      this.#failed.add(body);
      return ConsumeResult.FAILURE;
    }
    (this.#done[view.liteTopic] ??= []).push(body);
    if (--this.#missing === 0) {
      this.#reached();
    }
    return ConsumeResult.SUCCESS;
  };

  async check(...liteTopics) {
    await within(this.#all, () => `${this.#missing} messages did not come`);
    for (const liteTopic of liteTopics) {
      const sent = Array.from({ length: MESSAGES }, (_, number) => `${liteTopic} ${number}`);
      equal(sent, this.#done[liteTopic], `messages of ${liteTopic}`);
    }
    equal(liteTopics.length, Object.keys(this.#done).length, 'lite topics');
  }
}

module.exports = { liteScenarios };
