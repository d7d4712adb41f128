// What the page says and offers, as a function of what it knows: one headline
// and one action for each state. Nothing here touches the document.

const SALE = {
  open: { chip: 'On sale now' },
  sold_out: {
    chip: 'Sold out', headline: 'All gone', button: 'Sold out',
    lead: 'Keep this page open: should stock come back, the button comes back with it.',
  },
  paused: {
    chip: 'Paused', headline: 'Hold on', button: 'Sale is paused',
    lead: 'The sale is taking a break. Orders already in line keep their place.',
  },
  stuck: {
    chip: 'Delayed', headline: 'One moment', button: 'Sale is delayed',
    lead: 'Orders are not being decided right now. What is in line keeps its place.',
  },
  not_open: {
    chip: 'Opens soon', headline: 'Almost there', button: 'Not open yet',
    lead: 'The button wakes up by itself.',
  },
  closed: {
    chip: 'Closed', headline: 'That was it', button: 'Sale is closed',
    lead: 'The sale is over. Your orders and their outcomes stay below.',
  },
};

const NO_PRODUCT = {
  empty: { chip: 'Nothing on sale', headline: 'Nothing on sale', lead: 'Come back for the next drop.', button: 'Nothing on sale' },
  offline: { chip: 'No connection', headline: 'No connection', lead: 'The shop cannot be reached. Trying again…', button: 'Waiting for the shop…' },
};

const ORDER = { pending: 'In line', accepted: 'Approved', sold_out: 'Sold out', limit_reached: 'Limit reached' };

export const count = (n) => n.toLocaleString('en');
export const sentence = (text) => (/[.!?…]$/.test(text) ? text : `${text}.`);
export const label = (status) => ORDER[status] ?? status.replace(/_/g, ' ');

// name makes a name of a product's id where the shop gave it none.
export function name({ id, title }) {
  if (title) return title;
  const words = id.replace(/[-_]+/g, ' ').replace(/\bt ?shirt/, 't-shirt').trim() || id;
  return words[0].toUpperCase() + words.slice(1);
}

export function ordinal(n) {
  const tail = n % 100 > 10 && n % 100 < 14 ? 'th' : { 1: 'st', 2: 'nd', 3: 'rd' }[n % 10] ?? 'th';
  return count(n) + tail;
}

// span puts seconds into words, rounded as one would say them.
export function span(s) {
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

// countdown shows what is left as a clock does: 4:07, 1:04:07, 3 days.
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  if (s >= 48 * 3600) return `${Math.floor(s / 86400)} days`;
  const two = (n) => String(n).padStart(2, '0');
  const minutes = Math.floor(s / 60);
  const hours = Math.floor(minutes / 60);
  return `${hours ? `${hours}:${two(minutes % 60)}` : minutes}:${two(s % 60)}`;
}

// saleState is a product's state at an instant of the server's clock: the page
// wakes by the hour, and figures of the line come before those of the product.
export function saleState({ state, available, opens_at: opens, closes_at: closes }, now) {
  if (state === 'not_open' && opens && now >= Date.parse(opens)) state = 'open';
  if (['open', 'sold_out'].includes(state)) {
    if (closes && now >= Date.parse(closes)) return 'closed';
    return available > 0 ? 'open' : 'sold_out';
  }
  return state;
}

// scene: phase is loading, ready, empty or offline; p is the product and state
// its state; wish is the order that the buyer is about, or null; got and room
// are the units that the buyer has and may still have. It is null while the page
// stands as the shop rendered it: that can be bought from, too.
export function scene({ phase, p, state, wish, got, room, quantity, back, opens }) {
  if (phase === 'loading' && !wish) return null;
  if (NO_PRODUCT[phase]) {
    const { button, ...words } = NO_PRODUCT[phase];
    return { ...words, form: true, amount: true, card: false, button: { text: button } };
  }
  const words = SALE[state] ?? { ...SALE.paused, chip: label(state ?? '') };
  const open = state === 'open';
  const shut = room <= 0 && open ? 'Limit reached' : words.button;
  switch (wish?.stage) {
    case 'sending':
      return {
        chip: words.chip, headline: 'Sending your order', lead: 'It takes its place in line.',
        form: !wish.trying, amount: !wish.trying, summary: wish.trying, button: { text: 'Sending…', busy: true },
      };
    case 'unsure':
      return {
        chip: words.chip, headline: 'Did your order get in?', summary: true,
        lead: 'The shop has not answered it. Sending it again cannot buy twice: if it is in, you see it here.',
        button: { text: 'Send it again', does: 'resend' }, over: true,
      };
    case 'line':
      return { chip: words.chip, card: true, summary: true, button: { text: 'You are in line' } };
    case 'done': {
      const again = wish.order.status === 'accepted' ? 'Buy another' : 'Try again';
      return { chip: words.chip, card: true, summary: true, button: shut ? { text: shut } : { text: again, does: 'again', quiet: true } };
    }
  }
  const form = { chip: words.chip, form: true };
  if (state === 'not_open' && opens) {
    return { ...form, headline: `Opens in ${opens.left}`, lead: words.lead, hour: true, amount: true, button: { text: `Opens ${opens.short}` } };
  }
  if (!open) {
    return { ...form, headline: words.headline, lead: words.lead, amount: ['not_open', 'paused', 'stuck'].includes(state), button: { text: shut } };
  }
  if (room <= 0) {
    return { ...form, headline: got > 0 ? `You have your ${count(got)}` : 'You are in line', lead: `The limit is ${count(p.limit_per_buyer)} for each buyer.`, button: { text: shut } };
  }
  const most = Math.min(p.available, room);
  let button = { text: quantity > 1 ? `Buy ${count(quantity)} now` : 'Buy now', does: 'buy' };
  if (quantity > most) button = { text: most === p.available ? `Only ${count(most)} left` : `Only ${count(most)} more for you` };
  let headline = got > 0 ? `${got === 1 ? 'One is' : `${count(got)} are`} yours` : 'Get yours';
  if (back) headline = 'Back in stock';
  const lead = got > 0 && room < Infinity
    ? `You can have ${count(room)} more.`
    : 'Strictly first come, first served. Your place in line is yours as soon as the order is in.';
  return { ...form, headline, lead, amount: true, button };
}

// terms is what there is to know about the amount before the press.
export function terms({ p, got, waiting }) {
  if (!p?.limit_per_buyer) return '';
  const have = [got > 0 && `you have ${count(got)}`, waiting > 0 && `${count(waiting)} in line`].filter(Boolean).join(', ');
  return `Limit ${count(p.limit_per_buyer)} for each buyer${have ? `: ${have}` : ''}.`;
}

// wait puts a place in line into words; line is a frame of the shop, or undefined.
export function wait(line) {
  if (line?.ahead === undefined) return { place: 'In line', rest: '' };
  const eta = line.eta_s > 0 ? `about ${span(line.eta_s)}` : '';
  const left = Number.isInteger(line.available) ? `${count(line.available)} left` : '';
  return { place: line.ahead === 0 ? 'You are next' : `${ordinal(line.ahead + 1)} in line`, eta, rest: [eta, left].filter(Boolean).join(' · ') };
}
