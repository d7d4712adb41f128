// Package broker is everything that is asked of NATS, and the only place where a
// stream, a subject or a revision has a name.
//
//	Intake ──orders.<product>──► ORDERS ──► Queue ──► (the worker) ──► History ──► KV stock
//	Steer ─────desk.<product>──────►│                       │                         │
//	                                │                       ▼                         │
//	                 line.<subject> │                   Announcer                     │ ledger.<product>
//	                                │                       │ status.<email>.<order>  │
//	                                ▼                       ▼                         ▼
//	               (the book) ◄── Feed                  Subscribe ──► (the hub)     Feed ──► (the book)
//
// A worker's road is one: a message of ORDERS, one appended revision of the bucket, one
// acknowledgement. The bucket's revisions are the ledger. Both streams republish what
// they store, and a feed reads from the stream what it did not hear. Queue and history
// are compared whenever a queue is opened (Witnesses). Provision makes all of it, Verify
// only compares; Buy and Steer are what the commands do.
//
// Names and settings are those that README.md in this folder documents for use with the
// nats CLI.
package broker
