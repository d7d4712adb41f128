package web

import (
	"testing"
	"time"
)

// One buyer's sockets are bounded: the oldest makes room, and is told why. Deliveries
// go to those that stay.
func TestTheOldestSocketOfABuyerMakesRoom(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, func(c *Config) { c.SocketsPerBuyer = 2 })
	other := attend(t, s, addr, "other@b.de")
	first := attend(t, s, addr, "a@b.de")
	second := watch(t, addr, "A@b.de")
	third := watch(t, addr, "a@b.de")
	if f := first.next(); f.closedBy != 4429 {
		t.Errorf("the oldest gets %+v", f)
	}
	fourth := watch(t, addr, "a@b.de")
	if f := second.next(); f.closedBy != 4429 {
		t.Errorf("the next gets %+v", f)
	}
	awaitTrue(t, "those replaced are gone", func() bool { return s.Sockets() == 3 })
	third.ws.Close()
	awaitTrue(t, "one left by itself", func() bool { return s.Sockets() == 2 })
	fifth := watch(t, addr, "a@b.de") // in its place
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	broadcast(s, w.decide(t)...)
	for _, tab := range []*screen{fourth, fifth} {
		tab.wantOrder(id, "accepted")
	}
	mine := bought(t, buy(t, addr, orderBody("other@b.de")))
	broadcast(s, w.decide(t)...)
	other.wantOrder(mine, "accepted")
}

// A socket that makes room gets no deliveries while it is closing, however long its
// side takes, and a stop does not miss it.
func TestAReplacedSocketHoldsUpNothing(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, func(c *Config) { c.SocketsPerBuyer = 1 }, func(s *Server) { s.hub.timing.close = time.Minute })
	attend(t, s, addr, "a@b.de") // it does not read from here on, so it does not answer the close frame
	watch(t, addr, "a@b.de")
	s.hub.mu.Lock()
	mine, replaced, count := len(s.hub.buyers), len(s.hub.replaced), s.hub.count
	for _, sockets := range s.hub.buyers {
		if len(sockets) != 1 {
			t.Errorf("%d sockets get deliveries", len(sockets))
		}
	}
	s.hub.mu.Unlock()
	if mine != 1 || replaced != 1 || count != 2 {
		t.Errorf("%d buyers, %d replaced, %d sockets", mine, replaced, count)
	}
	s.hub.mu.Lock()
	for old := range s.hub.replaced {
		defer old.raw.abort() // else the test's end takes a minute
	}
	s.hub.mu.Unlock()
}

// Sockets from one address are bounded: the newest is refused.
func TestSocketsOfAnAddressAreBounded(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, func(c *Config) { c.SocketsPerAddress, c.TrustedProxies = 2, []string{"127.0.0.1"} })
	from := func(client string) int { return upgradeStatus(t, addr, []string{"X-Forwarded-For", client}) }
	first, second := watch(t, addr, "a@b.de"), watch(t, addr, "c@b.de")
	r := get(t, "http://"+addr+"/ws?email=x@b.de", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	refused(t, r, 429, "too-many-sockets", "5")
	if n := s.Stats().RefusedSockets; n != 1 {
		t.Errorf("%d refused", n)
	}
	if code := from("192.0.2.1"); code != 101 {
		t.Errorf("another address: %d", code)
	}
	first.ws.Close()
	awaitTrue(t, "a socket is gone", func() bool {
		s.hub.mu.RLock()
		defer s.hub.mu.RUnlock()
		return s.hub.addresses["127.0.0.1"] == 1
	})
	third := watch(t, addr, "a@b.de")
	second.ws.Close()
	third.ws.Close()
	awaitTrue(t, "nothing is kept of addresses without sockets", func() bool {
		s.hub.mu.RLock()
		defer s.hub.mu.RUnlock()
		return len(s.hub.addresses) == 0
	})

	// Of two that were let in at once, one is closed.
	late := &socket{hub: s.hub, address: "192.0.2.9"}
	s.hub.mu.Lock()
	s.hub.addresses["192.0.2.9"] = 2
	s.hub.mu.Unlock()
	if no := s.hub.add(late); no != closeTooMany {
		t.Errorf("%d", no)
	}
}
