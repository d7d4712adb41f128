// Package saletest holds a fake of every contract in package sale, faults to
// inject into their calls, and one conformance suite per contract that the fakes
// and the real ones both pass: what the worker is tested on is what it runs on.
//
//	sale.Worker ──► Faults ──► Orders, History, DeadLetters, Announcer
//
// Faults wraps any implementation, so the same crashes can be played on a broker.
// The fakes keep time with package time only and run in a testing/synctest bubble.
package saletest
