// Package natsd runs a NATS server with JetStream inside this process.
//
// It is the whole broker of a one-machine sale, and with Config.ConfigFile a
// node of a cluster that several processes form themselves. Either way the
// rest of the program sees an ordinary NATS server and cannot tell it from an
// external one: natsd hands out a URL and an in-process connection, nothing
// else.
//
//	Start ──► lock ──► recover JetStream ──► accept clients ──► ready
//	Stop  ──► refuse clients ──► close JetStream ──► unlock ──► Done
//
// Every write is fsynced unless the configuration says otherwise, because a
// 202 promises that an order survives a power failure (P3).
package natsd
