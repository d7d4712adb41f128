// Package audit recomputes a history and names every promise that it breaks (P1 to P5
// and P8, see package sale).
//
// A Replay is given the values of one product's key, and decides each link again from
// the link before, by sale's rule. Limits, hours and restocks are links like all others,
// so nothing is inferred: an outcome, a place or a figure is the rule's, or it is a
// finding. CheckQueue then holds the replays of all products against the queue.
//
// The package knows nothing of the Book, so that one mistake cannot hide in both, and
// nothing of NATS.
package audit
