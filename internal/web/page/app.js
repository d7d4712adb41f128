// The buyer's page. It sends orders over HTTP, which never waits for the
// socket, and follows them over the WebSocket; where the socket cannot be
// had, it asks. Whatever comes twice or late is settled by the order's rev.

import * as api from './api.js';
import * as view from './view.js';
import { Feed, backoff } from './feed.js';
import { buy, unfinished } from './purchase.js';

const REFRESH = 4_000; // ms between looks at the stock, plus up to half of it
const SILENCE = 10_000; // ms without a frame after which a waiting buyer asks
const GATHER = 120; // ms in which several pieces of news become one announcement
const SHOWN = 100; // orders, as many as the shop lists
const SHELVES = ['sessionStorage', 'localStorage']; // where the browser remembers

const form = document.getElementById('buy-form');
const field = form.elements;

let phase = 'loading';
let stock = new Map(); // products by id
let chosen = recall('product');
let stale = false; // the last look at the stock failed
let session = null; // the buyer that the page follows
let sending = null; // AbortController of the purchase under way
let refused = null; // the Problem on show, if the product's state was the reason

// ---- the buyer ----

// begin follows a buyer from now on, and nobody else.
function begin(email) {
  if (session?.email === email) return;
  end();
  const mine = { email, orders: new Map(), line: new Map(), since: Infinity, news: new Map(), timer: 0, abort: new AbortController() };
  session = mine;
  remember('email', email);
  mine.feed = new Feed(email, {
    state(name, serverTime) {
      view.connection(name);
      if (name !== 'live') return;
      mine.since = Math.min(mine.since, Date.parse(serverTime) || Date.now());
      mine.line.clear();
      draw();
    },
    order: (order) => take(mine, order),
    line(frame) {
      mine.line.set(frame.product, frame);
      const p = stock.get(frame.product);
      if (p && Number.isInteger(frame.available)) Object.assign(p, { available: frame.available, heard: Date.now() });
      draw();
    },
  });
  ask(mine);
  draw();
}

function end() {
  if (!session) return;
  session.feed.close();
  session.abort.abort();
  clearTimeout(session.timer);
  session = null;
  view.connection('idle');
  view.status();
  complain();
  draw();
}

// ask brings all orders by GET (P6): at the start, since a socket begins with
// the newest ones, and whenever the socket is lost or suspiciously silent.
async function ask(mine) {
  try {
    const list = await api.orders(mine.email, mine.abort.signal);
    if (mine !== session) return;
    const behind = list.map((order) => take(mine, order)).some(Boolean);
    if (behind && mine.feed.live && Date.now() - mine.feed.lastFrame > SILENCE) mine.feed.wake({ replace: true });
  } catch (problem) {
    if (mine !== session || problem.status !== 400) return; // the next tick asks again
    end();
    forget('email');
    view.fieldError('email', problem.message);
  }
}

// take keeps the highest rev of each order, so nothing goes back (P4). It
// reports whether the order brought something new.
function take(mine, order, own = false) {
  if (mine !== session) return false;
  const known = mine.orders.get(order.id);
  const newer = !known || order.rev > known.rev;
  if (newer) mine.orders.set(order.id, order);
  const current = mine.orders.get(order.id);
  const at = Date.parse(current.decided_at ?? current.placed_at);
  if (own || (newer && (known || at >= mine.since))) mine.news.set(order.id, current);
  if (!newer && !own) return false;
  clearTimeout(mine.timer);
  mine.timer = setTimeout(() => announce(mine), GATHER);
  if (newer && current.status !== 'pending') look();
  draw();
  return newer;
}

// announce says what happened since it last spoke; on a fresh page, how the
// newest order stands.
function announce(mine) {
  if (mine !== session) return;
  const all = [...mine.news.values()].map(({ id }) => mine.orders.get(id));
  const decided = all.filter((o) => o.status !== 'pending');
  mine.news.clear();
  if (decided.length > 1) view.outcomes(decided);
  else if (all.length > 0) view.outcome(decided[0] ?? all.at(-1));
  else if (view.silent()) view.outcome(newestFirst()[0]);
}

function newestFirst() {
  return [...(session?.orders.values() ?? [])]
    .sort((a, b) => Date.parse(b.placed_at) - Date.parse(a.placed_at) || (a.id < b.id ? 1 : -1));
}

