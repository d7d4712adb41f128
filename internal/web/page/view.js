// Everything the page draws. Text from outside only ever becomes text nodes,
// and no style is written as an attribute: the page's CSP forbids it.

import { count, label, name, sentence } from './scene.js';

export const el = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const TICKS = 50; // up to so many units the gauge shows each one

const CONNECTION = { connecting: 'Connecting…', live: 'Live', lost: 'Reconnecting…' };

function text(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

function show(node, words) {
  text(node, words);
  node.hidden = !words;
}

export function connection(state) {
  document.querySelector('.connection').dataset.state = state;
  text(el('connection-text'), CONNECTION[state]);
}

export function choice(list, chosen) {
  const select = el('product');
  const names = (options) => options.map(([id, title]) => `${id} ${title}`).join('\n');
  const want = list.map((p) => [p.id, name(p)]);
  if (names(want) !== names([...select.options].map((o) => [o.value, o.text]))) {
    select.replaceChildren(...want.map(([id, title]) => new Option(title, id)));
  }
  select.value = chosen;
  el('product-field').hidden = want.length < 2;
}

// poster is the left half: the product, and how much of it is left.
export function poster({ phase, p, state, chip, stale }) {
  el('shop').dataset.phase = phase;
  if (phase === 'loading') return; // as rendered
  const box = el('poster');
  box.dataset.state = phase === 'ready' ? state : phase;
  text(el('state-chip'), chip);
  if (phase !== 'ready') {
    text(el('stock-rest'), '');
    return;
  }
  box.dataset.product = p.id;
  text(el('product-name'), name(p));
  text(el('price'), p.price ?? '');
  text(el('about'), p.description ?? '');
  el('art-use').setAttribute('href', /shirt|tee/.test(p.id) ? '#art-shirt' : '#art-parcel');
  const photo = el('photo');
  if (p.image && photo.getAttribute('src') !== p.image) photo.src = p.image;
  photo.hidden = !p.image;
  el('art').classList.toggle('gone', Boolean(p.image));
  number(el('available'), p.available);
  text(el('stock-rest'), `of ${count(p.supplied)} left`);
  text(el('waiting'), stale ? 'No news from the shop' : p.waiting > 0 ? `${count(p.waiting)} waiting in line` : '');
  gauge(p);
}

function number(node, value) {
  const words = count(value);
  if (node.textContent === words) return;
  const first = !/^\d/.test(node.textContent);
  node.textContent = words;
  if (first || calm.matches) return;
  node.animate([{ opacity: 0.2, transform: 'translateY(-0.16em)' }, { opacity: 1, transform: 'none' }], { duration: 320, easing: 'ease-out' });
}

function gauge({ available, supplied }) {
  const box = el('gauge');
  const left = Math.max(0, Math.min(available, supplied));
  box.setAttribute('aria-valuemax', Math.max(supplied, 1));
  box.setAttribute('aria-valuenow', left);
  box.setAttribute('aria-valuetext', `${left} of ${supplied} left`);
  box.dataset.available = available;
  box.dataset.supplied = supplied;
  const ticks = supplied > 0 && supplied <= TICKS;
  const parts = ticks ? supplied : 1;
  box.dataset.kind = ticks ? 'ticks' : 'bar';
  while (box.children.length > parts) box.lastChild.remove();
  while (box.children.length < parts) box.append(document.createElement('i'));
  [...box.children].forEach((part, i) => {
    part.classList.toggle('gone', ticks && i >= left);
    part.style.transform = ticks || supplied === 0 ? '' : `scaleX(${left / supplied})`;
  });
}

// panel is the right half: the words, the parts that are there, the action.
export function panel(s, { hint, known, hour, next }) {
  const focused = document.activeElement;
  el('say').hidden = !s.headline;
  if (s.headline) {
    text(el('headline'), s.headline);
    text(el('lead'), s.lead);
    text(el('hour'), s.hour ? hour.long : '');
    if (s.hour) el('hour').dateTime = hour.iso;
  }
  el('buy-form').toggleAttribute('data-card', Boolean(s.card));
  el('email-field').hidden = !s.form;
  if (s.over) el('product-field').hidden = true;
  el('amount-field').hidden = !s.amount;
  show(el('quantity-hint'), hint);
  el('forget').hidden = !known || s.button.busy;
  el('forget-too').hidden = Boolean(s.button.busy);
  el('summary').hidden = !s.summary;
  el('over').hidden = !s.over;
  el('next').hidden = !next;
  if (next) el('next').href = next;
  for (const id of ['email', 'quantity']) el(id).readOnly = Boolean(s.button.busy);
  for (const id of ['product', 'less', 'more', 'remember']) el(id).disabled = Boolean(s.button.busy);
  button(s.button);
  // What had the focus may be gone; the button never is.
  if (focused?.matches('#buy-form *') && focused.offsetParent === null) {
    el('buy').disabled = false;
    el('buy').focus({ preventScroll: true });
  }
}

// button says what a press does, or why it does nothing. It is not disabled
// while it has the focus, which would fall to the page's top.
function button({ text: words, does = '', busy = false, quiet = false }) {
  const node = el('buy');
  text(el('buy-text'), words);
  node.setAttribute('aria-disabled', String(!does));
  node.disabled = !does && document.activeElement !== node;
  node.toggleAttribute('data-sending', busy);
  node.toggleAttribute('data-quiet', quiet);
}

export function summary(words) {
  text(el('summary-text'), words);
}

// fieldError marks a field as wrong, or right again without words.
export function fieldError(id, words = '') {
  el(id).setAttribute('aria-invalid', words ? 'true' : 'false');
  show(el(`${id}-error`), words);
}

export function error(words = '') {
  text(el('error'), words);
}

// retry counts down to the next attempt; without words it is gone.
export function retry(words = '') {
  show(el('retry-text'), words);
  el('retry').hidden = !words;
}

// status is what became of an order; a screen reader says what it shows.
export function status(said) {
  const box = el('status');
  const words = said ? `${said.head} ${said.text}` : '';
  if (box.textContent === words) return;
  el('outcome').dataset.tone = said?.tone ?? '';
  box.replaceChildren();
  if (!said) return;
  const head = document.createElement(said.main ? 'h2' : 'strong');
  head.textContent = said.head;
  const line = document.createElement('span');
  line.textContent = said.text;
  box.append(head, ' ', line);
  if (!calm.matches) box.animate([{ opacity: 0, transform: 'translateY(6px)' }, { opacity: 1, transform: 'none' }], { duration: 260, easing: 'ease-out' });
}

// wait shows the way through the line; share is what lies behind, from 0 to 1.
export function wait(words, share = 0) {
  el('wait').hidden = !words;
  if (!words) return;
  text(el('wait-place'), words.place);
  text(el('wait-rest'), words.rest);
  const bar = el('wait-bar');
  bar.setAttribute('aria-valuenow', Math.round(share * 100));
  bar.setAttribute('aria-valuetext', [words.place, words.eta].filter(Boolean).join(', '));
  bar.firstElementChild.style.transform = `scaleX(${Math.max(share, 0.02)})`;
}

export function orderNumber(id) {
  el('number').hidden = !id;
  text(el('number-text'), id ?? '');
  el('number-copy').dataset.copy = id ?? '';
}

// news is said to a screen reader, and not shown: the page shows it otherwise.
export function news(words) {
  el('news').textContent = words;
}

// orders draws the buyer's orders, newest first. ahead(order) says in words how
// the line stands for a pending one; next(order) is where an approved one goes on.
export function orders(list, { email, ahead, product }) {
  const box = el('orders');
  const rows = new Map([...box.children].map((row) => [row.dataset.order, row]));
  list.forEach((order, i) => {
    let row = rows.get(order.id);
    if (!row) {
      row = el('ticket').content.firstElementChild.cloneNode(true);
      row.dataset.order = row.dataset.orderId = order.id;
      const copy = row.querySelector('.copy');
      copy.dataset.copy = order.id;
      copy.querySelector('code').textContent = order.id;
    }
    rows.delete(order.id);
    fill(row, order, ahead, product);
    if (box.children[i] !== row) box.insertBefore(row, box.children[i] ?? null);
  });
  for (const row of rows.values()) row.remove();
  const empty = list.length === 0;
  el('orders-empty').hidden = !empty;
  text(el('orders-empty'), email
    ? `No orders for ${email} yet. The next one shows up here and follows its place in line.`
    : 'Enter your email to see your orders here, live.');
  const yours = list.filter((o) => o.status === 'accepted').reduce((n, o) => n + o.quantity, 0);
  text(el('orders-note'), empty ? '' : `${list.length} ${list.length === 1 ? 'order' : 'orders'} · ${count(yours)} ${yours === 1 ? 'unit' : 'units'} yours`);
}

function fill(row, order, ahead, product) {
  const pending = order.status === 'pending';
  const part = (part, words) => text(row.querySelector(`.${part}`), words);
  const line = pending ? ahead(order) : null;
  row.dataset.status = order.status;
  part('stub-label', pending ? line.label : 'Place');
  part('stub-value', pending ? line.value : order.place ? count(order.place) : '–');
  part('ticket-product', name(product(order.product)));
  part('ticket-quantity', `× ${count(order.quantity)}`);
  part('ticket-state', label(order.status));
  part('ticket-message', pending ? line.text : sentence(order.message));
  part('ticket-time', time(order));
}

function time({ placed_at: placed, decided_at: decided }) {
  const at = new Date(placed).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const took = decided ? (Date.parse(decided) - Date.parse(placed)) / 1000 : NaN;
  return `Placed ${at}${took >= 0 ? ` · decided in ${took < 60 ? `${took.toFixed(took < 10 ? 1 : 0)} s` : `${Math.round(took / 60)} min`}` : ''}`;
}
