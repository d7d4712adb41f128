package web

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

// A beat comes with each ping, to buyers and to watchers.
func TestABeatComesWithEachPing(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.ping, s.hub.timing.pong = 30*time.Millisecond, 10*time.Second })
	for _, query := range []string{"", "?email=a@b.de"} {
		tab := dialAt(t, addr, query)
		pings := 0
		tab.ws.SetPingHandler(func(text string) error {
			pings++
			return tab.ws.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(time.Second))
		})
		for beats := 0; beats < 3; {
			f := tab.any()
			if f.Type != "beat" {
				continue
			}
			beats++
			if at, err := time.Parse(time.RFC3339, f.ServerTime); err != nil || time.Since(at) > 5*time.Second {
				t.Errorf("%s", f.receivedRaw)
			}
			if pings < beats {
				t.Errorf("%d beats, %d pings", beats, pings)
			}
		}
	}
	if got := s.Stats(); got.Sockets != 2 || got.Watchers != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAnAnsweredPingKeepsAWatcher(t *testing.T) {
	_, addr := open(t, newTown(t, "tshirt"), nil, func(s *Server) { s.hub.timing.ping, s.hub.timing.pong = 50*time.Millisecond, 500*time.Millisecond })
	tab := peek(t, addr, "")
	for began := time.Now(); time.Since(began) < 1200*time.Millisecond; {
		if f := tab.any(); f.closedBy != 0 { // any answers pings
			t.Fatalf("%+v", f)
		}
	}
}

func TestAnUnansweredPingEndsAWatcher(t *testing.T) {
	s, addr := open(t, newTown(t, "tshirt"), nil, func(s *Server) { s.hub.timing.ping, s.hub.timing.pong = 25*time.Millisecond, 3*time.Millisecond })
	tab := dialAt(t, addr, "")
	tab.ws.SetPingHandler(func(string) error { return nil })
	var err error
	for err == nil {
		if e := tab.ws.SetReadDeadline(time.Now().Add(10 * time.Second)); e != nil {
			t.Fatal(e)
		}
		_, _, err = tab.ws.ReadMessage()
	}
	awaitTrue(t, "it is forgotten", func() bool { return s.Sockets() == 0 })
}

// What a watcher says is ignored, up to a bound.
func TestAWatcherMayTalk(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	tab := peek(t, addr, "")
	tab.product()
	if err := tab.ws.WriteMessage(websocket.TextMessage, make([]byte, maxIncoming)); err != nil {
		t.Fatal(err)
	}
	w.steer(t, "tshirt", paused(true))
	if p := tab.product(); p.State != "paused" {
		t.Errorf("%s", p.raw)
	}
	if err := tab.ws.WriteMessage(websocket.TextMessage, make([]byte, maxIncoming+1)); err != nil {
		t.Fatal(err)
	}
	if code := tab.any().closedBy; code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %d", code)
	}
}

// A watcher hears of no order (P7).
func TestAWatcherHearsOfNoOrder(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	tab := peek(t, addr, "")
	tab.product()
	bought(t, buy(t, addr, orderBody("a@b.de")))
	broadcast(s, w.decide(t)...)
	s.Refresh()
	for p := tab.product(); p.Sold == 0; p = tab.product() { // product fails on any order
		if strings.Contains(p.raw, "a@b.de") {
			t.Errorf("%s", p.raw)
		}
	}
}

// A watcher that does not read is cut off, and the others do not wait for it.
func TestASlowWatcherIsCutOff(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, func(c *Config) {
		c.Listings = []Listing{{Product: "tshirt", Description: strings.Repeat("x", maxText)}}
	})
	quick, slow := peek(t, addr, ""), peek(t, addr, "")
	quick.product()
	slow.product()
	s.hub.mu.RLock()
	var behind *watcher
	for one := range s.hub.wheel.all {
		if one.raw.RemoteAddr().String() == slow.ws.LocalAddr().String() {
			behind = one
		}
	}
	s.hub.mu.RUnlock()
	// The kernel's buffers fill up, then the write stalls.
	big := &productFrame{product: "tshirt", madeAt: time.Now().Add(time.Hour), message: prepare(t, strings.Repeat("x", 1<<20))}
	awaitTrue(t, "its write stalls", func() bool { behind.showProduct(big, nil); return behind.raw.stalled() })
	w.steer(t, "tshirt", paused(true))
	if p := quick.product(); p.State != "paused" {
		t.Errorf("%s", p.raw)
	}
	began := time.Now()
	awaitTrue(t, "the slow one is gone", func() bool { return s.Sockets() == 1 })
	if got := s.Stats(); got.SlowSockets != 1 || time.Since(began) > 2*flushTime {
		t.Errorf("%+v after %v", got, time.Since(began))
	}
	w.steer(t, "tshirt", paused(false))
	if p := quick.product(); p.State != "open" {
		t.Errorf("%s", p.raw)
	}
}

