// The buyer's page: it knows the products, one buyer, and the order that this
// buyer is about. Everything else is a picture of that (scene.js, view.js).

import { firstcome } from './client.js';
import { readEmail } from './email.js';
import * as scenes from './scene.js';
import * as view from './view.js';

const GESTURE = 800; // ms within which presses are one press: a double click, a held key
const GONE = 10_000; // ms after which a tab that comes back is no reload, but a reopened one
const SETTLED = 2_000; // ms that an outcome outlives a reload
const GATHER = 120; // ms in which several pieces of news become one
const SEEN = 4_000; // ms on a visible page after which the title's news is old
const SHOWN = 100; // orders, as many as the shop lists

const form = document.getElementById('buy-form');
const field = form.elements;
const home = new URL('.', document.baseURI);
form.noValidate = true;

let phase = 'loading';
const stock = new Map(); // products by id, in the shop's order
let wanted = new URL(document.URL).searchParams.get('product') ?? ''; // the product that was asked for
let states = new Map(); // the state that each product was last drawn with
let back = false; // the product on show came back while the page was open
let lamp = 'connecting';
let session; // the buyer that the page follows; email is '' for a mere watcher
let wish = null; // the order that the buyer is about; see keep
let sending = null; // AbortController of the request under way
let said = null; // what became of orders that were made elsewhere
let doored = ''; // the product's state that kept an order out, while the page says so
let pressed = -Infinity;

// ---- the buyer ----

// begin follows a buyer from now on, and nobody else; '' is a watcher.
function begin(email) {
  if (session?.email === email) return;
  session?.shop.close();
  clearTimeout(session?.timer);
  const mine = { email, orders: new Map(), lines: new Map(), news: new Set(), since: Infinity };
  mine.shop = firstcome({ url: home, email: email || undefined, receipts: Object.values(recall('receipts') ?? {}) });
  mine.shop.on('state', (state) => {
    if (mine !== session) return;
    if (state === 'live') {
      mine.since = Math.min(mine.since, mine.shop.now());
      mine.lines.clear();
      if (lamp === 'lost') view.news('Connected again.');
      setTimeout(() => { if (phase !== 'ready' && lamp === 'live') setPhase('empty'); }, 1000);
    } else if (state === 'lost') {
      if (lamp === 'live') view.news('Connection lost. Reconnecting…');
      setTimeout(() => { if (phase !== 'ready' && lamp === 'lost') setPhase('offline'); }, 1500);
    }
    lamp = state;
    draw();
  });
  mine.shop.on('product', (p) => { if (mine === session) takeProduct(p); });
  mine.shop.on('order', (order) => { if (mine === session) takeOrder(order); });
  mine.shop.on('line', (frame) => {
    if (mine !== session) return;
    mine.lines.set(frame.product, frame);
    const p = stock.get(frame.product);
    if (p && Number.isInteger(frame.available)) p.available = frame.available;
    draw();
  });
  session = mine;
  lamp = 'connecting';
  said = null;
  view.connection(lamp);
  draw();
}

// know commits the address: the tab remembers it, the device only if asked to.
function know(email) {
  remember('email', email || null);
  remember('email', (field.remember.checked && email) || null, device);
  begin(email);
}

function forget() {
  sending?.abort();
  renew();
  remember('receipts', null);
  know('');
  remember('email', null, device);
  field.email.value = '';
  field.remember.checked = false;
  complain();
  view.fieldError('email');
  draw();
  queueMicrotask(() => field.email.focus());
}

function takeOrder(order) {
  const known = session.orders.get(order.id);
  session.orders.set(order.id, order);
  if (wish?.order?.id === order.id) settle(order);
  const at = Date.parse(order.decided_at ?? order.placed_at);
  if (known || at >= session.since) session.news.add(order.id);
  clearTimeout(session.timer);
  session.timer = setTimeout(announce, GATHER, session);
  draw();
}

