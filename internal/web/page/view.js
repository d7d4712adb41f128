// Everything the page draws. Text from outside only ever becomes text nodes,
// and no style is written as an attribute: the page's CSP forbids it.

const el = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const TICKS = 50; // up to so many units the gauge shows each one

const SALE = { // how a product's state reads; a button's text where it cannot be bought
  open: {
    chip: 'On sale now',
    headline: 'Get yours',
    lead: 'Strictly first come, first served. Your place in line is yours as soon as the order is in.',
  },
  sold_out: {
    chip: 'Sold out',
    headline: 'All gone',
    lead: 'Keep this page open: should stock come back, the button comes back with it.',
    button: 'Sold out',
  },
  paused: {
    chip: 'Paused',
    headline: 'Hold on',
    lead: 'The sale is taking a break. Orders already in line keep their place.',
    button: 'Sale is paused',
  },
  not_open: {
    chip: 'Opens soon',
    headline: 'Almost there',
    lead: 'The sale has not opened yet. The button wakes up by itself when it does.',
    button: 'Not open yet',
  },
  closed: {
    chip: 'Closed',
    headline: 'That was it',
    lead: 'The sale is over. Your orders and their outcomes stay below.',
    button: 'Sale is closed',
  },
};

const ORDER = {
  pending: 'In line',
  accepted: 'Approved',
  sold_out: 'Sold out',
  limit_reached: 'Limit reached',
};

const CONNECTION = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  live: 'Live',
  reconnecting: 'Reconnecting…',
};

// title makes a name of a product id, which is all that the shop knows of it.
export function title(id) {
  const words = id.replace(/[-_]+/g, ' ').replace(/\bt ?shirt/, 't-shirt').trim() || id;
  return words[0].toUpperCase() + words.slice(1);
}

// saleState is the state as the freshest figure has it: line frames bring the
// stock sooner than the product's own state is asked for again.
export function saleState({ state, available }) {
  if (state === 'open' && available <= 0) return 'sold_out';
  if (state === 'sold_out' && available > 0) return 'open';
  return state;
}

export function connection(state) {
  const box = document.querySelector('.connection');
  box.dataset.state = state;
  el('connection-text').textContent = CONNECTION[state];
}

// shop shows what there is besides a product: phase is loading, ready, empty
// or offline.
export function shop(phase) {
  el('shop').dataset.phase = phase;
  if (phase === 'ready') return;
  const words = {
    loading: ['Loading', 'Counting the stock…'],
    empty: ['Nothing on sale', 'Come back for the next drop.'],
    offline: ['No connection', 'The shop cannot be reached. Trying again…'],
  }[phase];
  el('poster').dataset.state = phase;
  el('state-chip').textContent = words[0];
  el('available').textContent = '–';
  el('stock-rest').textContent = words[1];
}

export function choice(list, chosen) {
  const select = el('product');
  const ids = list.map((p) => p.id);
  if (ids.join() !== [...select.options].map((o) => o.value).join()) {
    select.replaceChildren(...ids.map((id) => new Option(title(id), id)));
  }
  select.value = chosen;
  el('product-field').hidden = ids.length < 2;
}

export function product(p, { stale }) {
  const state = saleState(p);
  const poster = el('poster');
  poster.dataset.state = state;
  poster.dataset.product = p.id;
  const words = SALE[state] ?? { ...SALE.paused, chip: state };
  el('state-chip').textContent = words.chip;
  el('headline').textContent = words.headline;
  el('lead').textContent = words.lead;
  el('art').setAttribute('href', /shirt|tee/.test(p.id) ? '#art-shirt' : '#art-parcel');
  el('product-name').textContent = title(p.id);
  number(el('available'), p.available);
  el('stock-rest').textContent = `of ${p.supplied.toLocaleString('en')} left`;
  const waiting = p.waiting > 0 ? `${p.waiting.toLocaleString('en')} waiting in line` : '';
  el('waiting').textContent = stale ? 'No news from the shop' : waiting;
  gauge(p);
}