func prepare(t testing.TB, text string) *websocket.PreparedMessage {
	t.Helper()
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// Watchers count for their address.
func TestWatchersOfAnAddressAreBounded(t *testing.T) {
	s, addr := open(t, newTown(t, "tshirt"), func(c *Config) { c.SocketsPerAddress = 2 })
	first := peek(t, addr, "")
	watch(t, addr, "a@b.de")
	if code := upgradeStatusAt(t, "ws://"+addr+"/ws"); code != 429 {
		t.Errorf("a third socket: %d", code)
	}
	first.ws.Close()
	awaitTrue(t, "one is gone", func() bool { return s.Sockets() == 1 })
	peek(t, addr, "")
	late := &watcher{hub: s.hub, address: "127.0.0.1"} // let in at the same time
	if no := s.hub.addWatcher(late); no != closeTooMany {
		t.Errorf("%d", no)
	}
}

// A stop says goodbye to watchers, too, also to one that does not answer.
func TestAStopClosesWatchers(t *testing.T) {
	s, addr := open(t, newTown(t, "tshirt"), nil, func(s *Server) { s.hub.timing.close = 50 * time.Millisecond })
	tab, mute := peek(t, addr, ""), peek(t, addr, "")
	tab.product()
	_ = mute // it does not read any more
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx) }()
	if f := tab.any(); f.closedBy != websocket.CloseGoingAway {
		t.Errorf("%+v", f)
	}
	if err := <-stopped; err != nil || s.Sockets() != 0 {
		t.Errorf("%v, %d sockets", err, s.Sockets())
	}
}

// Each watcher is in the wheel once, whichever leave.
func TestTheWheel(t *testing.T) {
	var wh wheel
	all := map[*watcher]bool{}
	for range 100 {
		one := &watcher{}
		wh.add(one)
		all[one] = true
	}
	left := 0
	for one := range all {
		if left++; left%3 == 0 {
			wh.remove(one)
			delete(all, one)
		}
	}
	seen := map[*watcher]bool{}
	for one := range wh.all {
		if seen[one] || !all[one] || wh.slots[one.slot][one.at] != one {
			t.Errorf("%v", one)
		}
		seen[one] = true
	}
	if len(seen) != len(all) || wh.count != len(all) {
		t.Errorf("%d of %d, count %d", len(seen), len(all), wh.count)
	}
	for slot := range wh.slots {
		if n := len(wh.slots[slot]); n > 4 {
			t.Errorf("slot %d has %d", slot, n)
		}
	}
}

// Watchers come and go while products change.
func TestWatchersComeAndGo(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			tab := peek(t, addr, "")
			p := tab.product()
			for before := p.State; p.State == before; p = tab.product() {
			}
			tab.ws.Close()
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-done:
			awaitTrue(t, "all are gone", func() bool { return s.Stats() == Stats{} })
			return
		case <-time.After(time.Millisecond):
			w.steer(t, "tshirt", paused(i%2 == 0))
		}
	}
}

// BenchmarkIdleWatchers measures the memory of an open watcher. The client has none.
func BenchmarkIdleWatchers(b *testing.B) {
	s, addr := open(b, newTown(b, "tshirt"), nil)
	for b.Loop() {
		before := inUse()
		const n = 2000
		conns := openWatchers(b, s, addr, n)
		b.ReportMetric(float64(inUse()-before)/n, "B/watcher")
		for _, c := range conns {
			c.Close()
		}
		awaitTrue(b, "all are closed", func() bool { return s.Sockets() == 0 })
	}
}

// BenchmarkShowToWatchers is a change of state on its way to 10,000 watchers, over TCP of
// this machine: the time until the last one has it. There are fewer of them where the
// limit of open files leaves no room for both ends.
func BenchmarkShowToWatchers(b *testing.B) {
	w := newTown(b, "tshirt")
	s, addr := open(b, w, nil)
	n := 10_000
	if room := ConnectionRoom(); room > 0 {
		n = min(n, room/2)
	}
	conns := openWatchers(b, s, addr, n)
	var shown sync.WaitGroup
	for _, c := range conns {
		defer c.Close()
	}
	for _, c := range conns {
		go func() { // ends with its connection
			frames := bufio.NewReaderSize(c, 512)
			for {
				text, err := frames.ReadSlice('}')
				if err != nil {
					return
				}
				if bytes.Contains(text, []byte(`"state":"paused"`)) || bytes.Contains(text, []byte(`"state":"open"`)) {
					shown.Done()
				}
			}
		}()
	}
	pause := true
	for b.Loop() {
		shown.Add(n)
		w.steer(b, "tshirt", paused(pause))
		shown.Wait()
		pause = !pause
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/watcher")
}

// openWatchers opens watchers whose clients are bare TCP, and reads what they are shown
// at first.
func openWatchers(b *testing.B, s *Server, addr string, n int) []net.Conn {
	b.Helper()
	var conns []net.Conn
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, c)
		fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nOrigin: http://%s\r\n\r\n", addr, addr)
	}
	awaitTrue(b, "all are open", func() bool { return s.Sockets() == n })
	first := make([]byte, 4096)
	for _, c := range conns {
		for got := ""; !strings.Contains(got, `"type":"product"`); {
			k, err := c.Read(first)
			if err != nil {
				b.Fatal(err)
			}
			got += string(first[:k])
		}
	}
	return conns
}
