package web

// keptBack is how many file descriptors are not for buyers: NATS connections, files of
// the embedded server's store, the operator's port. A store that cannot open its next
// file is broken until a restart.
const keptBack = 200

// ConnectionRoom is how many connections this process may have open so that enough
// file descriptors are left, 0 if that is unknown: the limit without keptBack, but at
// least half of it.
func ConnectionRoom() int { return roomIn(descriptors()) }

func roomIn(limit uint64) int {
	const most = 1 << 30 // "unlimited" is no number of connections
	n := int(min(limit, most))
	return n - min(keptBack, n/2)
}

// socketRoom is how many of the connections may be sockets: a tenth, at least one, is
// for requests, since every open page has a socket and needs a connection to buy.
func socketRoom(connections int) int {
	if connections <= 0 {
		return maxSockets
	}
	return min(maxSockets, connections-max(1, connections/10))
}