// ---- the shop ----

async function loadProducts() {
  try {
    const list = await api.products();
    stock = new Map(list.map((p) => [p.id, p]));
    phase = list.length > 0 ? 'ready' : 'empty';
    stale = false;
    if (!stock.has(chosen)) chosen = list[0]?.id;
  } catch {
    if (phase === 'ready') stale = true; // the last figures are better than none
    else phase = 'offline';
  }
  draw();
}

// look asks for the chosen product's figures; calls that come together, as
// several outcomes do, become one question.
let looking = 0;
function look(soon = 200) {
  if (looking) return;
  looking = setTimeout(async () => {
    try {
      if (phase === 'ready') await refresh(chosen);
      else await loadProducts();
    } finally {
      looking = 0;
    }
  }, soon);
}

async function refresh(id) {
  const asked = Date.now();
  const before = refused;
  try {
    const fresh = await api.product(id);
    const known = stock.get(id);
    if (known?.heard > asked) fresh.available = known.available; // a frame overtook the answer
    stock.set(id, fresh);
    stale = false;
    // "Paused" is no news once the sale is open; older answers do not know.
    if (refused && refused === before && refused.door !== view.saleState(fresh)) complain();
  } catch (problem) {
    if (problem.status === 404) return loadProducts();
    stale = true;
  }
  draw();
}

let quiet = 0; // ticks that failed in a row
function tick() {
  if (document.visibilityState === 'visible') {
    look(0);
    const waits = session && [...session.orders.values()].some((o) => o.status === 'pending');
    if (session && (!session.feed.live || (waits && Date.now() - session.feed.lastFrame > SILENCE))) ask(session);
  }
  quiet = phase === 'ready' ? 0 : quiet + 1;
  setTimeout(tick, quiet > 0 ? 500 + backoff(quiet) : REFRESH * (1 + Math.random() / 2));
}

// ---- the form ----

// The shop's own rule for addresses: a dot-atom, then a domain of two labels
// or more, the last not all digits.
const ATOM = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+";
const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
const ADDRESS = new RegExp(`^(?=[^@]{1,64}@.{1,189}$)${ATOM}(?:\\.${ATOM})*@(?:${LABEL}\\.)+(?![0-9]+$)${LABEL}$`);

// readEmail commits the address when it is one, and returns it or ''.
function readEmail({ insist }) {
  const email = field.email.value.toLowerCase();
  if (ADDRESS.test(email)) {
    view.fieldError('email');
    begin(email);
    return email;
  }
  if (email === '' && !insist) {
    end();
    forget('email');
    view.fieldError('email');
  } else {
    view.fieldError('email', email === '' ? 'Enter your email first.' : 'This does not look like an email address.');
  }
  return '';
}

function readQuantity() {
  const quantity = field.quantity.valueAsNumber;
  return Number.isInteger(quantity) && quantity >= 1 && quantity <= 1000 ? quantity : 0;
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  const email = readEmail({ insist: true });
  const quantity = readQuantity();
  view.fieldError('quantity', quantity ? '' : 'A whole number from 1 to 1000.');
  if (!email) field.email.focus();
  else if (!quantity) field.quantity.focus();
  else if (!field.buy.disabled) send({ email, product: chosen, quantity });
});

async function send(purchase) {
  if (sending) return;
  sending = new AbortController();
  const mine = session;
  const hadFocus = document.activeElement === field.buy;
  let countdown = 0;
  complain();
  draw();
  try {
    const order = await buy(purchase, {
      signal: sending.signal,
      onRetry(problem, pause) {
        clearInterval(countdown);
        complain(problem.message);
        const due = Date.now() + pause;
        const show = () => {
          const seconds = Math.ceil((due - Date.now()) / 1000);
          view.retry(`${seconds > 0 ? `Trying again in ${seconds} s.` : 'Trying again…'} Nothing is bought twice.`);
        };
        show();
        countdown = setInterval(show, 500);
      },
    });
    complain();
    take(mine, order, true);
  } catch (problem) {
    complain(problem.passing ? unanswered(problem) : problem.message, problem.door ? problem : null);
    if (problem.status === 404) loadProducts();
  } finally {
    clearInterval(countdown);
    view.retry();
    sending = null;
    look(0);
    draw();
    // A disabled button loses the focus; it gets it back once drawn anew.
    if (hadFocus) queueMicrotask(() => document.activeElement === document.body && field.buy.focus());
  }
}

