/** What a scenario demands; a failed demand ends it with a sentence. */
'use strict';

const { isDeepStrictEqual, inspect } = require('node:util');

// Milliseconds: granularity of the clocks on both sides, and how much later than due a redelivery may come on a busy
// machine.
const EARLY_MAX = 50;
const LATE_MAX = 8_000;

function check(holds, what) {
  if (!holds) {
    throw new Error(what);
  }
}

function equal(wanted, found, what) {
  check(isDeepStrictEqual(wanted, found), `${what}: wanted ${inspect(wanted)}, found ${inspect(found)}`);
}

async function refused(call, what) {
  try {
    await call();
  } catch {
    return;
  }
  throw new Error(what);
}

/** The time since `start`, by `performance.now()`, is `due`: hardly less and not much more. */
function elapsed(start, due, what) {
  const took = performance.now() - start;
  check(took >= due - EARLY_MAX, `${what} came early, after ${took} ms`);
  check(took <= due + LATE_MAX, `${what} came late, after ${took} ms`);
}

module.exports = { check, elapsed, equal, refused };
