// A buyer's live feed: one WebSocket that is replaced whenever it is lost.

import { url } from './api.js';

const FIRST_DELAY = 250; // ms
const MAX_DELAY = 4_000; // ms
const TOO_MANY = 4429; // close code: the buyer opened more sockets than one may have
const HELLO_TIMEOUT = 8_000; // ms from dialling to the shop's hello

// backoff is the pause before attempt n (0, 1, 2 …), in ms: doubling up to
// the cap, with half of it random, so that a shop that restarts is not met
// by all its buyers in the same instant.
export function backoff(n) {
  const ceiling = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** Math.min(n, 10));
  return ceiling / 2 + Math.random() * (ceiling / 2);
}

// Feed follows one buyer's orders until close. State goes from connecting to
// live with the shop's hello, and to reconnecting whenever the socket is lost.
export class Feed {
  #email;
  #on;
  #socket = null;
  #timer = 0;
  #losses = 0;
  #dialled = false;
  #closed = false;

  // on: { state(name, serverTime), order(status), line(frame) }; serverTime comes
  // with live, as the shop's clock says it.
  constructor(email, on) {
    this.#email = email;
    this.#on = on;
    this.live = false;
    this.lastFrame = 0; // ms, as of Date.now()
    this.#dial();
  }

  // wake dials at once instead of waiting for the next attempt; with replace,
  // also when the present socket looks alive (after a change of network it
  // may be dead without knowing).
  wake({ replace = false } = {}) {
    if (this.#closed || (this.#socket && !replace)) return;
    this.#losses = 0;
    this.#dial();
  }

  close() {
    this.#closed = true;
    this.#drop();
  }

  #dial() {
    this.#drop();
    this.#on.state(this.#dialled ? 'reconnecting' : 'connecting');
    this.#dialled = true;
    const to = url(`/ws?email=${encodeURIComponent(this.#email)}`);
    to.protocol = to.protocol.replace('http', 'ws');
    const socket = new WebSocket(to);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(socket), HELLO_TIMEOUT);
    socket.onmessage = (event) => this.#read(socket, event.data);
    socket.onclose = ({ code }) => this.#lost(socket, code);
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    this.live = false;
    socket?.close();
  }

  #lost(socket, code) {
    if (socket !== this.#socket) return;
    this.#drop();
    this.#on.state('reconnecting');
    if (code === TOO_MANY) return; // another tab has the place, until this one is woken
    this.#timer = setTimeout(() => this.#dial(), backoff(this.#losses++));
  }

  #read(socket, data) {
    if (socket !== this.#socket) return;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      this.#lost(socket); // not our protocol: a fresh socket brings everything again
      return;
    }
    this.lastFrame = Date.now();
    switch (frame.type) { // other types come from a newer shop
      case 'hello':
        clearTimeout(this.#timer);
        this.#losses = 0;
        this.live = true;
        this.#on.state('live', frame.server_time);
        break;
      case 'order':
        this.#on.order(frame.order);
        break;
      case 'line':
        this.#on.line(frame);
        break;
    }
  }
}