// complain shows why the order failed; without a text, nothing is wrong any more.
function complain(text = '', because = null) {
  refused = because;
  view.error(text);
}

function unanswered({ message, retryAfter }) {
  const later = retryAfter > 0 ? ` Try again in ${Math.ceil(retryAfter / 1000)} s.` : '';
  return `${message}${later} Your order may be in all the same: if so, it shows up below, and buying again now does not buy twice.`;
}

field.email.addEventListener('change', () => readEmail({ insist: false }));
field.email.addEventListener('input', () => view.fieldError('email'));
field.product.addEventListener('change', () => {
  chosen = field.product.value;
  remember('product', chosen);
  complain();
  draw();
  look(0);
});
field.quantity.addEventListener('input', () => {
  view.fieldError('quantity');
  draw();
});
for (const [id, step] of [['less', -1], ['more', 1]]) {
  document.getElementById(id).addEventListener('click', () => {
    field.quantity.value = Math.min(1000, Math.max(1, (readQuantity() || 1) + step));
    view.fieldError('quantity');
    draw();
  });
}
document.getElementById('stop').addEventListener('click', () => sending?.abort());

// ---- drawing ----

let due = false;
function draw() {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    const p = stock.get(chosen);
    const quantity = readQuantity();
    view.shop(phase);
    if (phase === 'ready') {
      view.choice([...stock.values()], chosen);
      view.product(p, { stale });
    }
    view.button({ phase, state: p && view.saleState(p), quantity, sending: sending !== null });
    view.quantityHint(quantity, p);
    const list = newestFirst();
    view.orders(list.slice(0, SHOWN), { email: session?.email ?? '', ahead: ahead(list) });
    const waiting = list.filter((o) => o.status === 'pending').length;
    document.title = waiting > 0 ? `(${waiting}) In line · firstcome` : 'firstcome';
  });
}

// ahead puts a pending order's wait into words. A line frame speaks of the
// buyer's foremost order of the product; later ones stand behind it.
function ahead(list) {
  const foremost = new Map(list.filter((o) => o.status === 'pending').map((o) => [o.product, o.id]));
  return (order) => {
    if (foremost.get(order.product) !== order.id) return { label: 'In line', value: '…', text: 'Behind your earlier order.' };
    const n = session.line.get(order.product)?.ahead;
    if (n === undefined) return { label: 'In line', value: '…', text: `${order.message}.` };
    if (n === 0) return { label: 'Ahead', value: '0', text: 'You are next.' };
    return { label: 'Ahead', value: n.toLocaleString('en'), text: `${n.toLocaleString('en')} ahead of you.` };
  };
}

// ---- what the browser remembers ----

// A reloaded tab goes on as the buyer it had, a new one as the last buyer of any
// tab. Storage may be forbidden; the page then works, and forgets.
function remember(name, value) {
  onShelves((shelf) => { shelf.setItem(`firstcome.${name}`, value); });
}
function recall(name) {
  return onShelves((shelf) => shelf.getItem(`firstcome.${name}`)).find((value) => value) ?? '';
}
function forget(name) {
  onShelves((shelf) => { shelf.removeItem(`firstcome.${name}`); });
}
function onShelves(use) {
  return SHELVES.map((name) => {
    try { return use(window[name]); } catch { return null; /* as said */ }
  });
}

addEventListener('online', () => {
  session?.feed.wake({ replace: true });
  look(0);
});
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState !== 'visible') return;
  session?.feed.wake();
  if (session) ask(session);
  look(0);
});
addEventListener('pageshow', (event) => event.persisted && session?.feed.wake({ replace: true }));

loadProducts().then(() => setTimeout(tick, phase === 'ready' ? REFRESH : 500));
field.email.value = recall('email');
if (field.email.value) readEmail({ insist: false });
const cut = unfinished(); // a reload came between an order and its answer
if (cut && cut.email === session?.email) {
  field.quantity.value = cut.quantity;
  chosen = cut.product;
  send(cut);
}
