/** Messages with priorities: the most urgent comes first. Their topic has four levels. */
'use strict';

const { equal } = require('./check');
const { receive, text } = require('./clients');

function priorityScenarios(clients, producer) {
  return {
    /** The highest level has everything from 3 on, in order. This SDK takes a priority of 0 for none. */
    async most_urgent_message_comes_first() {
      const topic = 'node-priority';
      for (let round = 0; round < 3; round++) {
        for (const priority of [1, 3, 7, 2]) {
          await producer.send({ ...text(topic, String(priority)), priority });
        }
      }
      await clients.withSimple(topic, 'node-priority-group', async consumer => {
        const priorities = [];
        for (const received of await receive(consumer, 12)) {
          equal(String(received.priority), received.body.toString(), 'body');
          equal(1, received.deliveryAttempt, 'delivery attempt');
          priorities.push(received.priority);
          await consumer.ack(received);
        }
        equal([3, 7, 3, 7, 3, 7, 2, 2, 2, 1, 1, 1], priorities, 'priorities');
      });
    },
  };
}

module.exports = { priorityScenarios };
