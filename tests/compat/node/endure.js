/** Sends, receives and works on messages for some time, in which proxies may die: the SDK hides it, or it does not. */
'use strict';

const { setTimeout: sleep } = require('node:timers/promises');
const { ConsumeResult } = require('rocketmq-client-nodejs');
const { check, equal } = require('./check');
const { LEASE, text } = require('./clients');

// Milliseconds between two sends.
const PACE = 20;
// Messages that a listener works on, for longer (in milliseconds) than any lease that is not renewed.
const HELD = 4;
const HOLD = 70_000;
// Milliseconds until everything that was sent has come.
const DRAIN_MAX = 60_000;
const BATCH = 32;

function endureScenarios(clients, producer, seconds) {
  const until = performance.now() + seconds * 1_000;
  return {
    async sends_succeed_and_nothing_is_lost() {
      const topic = 'node-endure';
      const [sent, failed, seen] = [new Set(), [], new Set()];
      const lost = () => [...sent].filter(id => !seen.has(id));
      let over = false;
      async function send() {
        while (performance.now() < until) {
          try {
            sent.add((await producer.send(text(topic, 'message'))).messageId);
          } catch (failure) {
            failed.push(String(failure));
          }
          await sleep(PACE);
        }
        over = true;
      }
      await clients.withSimple(topic, 'node-endure-group', async consumer => {
        const sending = send();
        while (!over || (lost().length > 0 && performance.now() < until + DRAIN_MAX)) {
          await receivedAndAcked(consumer, seen);
        }
        await sending;
      });
      console.log(`sent ${sent.size}, failed ${failed.length}`);
      equal([], failed, 'failed sends');
      equal([], lost(), 'lost messages');
    },

    async held_messages_come_once() {
      const topic = 'node-held';
      for (let i = 0; i < HELD; i++) {
        await producer.send(text(topic, `message ${i}`));
      }
      const deliveries = new Map();
      let done = 0;
      const consume = async view => {
        deliveries.set(view.messageId, (deliveries.get(view.messageId) ?? 0) + 1);
        await sleep(HOLD);
        done++;
        return ConsumeResult.SUCCESS;
      };
      await clients.withPush(topic, 'node-held-group', consume, async () => {
        const start = performance.now();
        while (done < HELD && performance.now() < start + HOLD + DRAIN_MAX) {
          await sleep(PACE);
        }
      });
      check(done >= HELD, `${done} of ${HELD} messages were done`);
      equal(Array(HELD).fill(1), [...deliveries.values()], 'deliveries of each message');
    },
  };
}

/** One long poll. A call that fails is made again: what it lost comes when its lease ends. */
async function receivedAndAcked(consumer, seen) {
  try {
    for (const view of await consumer.receive(BATCH, LEASE)) {
      seen.add(view.messageId);
      await consumer.ack(view);
    }
  } catch {
    await sleep(PACE);
  }
}

module.exports = { endureScenarios };