// announce says what became of orders that were made elsewhere; the outcome of
// the page's own has its place already.
function announce(mine) {
  if (mine !== session || sending) return;
  const decided = [...mine.news].map((id) => mine.orders.get(id)).filter((o) => o.status !== 'pending' && o.id !== wish?.order?.id);
  mine.news.clear();
  if (decided.length === 0) return;
  if (decided.length === 1) {
    said = outcome(decided[0]);
  } else {
    const counts = Object.entries(Object.groupBy(decided, (o) => o.status));
    said = {
      tone: counts.find(([s]) => s === 'accepted')?.[0] ?? counts[0][0],
      head: `${decided.length} orders`,
      text: `${counts.map(([s, list]) => `${list.length} ${scenes.label(s).toLowerCase()}`).join(', ')}.`,
    };
  }
  headline(decided.length > 1 ? said.head : scenes.label(decided[0].status));
  draw();
}

function outcome(order) {
  const place = order.place ? ` You were number ${scenes.count(order.place)} in line.` : '';
  return { tone: order.status, head: `${scenes.label(order.status)} · ${product(order.product).name}`, text: `${scenes.sentence(order.message)}${place}` };
}

const product = (id) => ({ id, ...stock.get(id), name: scenes.name(stock.get(id) ?? { id }) });

function newestFirst() {
  return [...session.orders.values()].sort((a, b) => Date.parse(b.placed_at) - Date.parse(a.placed_at) || (a.id < b.id ? 1 : -1));
}

// ---- the products ----

function setPhase(next) {
  phase = next;
  draw();
}

function takeProduct(p) {
  stock.set(p.id, p);
  if (phase === 'ready' || !wanted || stock.has(wanted)) setPhase('ready');
  else setTimeout(setPhase, GATHER, 'ready'); // the one that the link names may be the next
}

const showing = () => (stock.has(wanted) ? wanted : stock.keys().next().value ?? field.product.value);

function choose(id) {
  wanted = id;
  back = false;
  const here = new URL(document.URL);
  here.searchParams.set('product', id);
  history.replaceState(history.state, '', here);
}

// changed compares a product's state with the one before: what opened, closed
// or came back is said once.
function changed(p, state) {
  const before = states.get(p.id);
  if (before === state) return;
  states.set(p.id, state);
  if (p.id !== showing() || before === undefined) return;
  if (doored && doored !== state) complain();
  back = state === 'open' && before === 'sold_out';
  const words = {
    open: before === 'not_open' ? 'The sale is open.' : before === 'sold_out' ? 'Back in stock.' : 'The sale goes on.',
    sold_out: 'Sold out.', paused: 'The sale is paused.', closed: 'The sale is over.', not_open: 'The sale is not open yet.',
  }[state] ?? 'The sale is delayed.';
  if (state === 'open') {
    if (current()?.stage === 'done' && wish.order.status !== 'accepted') renew();
    if (said?.tone === 'sold_out') said = null;
  }
  view.news(words);
  if (state === 'open' || (state === 'sold_out' && !wish)) headline(words.replace(/\.$/, ''));
}

// The page wakes by a timer at the product's next hour, as the shop's clock has it.
let alarm = 0;
function arm(now) {
  clearTimeout(alarm);
  const p = stock.get(showing());
  if (!p) return;
  const hours = [p.opens_at, p.closes_at].filter(Boolean).map((hour) => Date.parse(hour) - now).filter((ms) => ms > 0);
  if (hours.length === 0) return;
  const next = Math.min(...hours);
  const second = scenes.saleState(p, now) === 'not_open' ? next % 1000 || 1000 : Infinity; // the countdown's next figure
  alarm = setTimeout(draw, Math.min(next, second, 3_600_000));
}

// ---- the wish: what this tab is about to order ----

// keep holds on to the wish over a reload. stage: refused (nothing was stored),
// sending, unsure (no answer, and nobody asks any more), line, done.
function keep(next) {
  wish = next;
  remember('wish', wish && { ...wish, touched: Date.now() });
}

// renew is the buyer's decision for another order, which needs another key.
function renew() {
  session.shop.wish();
  keep(null);
}

function settle(order) {
  const done = order.status !== 'pending';
  const news = done && wish.stage !== 'done';
  keep({ ...wish, order: { ...wish.order, ...order }, stage: done ? 'done' : 'line', seen: done ? wish.seen ?? Date.now() : undefined });
  if (news) headline(`${order.status === 'accepted' ? '✓ ' : ''}${scenes.label(order.status)}`);
}

form.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.repeat) event.preventDefault(); // a held key is one press
});