function number(node, value) {
  const text = value.toLocaleString('en');
  if (node.textContent === text) return;
  const first = node.textContent === '–';
  node.textContent = text;
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

// button says what a press would do, or why it does nothing.
export function button({ phase, state, quantity, sending }) {
  const open = phase === 'ready' && state === 'open';
  el('buy').disabled = !open || sending;
  el('buy').toggleAttribute('data-sending', sending);
  let text = { loading: 'Loading…', empty: 'Nothing on sale', offline: 'Waiting for the shop…' }[phase];
  if (phase === 'ready') text = (SALE[state] ?? SALE.paused).button ?? (quantity > 1 ? `Buy ${quantity} now` : 'Buy now');
  el('buy-text').textContent = sending ? 'Sending…' : text;
  for (const id of ['email', 'quantity']) el(id).readOnly = sending;
  for (const id of ['product', 'less', 'more']) el(id).disabled = sending;
}

// fieldError marks a field as wrong, or right again without a text.
export function fieldError(id, text = '') {
  el(id).setAttribute('aria-invalid', text ? 'true' : 'false');
  el(`${id}-error`).textContent = text;
  el(`${id}-error`).hidden = !text;
}

// error takes the place of what was said before: an order that failed beside
// the good news of an earlier one would read as a contradiction.
export function error(text = '') {
  if (el('error').textContent === text) return;
  el('error').textContent = text;
  if (text) status();
}

// silent is a page that says nothing about any order.
export function silent() {
  return !el('error').hasChildNodes() && !el('status').hasChildNodes();
}

// retry counts down to the next attempt; without a text it is gone.
export function retry(text = '') {
  el('retry').hidden = !text;
  el('retry-text').textContent = text;
}

export function quantityHint(quantity, p) {
  const tooMany = p && saleState(p) === 'open' && quantity > p.available;
  el('quantity-hint').hidden = !tooMany;
  el('quantity-hint').textContent = tooMany ? `Only ${p.available} left. An order is filled whole or not at all.` : '';
}

// status is the page's voice: a screen reader says what it shows.
export function status(tone, head, text) {
  const box = el('status');
  if (!head) {
    box.replaceChildren();
    return;
  }
  const strong = document.createElement('strong');
  strong.textContent = head;
  const line = document.createElement('span');
  line.textContent = text;
  box.dataset.tone = tone;
  box.replaceChildren(strong, ' ', line);
  if (!calm.matches) box.animate([{ opacity: 0, transform: 'translateY(6px)' }, { opacity: 1, transform: 'none' }], { duration: 260, easing: 'ease-out' });
}

// outcome puts one order into the status region.
export function outcome(order) {
  const place = order.place ? ` You were number ${order.place.toLocaleString('en')} in line.` : '';
  status(order.status, `${label(order.status)} · ${title(order.product)}`, `${sentence(order.message)}${place}`);
}

// outcomes sums up several orders that were decided together.
export function outcomes(list) {
  const count = new Map();
  for (const { status: s } of list) count.set(s, (count.get(s) ?? 0) + 1);
  const words = [...count].map(([s, n]) => `${n} ${label(s).toLowerCase()}`).join(', ');
  status(count.has('accepted') ? 'accepted' : list[0].status, `${list.length} orders`, `${words}.`);
}

// orders draws the buyer's orders, newest first. ahead(order) says in words
// how the line stands for a pending one; email is '' while nobody is known.
export function orders(list, { email, ahead }) {
  const box = el('orders');
  const rows = new Map([...box.children].map((row) => [row.dataset.orderId, row]));
  list.forEach((order, i) => {
    let row = rows.get(order.id);
    if (!row) {
      row = el('ticket').content.firstElementChild.cloneNode(true);
      row.dataset.orderId = order.id;
    }
    rows.delete(order.id);
    fill(row, order, ahead);
    if (box.children[i] !== row) box.insertBefore(row, box.children[i] ?? null);
  });
  for (const row of rows.values()) row.remove();
  const empty = list.length === 0;
  el('orders-empty').hidden = !empty;
  el('orders-empty').textContent = email
    ? `No orders for ${email} yet. The next one shows up here and follows its place in line.`
    : 'Enter your email to see your orders here, live.';
  const approved = list.filter((o) => o.status === 'accepted').reduce((n, o) => n + o.quantity, 0);
  el('orders-note').textContent = empty ? '' : `${list.length} ${list.length === 1 ? 'order' : 'orders'} · ${approved} ${approved === 1 ? 'unit' : 'units'} yours`;
}

function fill(row, order, ahead) {
  const pending = order.status === 'pending';
  const part = (name, text) => {
    const node = row.querySelector(`.${name}`);
    if (node.textContent !== text) node.textContent = text;
  };
  const line = pending ? ahead(order) : null;
  row.dataset.status = order.status;
  part('stub-label', pending ? line.label : 'Place');
  part('stub-value', pending ? line.value : order.place ? order.place.toLocaleString('en') : '–');
  part('ticket-product', title(order.product));
  part('ticket-quantity', `× ${order.quantity}`);
  part('ticket-state', label(order.status));
  part('ticket-message', pending ? line.text : sentence(order.message));
  part('ticket-meta', meta(order));
  row.title = `Order ${order.id}`;
}

function meta({ id, placed_at: placed, decided_at: decided }) {
  const time = new Date(placed).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const took = decided ? (Date.parse(decided) - Date.parse(placed)) / 1000 : NaN;
  const waited = took >= 0 ? ` · decided in ${took < 60 ? `${took.toFixed(took < 10 ? 1 : 0)} s` : `${Math.round(took / 60)} min`}` : '';
  return `Placed ${time}${waited} · №\u00a0${id.slice(-6)}`;
}

function label(status) {
  return ORDER[status] ?? status.replace(/_/g, ' ');
}

function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}
