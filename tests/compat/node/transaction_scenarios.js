/** Messages that come when their transaction is committed, by their producer or when it is asked. */
'use strict';

const { equal } = require('./check');
const { expectNothing, receiveOne, text } = require('./clients');

// The numbers of the API; this SDK does not export their names.
const UNKNOWN = 0;
const COMMIT = 1;

function transactionScenarios(clients) {
  return {
    async committed_message_comes() {
      const topic = 'node-commit';
      await clients.withTransactional(topic, async () => UNKNOWN, producer =>
        clients.withSimple(topic, 'node-commit-group', async consumer => {
          const transaction = producer.beginTransaction();
          const sent = await producer.send(text(topic, 'paid'), transaction);
          await expectNothing(consumer);
          await transaction.commit();
          const received = await receiveOne(consumer);
          equal(sent.messageId, received.messageId, 'message id');
          await consumer.ack(received);
        }));
    },

    /** The producer forgets to end its transaction, and remembers when it is asked. */
    async lost_commit_is_asked_for() {
      const topic = 'node-lost-commit';
      const asked = [];
      const check = async about => {
        asked.push(about.messageId);
        return COMMIT;
      };
      await clients.withTransactional(topic, check, producer =>
        clients.withSimple(topic, 'node-lost-commit-group', async consumer => {
          const sent = await producer.send(text(topic, 'paid'), producer.beginTransaction());
          const received = await receiveOne(consumer);
          equal(sent.messageId, received.messageId, 'message id');
          equal([sent.messageId], asked, 'messages the producer was asked about');
          await consumer.ack(received);
        }));
    },
  };
}

module.exports = { transactionScenarios };
