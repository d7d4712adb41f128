// firstcome for a front end: orders go over HTTP; outcomes, line and stock come over
// one WebSocket, which is replaced when it is lost, and by GET while there is none.

const SILENCE = 35_000; // ms; the shop sends a beat every 25 s
const HELLO = 8_000; // ms from dialling to the shop's hello
const PATIENCE = 180_000; // ms of repeats of one purchase
const LOST = [1001, 1006, 1011]; // close codes after which to dial again
const SLOT = 'firstcome.key';

// Problem has the fields of the shop's answer; status is 0 without one. retryAfter is in
// ms. passing: a repeat may succeed.
export class Problem extends Error {
  constructor(status, body, retryAfter = 0) {
    super(body.message ?? `The shop answers ${status}.`);
    const passing = [0, 408, 429].includes(status) || status >= 500 || (/not-open$/.test(body.type) && retryAfter <= 1000);
    Object.assign(this, body, { status, retryAfter, passing });
  }
}

// url is where the shop is (default: where this module is). Without email, token and
// receipts the socket has the products only.
export function firstcome({ url = new URL('.', import.meta.url), email, token, receipts = [], product = [] } = {}) {
  const base = new URL(url, globalThis.location?.href);
  base.pathname = base.pathname.replace(/\/?$/, '/');
  base.search = base.hash = '';
  const only = [product].flat();
  const heard = {};
  for (const event of ['order', 'line', 'product', 'state']) heard[event] = new Set();
  const orders = new Map(); // the newest of each by id
  const products = new Map();
  const leave = new AbortController(); // ends listeners and reads
  let papers = [...receipts];
  let byEmail = Boolean(email && !token); // until the shop wants receipts
  let state, socket, timer, asking, last, owed, since = Infinity, losses = 0, clock = [];

  const say = (event, value) => heard[event].forEach((f) => f(value));
  const become = (next) => { if (next !== state) say('state', state = next); };
  const age = (t) => performance.now() - t;
  const auth = async () => (typeof token === 'function' ? token() : token);

  // Delay only makes the server's clock look late: the latest of five samples counts.
  const tick = (time) => {
    if (time) clock = [...clock.slice(-4), Date.parse(time) - performance.now()];
  };
  const now = () => (clock.length ? performance.now() + Math.max(...clock) : Date.now());

  // Orders come twice and late: the highest rev counts.
  function take(order) {
    const known = orders.get(order.id);
    if (known && known.rev >= order.rev) return false;
    orders.set(order.id, order);
    say('order', order);
    return true;
  }

  function stock(fresh) {
    if (only.length && !only.includes(fresh.id)) return;
    const whole = { ...products.get(fresh.id), opens_at: undefined, closes_at: undefined, ...fresh }; // texts come once
    products.set(fresh.id, whole);
    say('product', whole);
  }

  async function call(path, { wait = HELLO, signal, headers, ...rest } = {}) {
    try {
      const bearer = await auth();
      const answer = await fetch(new URL(path, base), {
        cache: 'no-store',
        signal: AbortSignal.any([AbortSignal.timeout(wait), signal ?? leave.signal]),
        ...rest,
        headers: { Accept: 'application/json, application/problem+json', ...(bearer && { Authorization: `Bearer ${bearer}` }), ...headers },
      });
      if (answer.ok) return await answer.json();
      const after = answer.headers.get('Retry-After') ?? '0'; // seconds or a date
      const ms = /^\d+$/.test(after) ? after * 1000 : Date.parse(after) - Date.now();
      throw new Problem(answer.status, await answer.json().catch(() => ({})), Math.max(0, ms) || 0);
    } catch (err) {
      throw err instanceof Problem ? err : new Problem(0, { message: 'The shop cannot be reached right now.' });
    }
  }

  // ask GETs what the socket does not bring: older orders, and everything while there is
  // none. It reports whether there was news of orders.
  async function ask() {
    let news = owed = false;
    if (state !== 'live') {
      await call('products').then((all) => { tick(all.server_time); all.products.forEach(stock); }, () => {});
    }
    const asks = byEmail ? [[`orders?email=${encodeURIComponent(email)}`]]
      : token ? [['orders']]
        : papers.slice(-9).map((paper) => ['orders', { headers: { Authorization: `Receipt ${paper}` } }]);
    for (const each of asks) {
      try {
        for (const order of (await call(...each)).orders) news = take(order) || news;
      } catch ({ status }) {
        owed = !status;
        if (byEmail && [400, 401, 403].includes(status)) { // the shop shows orders for receipts only
          byEmail = false;
          dial();
        }
      }
    }
    return news;
  }

  // watch asks while that is owed, or the socket is away or silent although an order waits.
  function watch(soon) {
    clearTimeout(asking);
    asking = setTimeout(async () => {
      const waits = [...orders.values()].some((o) => o.status === 'pending');
      const silent = state === 'live' && age(last) > 10_000;
      if (!globalThis.document?.hidden && (owed || state !== 'live' || (waits && silent))) {
        if (await ask() && silent) dial(); // the socket is deaf
      }
      if (!leave.signal.aborted) watch();
    }, soon ?? 4000 + Math.random() * 2000);
  }

  function hang() {
    clearTimeout(timer);
    const old = socket;
    socket = null;
    old?.close();
  }

  function dial() {
    if (leave.signal.aborted) return;
    hang();
    become(state ? 'lost' : 'connecting');
    const to = new URL('ws', base);
    to.protocol = to.protocol.replace('http', 'ws');
    if (byEmail) to.searchParams.set('email', email);
    for (const id of only) to.searchParams.append('product', id);
    const mine = socket = new WebSocket(to);
    timer = setTimeout(lost, HELLO, 1006);
    mine.onclose = ({ code }) => mine === socket && lost(code);
    mine.onmessage = ({ data }) => mine === socket && read(JSON.parse(data));
  }

  // Half is random, so that a shop that restarts is not met by all buyers at once.
  const pause = (n) => Math.min(4000, 250 * 2 ** n) * (1 + Math.random()) / 2;

  function lost(code) {
    if (age(since) > 5000) losses = 0;
    hang();
    since = Infinity;
    become('lost');
    let again = LOST.includes(code);
    if (code === 4401) { // token or a receipt no longer holds
      again = papers.length > 0 || typeof token === 'function';
      papers = [];
    }
    if (again) timer = setTimeout(dial, pause(losses++));
    watch(losses > 1 ? undefined : Math.random() * 1000);
  }

  async function hello() {
    since = performance.now();
    become('live');
    const mine = socket;
    const bearer = await auth();
    if (mine !== socket) return;
    if (bearer) mine.send(JSON.stringify({ token: bearer }));
    else if (papers.length && !byEmail) mine.send(JSON.stringify({ receipts: papers.slice(-100) }));
    owed = email || token;
    watch(Math.random() * 1000);
  }

  function read(frame) {
    clearTimeout(timer);
    timer = setTimeout(lost, SILENCE, 1006);
    last = performance.now();
    if (frame.type === 'hello') clock = [];
    tick(frame.server_time);
    switch (frame.type) { // other types come from a newer shop
      case 'hello': return hello();
      case 'order': return take(frame.order);
      case 'product': return stock(frame.product);
      case 'line': return say('line', frame);
    }
  }

  // The key names the wish: presses, repeats and reloads under one key are one order.
  async function buy({ product: id, quantity = 1, signal, onRetry }) {
    const body = JSON.stringify({ email, product: id, quantity });
    const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': recall() || keep(crypto.getRandomValues(new Uint32Array(5)).join('-')) };
    const begun = performance.now();
    for (let n = 1; ; n++) {
      const tried = performance.now();
      try { // short at first: the browser's idle connections may be dead
        const answer = await call('buy', { method: 'POST', headers, body, signal, wait: n > 5 ? 12_000 : 3_000 });
        if (!answer.order?.id) throw new Problem(0, { message: 'The shop’s answer was cut short.' });
        const { order, receipt } = answer;
        if (receipt && !papers.includes(receipt)) {
          papers.push(receipt);
          if (!byEmail && !token && state === 'live') socket.send(JSON.stringify({ receipts: [receipt] }));
        }
        take(order);
        return { ...orders.get(order.id), receipt };
      } catch (problem) {
        const ms = problem.status === 409 ? 100 : Math.max(problem.retryAfter, pause(n) - age(tried), 0);
        if (!problem.passing || signal?.aborted || age(begun) + ms > PATIENCE) throw problem;
        onRetry?.(problem, ms);
        await rest(ms, signal);
        if (signal?.aborted) throw problem;
      }
    }
  }

  // rest ends early on abort, and when the shop is back.
  const rest = (ms, signal) => new Promise((done) => {
    setTimeout(done, ms);
    signal?.addEventListener('abort', done);
    heard.state.add(function back(now) {
      if (now !== 'live') return;
      heard.state.delete(back);
      done();
    });
  });

  // After a change of network the socket may be dead unnoticed: replace.
  function wake(replace) {
    if (socket && !replace && age(last ?? performance.now()) < SILENCE) return;
    losses = 0;
    dial();
    watch(0);
  }
  const listen = (target, event, f) => target?.addEventListener?.(event, f, { signal: leave.signal });
  listen(globalThis, 'online', () => wake(true));
  listen(globalThis, 'pageshow', (e) => e.persisted && wake(true));
  listen(globalThis.document, 'visibilitychange', () => document.hidden || wake());

  queueMicrotask(() => { dial(); watch(3000); });
  return {
    on(event, f) {
      heard[event].add(f);
      return () => heard[event].delete(f);
    },
    buy,
    now,
    wish: () => keep(''),
    close() {
      leave.abort();
      clearTimeout(asking);
      hang();
    },
  };
}

let memory = ''; // serves where storage is forbidden
function recall() {
  try { return sessionStorage.getItem(SLOT); } catch { return memory; }
}
function keep(key) {
  try { sessionStorage.setItem(SLOT, key); } catch { memory = key; }
  return key;
}
