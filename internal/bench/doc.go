// Package bench measures a running firstcome from outside, and checks from
// outside what it promises. It speaks HTTP and WebSocket only and imports
// nothing of the product, so it can neither be helped by the server's own code
// nor share its mistakes.
//
//	mode     chosen by         arrivals                        sockets          headline figure
//	closed   (default)         each buyer waits for the        one a buyer      outcomes per second
//	                           outcome, then orders again
//	open     Rate              fixed: order n is due at n/Rate,  one a buyer    latency, counted from
//	                           late or not                                      when the order was due
//	flood    Flood             each connection as soon as it     none           orders decided per second,
//	                           has its answer; every order has                  first request to the
//	                           a buyer of its own                               backlog's end
//	refused  ExpectRefusals    as flood, on a sale that is       none           409 answers per second
//	                           sold out or otherwise shut;
//	                           an open one is an error
//
// Every mode ends after Orders or Duration, whichever comes first, and takes
// these besides: Idle sockets that are only held open, Baseline (below), Check.
//
// The baseline is a bare Fiber handler in a process of its own that parses the
// same body and answers 202 with a body of the same size and nothing behind it:
// the limit that an HTTP server of this kind cannot pass on this machine. Its
// load is the mode's own with request → answer only; half of it runs before the
// target's and half after, because machines drift and only what ran in the same
// minutes can be compared.
//
// Latencies are recorded in HdrHistograms. In the open loop they count from the
// moment when the order was due, so a stalled server cannot hide behind a
// generator that stalled with it (coordinated omission); orders that could not
// be sent in time are counted as missed.
//
// The generator shares its machine with the server, so it is thrifty: one
// goroutine and one persistent connection a buyer, requests rendered once,
// answers and frames scanned for the few fields that matter.
//
// Check asks for every order that was answered 202 by GET after the run, and
// compares with the sockets and with the product before and after: nothing
// lost (P3), one outcome each (P4), told to connected buyers (P6), no unit too
// many (P1) or too few (P5), decided in the order of the queue (P2), places
// distinct and without gaps. Two conditions loosen it: an order without an
// answer, or with a 5xx that does not settle it, may have been stored, and others
// who order meanwhile (Shared, or orders that waited before) take places and units
// too. Of the 503s, shutting-down, queue-full and shop-full settle it: nothing was
// stored.
package bench