// A change of the form ends the gesture: the next press means something else.
for (const event of ['input', 'change']) form.addEventListener(event, () => { pressed = -Infinity; });

form.addEventListener('submit', (event) => {
  event.preventDefault();
  const now = performance.now();
  const twice = now - pressed < GESTURE;
  if (twice) pressed = now;
  const { does } = look()?.button ?? { does: 'buy' };
  if (twice || !does) return;
  if (does === 'again') {
    if (Date.now() - wish.seen < GESTURE) return; // that press was meant for the button before
    pressed = now;
    renew();
    complain();
    said = null;
    draw();
  } else if (does === 'resend') {
    pressed = now;
    send();
  } else {
    const { email, error = '' } = readEmail(field.email.value);
    const quantity = readQuantity();
    view.fieldError('email', error);
    view.fieldError('quantity', quantity ? '' : 'A whole number from 1 to 1000.');
    if (error) return field.email.focus();
    if (!quantity) return field.quantity.focus();
    pressed = now;
    field.email.value = email;
    know(email);
    const same = wish?.email === email && wish.product === showing() && wish.quantity === quantity;
    if (!same) renew();
    keep({ email, product: showing(), quantity, stage: 'sending' });
    send();
  }
});

async function send() {
  if (sending) return;
  const mine = session;
  const abort = sending = new AbortController();
  let counting = 0;
  const alive = setInterval(() => keep(wish), 1000); // so that a reload can be told from a reopened tab
  keep({ ...wish, stage: 'sending', trying: false });
  said = null;
  complain();
  draw();
  try {
    const { product: id, quantity } = wish;
    const order = await mine.shop.buy({
      product: id, quantity, signal: abort.signal,
      onRetry({ message }, ms) {
        clearInterval(counting);
        complain(message);
        keep({ ...wish, trying: true });
        draw();
        const due = Date.now() + ms;
        const show = () => {
          const left = Math.ceil((due - Date.now()) / 1000);
          view.retry(`${left > 0 ? `Trying again in ${left} s.` : 'Trying again…'} Nothing is bought twice.`);
        };
        show();
        counting = setInterval(show, 500);
      },
    });
    if (mine !== session) return;
    complain();
    if (order.receipt) remember('receipts', { ...recall('receipts'), [order.id]: order.receipt });
    settle(order);
  } catch (problem) {
    if (mine !== session) return;
    keep({ ...wish, stage: problem.passing ? 'unsure' : 'refused' });
    pressed = -Infinity; // a press now repeats the same wish
    const p = stock.get(wish.product);
    const { type = '', available } = problem;
    if (p && type.endsWith('not-enough') && Number.isInteger(available)) p.available = available;
    const door = { 'sold-out': 'sold_out', paused: 'paused', 'not-open': 'not_open', closed: 'closed', stuck: 'stuck' }[type.split(':').at(-1)];
    if (problem.status === undefined) throw problem; // a fault of the page's own
    complain(problem.message, problem.status === 409 ? door : '');
  } finally {
    clearInterval(alive);
    clearInterval(counting);
    view.retry();
    if (sending === abort) sending = null;
    if (mine === session) announce(mine);
    draw();
  }
}

// complain shows why an order failed; without words, nothing is wrong any more.
function complain(words = '', door = '') {
  doored = door ?? '';
  view.error(words);
}

// ---- the form ----

function readQuantity() {
  const quantity = field.quantity.valueAsNumber;
  return Number.isInteger(quantity) && quantity >= 1 && quantity <= 1000 ? quantity : 0;
}

