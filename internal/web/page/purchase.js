// One purchase is one Idempotency-Key, kept until the shop has answered: a
// reply that gets lost, a reload, a second press never buys twice (P4).

import { placeOrder } from './api.js';
import { backoff } from './feed.js';

const SLOT = 'firstcome.purchase';
const PATIENCE = 3 * 60_000; // ms of automatic repeats before the buyer is asked
const MEMORY = 10 * 60_000; // ms that an unanswered purchase is remembered

// buy repeats the order under one key until the shop answers, signal aborts
// or patience ends. onRetry(problem, ms) is told about each pause. It returns
// the order's status, or throws the Problem that ended it.
export async function buy({ email, product, quantity }, { signal, onRetry }) {
  const purchase = recallUnanswered();
  const same = purchase?.email === email && purchase.product === product && purchase.quantity === quantity;
  const mine = { email, product, quantity, key: same ? purchase.key : newKey(), since: Date.now(), stopped: false };
  store(mine);
  for (let n = 0; ; n++) {
    try {
      const order = await placeOrder(mine, signal);
      store(null);
      return order;
    } catch (problem) {
      if (!problem.passing) {
        store(null);
        throw problem;
      }
      const pause = Math.max(problem.retryAfter, backoff(n + 1));
      if (signal.aborted || Date.now() + pause > mine.since + PATIENCE) {
        store({ ...mine, stopped: true });
        throw problem;
      }
      onRetry(problem, pause);
      await rest(pause, signal, problem.retryAfter === 0);
      if (signal.aborted) {
        store({ ...mine, stopped: true });
        throw problem;
      }
    }
  }
}

// unfinished is the purchase that a reload interrupted, or null.
export function unfinished() {
  const purchase = recallUnanswered();
  return purchase && !purchase.stopped ? purchase : null;
}

// The slot belongs to the tab (sessionStorage): it survives a reload, and two
// tabs can buy at the same time. Without storage it lives as long as the page.
let slot = null;

function recallUnanswered() {
  let purchase = slot;
  try {
    purchase = JSON.parse(sessionStorage.getItem(SLOT)) ?? slot;
  } catch { /* storage is forbidden or damaged: memory serves */ }
  return purchase && Date.now() - purchase.since < MEMORY ? purchase : null;
}

function store(purchase) {
  slot = purchase;
  try {
    if (purchase) sessionStorage.setItem(SLOT, JSON.stringify(purchase));
    else sessionStorage.removeItem(SLOT);
  } catch { /* as above */ }
}

// randomUUID exists in secure contexts only; a shop tried over plain HTTP from
// another machine is not one.
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
}

// rest ends after ms, on abort, or, where the pause is our own choice, as soon
// as the browser is online again.
function rest(ms, signal, untilOnline) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (untilOnline) addEventListener('online', done);
    signal.addEventListener('abort', done);
  });
}
