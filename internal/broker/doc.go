// Package broker is everything that is asked of NATS, and the only place where a
// stream, a subject or a revision has a name.
//
//	         Intake ──orders.<product>──► ORDERS ──► Queue ──► (the worker)
//	                                        │ republished as line.<product>
//	                                        ▼
//	(the book) ◄── Follower ◄── LEDGER ◄── Ledger ◄── (the worker) ──► Stocks ──► KV stock
//	(the web)  ◄── Shop ◄────────────────────────────────────────────────── watch ──┘
//	(the hub)  ◄── Subscribe ◄── status.<email>.<order> ◄── Announcer
//
// Names and settings are those that README.md in this folder documents, for whoever
// looks with the nats CLI.
package broker
