/**
 * Runs every scenario of the official Node.js SDK at once and prints `PASS name` or `FAIL name reason`.
 *
 * Usage: NODE_PATH=.../node_modules node compat.js HOST:PORT plaintext|tls|endure=SECONDS
 * Exit code: 0 when all passed, 1 otherwise, 2 when called wrongly.
 * With tls, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names the certificates that the SDK is to trust.
 *
 * With endure it sends and receives for so long instead, by plaintext, while proxies may die.
 *
 * Scenarios of the Java program are here.
 */
'use strict';

const { Clients } = require('./clients');
const { endureScenarios } = require('./endure');
const { liteScenarios } = require('./lite_scenarios');
const { priorityScenarios } = require('./priority_scenarios');
const { pushScenarios } = require('./push_scenarios');
const { simpleScenarios } = require('./simple_scenarios');
const { transactionScenarios } = require('./transaction_scenarios');

// Milliseconds: deadline of the whole run; scenarios run side by side, so one late one does not delay the others.
const RUN_MAX = 150_000;

async function main() {
  const [endpoint, transport, ...more] = process.argv.slice(2);
  const [how, seconds] = (transport ?? '').split('=');
  if (!endpoint || !['plaintext', 'tls', 'endure'].includes(how) || more.length > 0) {
    console.error('usage: compat.js HOST:PORT plaintext|tls|endure=SECONDS');
    return 2;
  }
  const clients = new Clients(endpoint, how === 'tls');
  const passed = await clients.withProducer(producer => run(how === 'endure'
    ? endureScenarios(clients, producer, Number(seconds))
    : {
      ...simpleScenarios(clients, producer),
      ...pushScenarios(clients, producer),
      ...liteScenarios(clients, producer),
      ...priorityScenarios(clients, producer),
      ...transactionScenarios(clients),
    }));
  return passed ? 0 : 1;
}

/** Whether all these scenarios, functions by name, succeed. */
async function run(scenarios) {
  const late = new Promise(resolve => setTimeout(resolve, RUN_MAX, `has not ended within ${RUN_MAX} ms`));
  const reasons = Object.entries(scenarios).map(([name, scenario]) =>
    [name, Promise.race([reason(scenario), late])]);
  let passed = true;
  for (const [name, ended] of reasons) {
    const failure = await ended;
    console.log(failure === undefined ? `PASS ${name}` : `FAIL ${name} ${failure}`);
    passed &&= failure === undefined;
  }
  return passed;
}

/** Why the scenario failed, or undefined. */
async function reason(scenario) {
  try {
    await scenario();
    return undefined;
  } catch (failure) {
    return failure?.stack ?? String(failure);
  }
}

// The exit also ends what a scenario that overran left behind.
main().then(code => process.exit(code), failure => {
  console.error(failure);
  process.exit(1);
});
