// Package sale is the rule: who gets what, in which order, and how anyone can
// check it afterwards. It needs only the standard library, so the promise can be
// read and tested without a broker.
//
// The promise, by the numbers that comments and tests cite:
//
//	P1  No oversell: units in accepted orders never exceed the units supplied.
//	P2  Strict order: orders of a product are decided in queue order; an earlier
//	    one is never refused for lack of stock that a later one gets, save where
//	    quantity, a per-buyer limit or a restock between them explains it.
//	P3  No acknowledged order is lost: what the queue stored reaches an outcome.
//	P4  Exactly one final outcome per order, and it never changes.
//	P5  No undersell: stock that exists is sold while someone waits for it.
//	P6  The outcome reaches the buyer: live, on reconnect, and by GET.
//	P7  Nobody reads another buyer's orders.
//	P8  The history explains the stock: from the bucket's history alone anyone can
//	    recompute every outcome, every restock, every change of terms, and the
//	    stock that is left.
//	P9  The same start for everyone: what a product is (open, paused, sold out, how
//	    many are left) reaches every open page when it changes, and a page wakes at
//	    the opening time to the server's clock, not at its next poll.
//	P10 One wish, one order: a double click, a held Enter key, a retry, a reload of
//	    the page never make a second order; a second order needs a second decision
//	    of the buyer.
//
// The way of a message, of orders or of the desk, through the Worker:
//
//	Queue ──► Worker.settle ──► Decide (pure)
//	              │
//	              ▼
//	        History.Append      the point of no return: one compare-and-swap stores
//	              │             the next link, which says what the message came to
//	              ▼
//	         Book.Apply         on every instance: by the feed, or by the worker
//	              │
//	              ▼
//	          Announcer ──► Dead ──► Ack
//
// One message is one link, also a message without a good line, and the links are the
// ledger. A crash before the append leaves no trace. Every step after it may be
// repeated without effect, and a redelivery walks the same road: the newest link says
// that its message is settled, and the book what it came to.
//
// The history holds other values, too: a key can be written, deleted and reverted by
// hand. A value that does not continue the chain changes nothing, and the next link
// hangs on the one before it.
package sale