field.email.addEventListener('change', () => {
  const { email, error = '' } = readEmail(field.email.value);
  view.fieldError('email', field.email.value.trim() ? error : '');
  if (email) {
    field.email.value = email;
    know(email);
  } else if (!field.email.value.trim()) {
    know('');
  }
});
field.email.addEventListener('input', () => view.fieldError('email'));
field.remember.addEventListener('change', () => know(session.email));
field.product.addEventListener('change', () => {
  choose(field.product.value);
  complain();
  draw();
});
field.quantity.addEventListener('input', () => {
  view.fieldError('quantity');
  draw();
});
field.quantity.addEventListener('wheel', (event) => { // scrolls the page, never the amount
  event.preventDefault();
  scrollBy({ top: event.deltaY });
}, { passive: false });
for (const [id, step] of [['less', -1], ['more', 1]]) {
  view.el(id).addEventListener('click', () => {
    const { most } = mine();
    field.quantity.value = Math.min(1000, Math.max(1, step > 0 ? Math.min(readQuantity() + 1, Math.max(most, readQuantity(), 1)) : readQuantity() - 1));
    view.fieldError('quantity');
    draw();
  });
}
field.buy.addEventListener('blur', () => draw());
view.el('stop').addEventListener('click', () => sending?.abort());
view.el('forget').addEventListener('click', forget);
view.el('forget-too').addEventListener('click', forget);
view.el('start-over').addEventListener('click', () => {
  renew();
  complain();
  draw();
  field.buy.focus();
});
document.addEventListener('click', async ({ target }) => {
  const button = target.closest?.('[data-copy]');
  if (!button) return;
  const code = button.querySelector('code') ?? view.el('number-text');
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    view.news('The order number is copied.');
    button.classList.add('copied');
    setTimeout(() => button.classList.remove('copied'), 1500);
  } catch { // not a secure context: selected, it can be copied by hand
    getSelection().selectAllChildren(code);
  }
});

// ---- drawing ----

// mine is what the buyer has of the product on show, and may still have.
function mine() {
  const p = stock.get(showing());
  let got = 0;
  let waiting = 0;
  for (const o of session.orders.values()) {
    if (o.product !== showing()) continue;
    if (o.status === 'accepted') got += o.quantity;
    if (o.status === 'pending') waiting += o.quantity;
  }
  const room = p?.limit_per_buyer ? p.limit_per_buyer - got - waiting : Infinity;
  return { p, got, waiting, room, most: Math.min(room, p?.available ?? Infinity) };
}

// current is the wish as far as it is for the product on show.
function current() {
  return wish?.product === showing() ? wish : null;
}

function look(now = session.shop.now()) {
  const { p, got, room } = mine();
  return scenes.scene({
    phase, p, got, room, back, wish: current(), quantity: readQuantity(),
    state: p && scenes.saleState(p, now), opens: hour(p, now),
  });
}

// hour says when the product opens, in the buyer's zone and way of writing.
function hour(p, now) {
  if (!p?.opens_at) return null;
  const at = new Date(p.opens_at);
  const today = at.toDateString() === new Date(now).toDateString();
  const clock = at.toLocaleTimeString([], { hour: 'numeric', minute: '2-digit' });
  const day = at.toLocaleDateString([], { weekday: 'short', day: 'numeric', month: 'long' });
  const zone = new Intl.DateTimeFormat([], { timeZoneName: 'short' }).formatToParts(at).find((part) => part.type === 'timeZoneName').value;
  return {
    iso: p.opens_at,
    left: scenes.countdown(at - now),
    short: today ? `at ${clock}` : `${at.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${clock}`,
    long: `${day}, ${clock} ${zone}.`,
  };
}

let due = false;
function draw() {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    paint();
  });
}

function paint() {
  const now = session.shop.now();
  for (const p of stock.values()) changed(p, scenes.saleState(p, now));
  const { p, got, waiting } = mine();
  const state = p && scenes.saleState(p, now);
  const s = look(now);
  view.connection(lamp);
  view.poster({ phase, p, state, chip: s?.chip, stale: lamp === 'lost' });
  if (phase === 'ready') view.choice([...stock.values()], showing());
  const own = s?.card ? current() : null;
  if (s) view.panel(s, {
    hint: scenes.terms({ p, got, waiting }), known: session.email !== '',
    hour: hour(p, now), next: own?.stage === 'done' && nextURL(own.order),
  });
  if (wish) view.summary(`${scenes.count(wish.quantity)} × ${product(wish.product).name} for ${wish.email}`);
  view.status(own ? { ...(own.stage === 'line' ? { tone: 'pending', head: 'You are in line', text: scenes.sentence(own.order.message) } : { ...outcome(own.order), head: scenes.label(own.order.status) }), main: true } : said);
  view.orderNumber(own?.stage === 'done' ? own.order.id : undefined);
  const list = newestFirst();
  way(own?.stage === 'line' ? own : null, list);
  view.orders(list.slice(0, SHOWN), { email: session.email, ahead: ahead(list), product });
  title(own?.stage === 'line' ? scenes.wait(line(own.order, list)).place : '');
  arm(now);
}

