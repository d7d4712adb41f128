package web

// keptBack is how many file descriptors are not for buyers. A store that cannot open its
// next file is broken until a restart.
const keptBack = 200

// KeptBack is how many of this process's file descriptors are not for buyers, but for NATS
// connections, the operator's port and the files of the embedded server's store: keptBack,
// but at most half of them.
func KeptBack() int { return backOf(descriptors()) }

func backOf(limit uint64) int {
	if limit == 0 { // unknown
		return keptBack
	}
	return int(min(keptBack, limit/2))
}

// ConnectionRoom is how many connections this process may have open so that enough
// file descriptors are left, 0 if that is unknown.
func ConnectionRoom() int { return roomIn(descriptors()) }

func roomIn(limit uint64) int {
	const most = 1 << 30 // "unlimited" is no number of connections
	if limit == 0 {
		return 0
	}
	return int(min(limit, most)) - backOf(limit)
}

// socketRoom is how many of the connections may be sockets: a tenth, at least one, is
// for requests, since every open page has a socket and needs a connection to buy.
func socketRoom(connections int) int {
	if connections <= 0 {
		return maxSockets
	}
	return min(maxSockets, connections-max(1, connections/10))
}
