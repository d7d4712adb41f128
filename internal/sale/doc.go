// Package sale is the rule: who gets what, in which order, and how anyone can
// check it afterwards. It needs only the standard library, so the promise can be
// read and tested without a broker.
//
// The promise, by the numbers that comments and tests cite:
//
//	P1 No oversell: units in accepted orders never exceed the units supplied.
//	P2 Strict order: orders of a product are decided in queue order; an earlier
//	   one is never refused for lack of stock that a later one gets, save where
//	   quantity, a per-buyer limit or a restock between them explains it.
//	P3 No acknowledged order is lost: what the queue stored reaches an outcome.
//	P4 Exactly one final outcome per order, and it never changes.
//	P5 No undersell: stock that exists is sold while someone waits for it.
//	P6 The outcome reaches the buyer: live, on reconnect, and by GET.
//	P7 Nobody reads another buyer's orders.
//	P8 The history explains the stock: the ledger alone is enough to recompute it.
//
// The way of a group of orders through the Worker:
//
//	Queue ──► Worker.settle ──► Decide (pure)
//	              │
//	              ▼
//	         Stocks.Replace      the point of no return: one compare-and-swap holds
//	              │              the stock and, whole, the entry last applied to it
//	              ├──► Book.Apply ──► Announcer ──► Dead ──► Ack
//	              ▼
//	         Ledger.Append       while the next message is on its way, and for
//	                             certain before the next swap
//
// Every step after the swap may be repeated without effect, and the swap alone is
// enough to repeat it: a crash anywhere is repaired by the queue's redelivery, or
// by the next worker that looks at the stock value, on the normal path.
package sale