// line is the shop's word on a pending order. A line frame speaks of the
// buyer's foremost order of a product; what stands behind that has no figure.
function line(order, list) {
  const foremost = list.findLast((o) => o.status === 'pending' && o.product === order.product);
  if (foremost && foremost.id !== order.id) return undefined;
  return session.lines.get(order.product) ?? (Number.isInteger(order.ahead) ? order : undefined);
}

// way shows the way through the line, and says it at its beginning, half way
// and at its end.
function way(own, list) {
  if (!own) return view.wait(null);
  const frame = line(own.order, list);
  const words = scenes.wait(frame);
  const left = frame?.ahead;
  const all = Math.max(own.from ?? 0, left ?? 0);
  if (left !== undefined) {
    const step = left === 0 ? 3 : left * 2 <= all && all > 3 ? 2 : 1;
    if (all !== own.from || step > (own.step ?? 0)) {
      if (step > (own.step ?? 0)) view.news([words.place, words.eta].filter(Boolean).join(', '));
      keep({ ...own, from: all, step });
    }
  }
  view.wait(words, left === undefined ? 0 : left === 0 ? 1 : 1 - left / all);
}

function ahead(list) {
  return (order) => {
    const n = line(order, list)?.ahead;
    if (n === undefined) return { label: 'In line', value: '…', text: scenes.sentence(order.message) };
    return { label: 'Ahead', value: scenes.count(n), text: n === 0 ? 'You are next.' : `${scenes.count(n)} ahead of you.` };
  };
}

// nextURL is where the shop goes on with an approved order.
function nextURL(order) {
  const to = stock.get(order.product)?.next_url;
  if (order.status !== 'accepted' || !to) return '';
  const next = new URL(to, home);
  if (!/^https?:$/.test(next.protocol)) return '';
  next.searchParams.set('order', order.id);
  const receipt = order.receipt ?? recall('receipts')?.[order.id];
  if (receipt) next.searchParams.set('receipt', receipt);
  return next.href;
}

// ---- the title: what happened, until it was seen ----

let news = '';
let stale = 0;
function headline(words) {
  news = words;
  seen();
  draw();
}
function seen() {
  clearTimeout(stale);
  if (news && !document.hidden) stale = setTimeout(() => { news = ''; draw(); }, SEEN);
}
function title(waiting) {
  const about = stock.has(showing()) ? product(showing()).name : '';
  const words = [news || waiting, about, 'firstcome'].filter(Boolean).slice(0, 2).join(' · ');
  if (document.title !== words) document.title = words;
}

// ---- what the browser remembers ----

// The tab remembers (sessionStorage); the device (localStorage) only an address
// that somebody asked it to. Storage may be forbidden: the page then forgets.
const device = () => localStorage;
function remember(slot, value, shelf = () => sessionStorage) {
  try {
    if (value === null) shelf().removeItem(`firstcome.${slot}`);
    else shelf().setItem(`firstcome.${slot}`, JSON.stringify(value));
  } catch { /* as said */ }
}
function recall(slot, shelf = () => sessionStorage) {
  try { return JSON.parse(shelf().getItem(`firstcome.${slot}`)); } catch { return null; }
}

document.addEventListener('visibilitychange', () => { seen(); draw(); });
addEventListener('pagehide', () => { if (wish) keep(wish); });
addEventListener('pageshow', ({ persisted }) => persisted && draw());

// ---- the beginning ----

const lasting = recall('email', device);
const email = recall('email') ?? lasting ?? '';
const old = recall('wish');
field.remember.checked = Boolean(lasting);
field.email.value = email;
begin(email);
if (old && old.email === email) {
  wish = old;
  if (wish.stage !== 'done' || !wanted) wanted = old.product;
  field.quantity.value = old.quantity;
  if (wish.stage === 'sending') {
    if (Date.now() - old.touched < GONE) send(); // a reload came between the order and its answer
    else keep({ ...wish, stage: 'unsure' });
  } else if (wish.stage === 'done') { // it was seen, and the page begins anew
    setTimeout(() => { if (wish?.stage === 'done') { renew(); field.quantity.value = 1; draw(); } }, Math.max(0, old.seen + SETTLED - Date.now()));
  }
}
draw();
