// The shop's HTTP interface as the page uses it: every call has a deadline,
// every failure is a Problem that says whether asking again makes sense.

const READ_TIMEOUT = 8_000; // ms
const BUY_TIMEOUT = 12_000; // ms; an order that waits longer is asked for again under its key

const STATES = {
  'urn:firstcome:sold-out': 'sold_out',
  'urn:firstcome:paused': 'paused',
  'urn:firstcome:not-open': 'not_open',
  'urn:firstcome:closed': 'closed',
};

// url is where the shop answers to a path: the page may stand below one itself.
export const url = (path) => new URL(`..${path}`, import.meta.url);

// Problem is a failed call. status is the HTTP status, or 0 when no answer
// came; retryAfter is in milliseconds, 0 when the shop named none; type is the
// shop's name for what went wrong, or ''.
export class Problem extends Error {
  constructor(status, message, { retryAfter = 0, type = '' } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
    this.type = type;
  }

  // The state of the product that kept the order out at the door, or '' when
  // something else did.
  get door() {
    return (this.status === 409 && STATES[this.type]) || '';
  }

  // Whether the same request may succeed later. Without an answer, or after
  // one of these, the order may or may not be in the queue: only a repeat
  // under the same key tells.
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export async function products(signal) {
  const { products: list } = await call('/products', { signal });
  return list ?? [];
}

export function product(id, signal) {
  return call(`/products/${encodeURIComponent(id)}`, { signal });
}

export async function orders(email, signal) {
  const { orders: list } = await call(`/orders?email=${encodeURIComponent(email)}`, { signal });
  return list ?? [];
}

// placeOrder returns the order's status once the shop has stored it.
export async function placeOrder({ email, product: id, quantity, key }, signal) {
  const answer = await call('/buy', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key },
    body: JSON.stringify({ email, product: id, quantity }),
    timeout: BUY_TIMEOUT,
    signal,
  });
  if (!answer.order?.id) throw new Problem(0, 'The shop’s answer was cut short.');
  return answer.order;
}

async function call(path, { signal, timeout = READ_TIMEOUT, headers = {}, ...rest }) {
  const abort = new AbortController();
  const stop = () => abort.abort();
  const timer = setTimeout(stop, timeout);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    const { pathname, search } = url(path);
    const answer = await fetch(pathname + search, {
      ...rest,
      cache: 'no-store',
      headers: { Accept: 'application/json, application/problem+json', ...headers },
      signal: abort.signal,
    });
    if (answer.ok) return await answer.json();
    const body = await answer.json().catch(() => ({}));
    throw new Problem(answer.status, body.message ?? body.detail ?? body.title ?? fallback(answer.status), {
      retryAfter: retryAfter(answer),
      type: body.type,
    });
  } catch (err) {
    if (err instanceof Problem) throw err;
    throw new Problem(0, navigator.onLine === false ? 'You are offline.' : 'The shop cannot be reached right now.');
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

function fallback(status) {
  return status >= 500 ? 'The shop has a problem right now.' : `The shop refused the request (${status}).`;
}

// Retry-After is a number of seconds or a date (RFC 9110, 10.2.3).
function retryAfter(answer) {
  const value = answer.headers.get('Retry-After');
  if (!value) return 0;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}
