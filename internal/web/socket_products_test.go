package web

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/sale"
)

// peek opens a watcher, and reads its hello.
func peek(t testing.TB, addr, query string) *screen {
	t.Helper()
	s := dialAt(t, addr, query)
	if f := s.any(); f.Type != "hello" || strings.Contains(f.receivedRaw, "email") {
		t.Fatalf("first frame %s", f.receivedRaw)
	} else if _, err := time.Parse(time.RFC3339, f.ServerTime); err != nil {
		t.Fatal(err)
	}
	return s
}

// Every socket is shown each product at first, with its texts, and then what changes.
func TestProductsAreShownLive(t *testing.T) {
	w := newTown(t, "tshirt", "mug", "cap")
	_, addr := open(t, w, func(c *Config) {
		c.Listings = []Listing{{Product: "mug", Title: "A mug", Price: "9 €"}}
	})
	buyer := dial(t, addr, "a@b.de")
	if f := buyer.any(); f.Type != "hello" || f.Email != "a@b.de" {
		t.Fatalf("%s", f.receivedRaw)
	}
	tabs := []*screen{peek(t, addr, ""), buyer}
	for _, tab := range tabs {
		for i, want := range []string{
			`{"id":"mug","title":"A mug","price":"9 €","available":5,"sold":0,"supplied":5,"waiting":0,"limit_per_buyer":0,"state":"open"}`,
			`{"id":"cap","available":5,"sold":0,"supplied":5,"waiting":0,"limit_per_buyer":0,"state":"open"}`,
			`{"id":"tshirt","available":5,"sold":0,"supplied":5,"waiting":0,"limit_per_buyer":0,"state":"open"}`,
		} {
			if p := tab.product(); p.raw != want {
				t.Errorf("product %d is %s, want %s", i, p.raw, want)
			}
		}
	}
	w.steer(t, "mug", paused(true))
	for _, tab := range tabs {
		if p := tab.product(); p.raw != `{"id":"mug","available":5,"sold":0,"supplied":5,"waiting":0,"limit_per_buyer":0,"state":"paused"}` {
			t.Errorf("%s", p.raw)
		}
	}
}

// A pause that waits in the queue counts at once.
func TestAQueuedPauseIsShown(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	tab := peek(t, addr, "")
	if p := tab.product(); p.State != "open" {
		t.Errorf("%s", p.raw)
	}
	w.queueDesk("tshirt", paused(true))
	if p := tab.product(); p.State != "paused" {
		t.Errorf("%s", p.raw)
	}
}

func TestWatchersAreNarrowed(t *testing.T) {
	w := newTown(t, "tshirt", "mug", "cap")
	s, addr := open(t, w, nil)
	for query, first := range map[string]string{"?product=mug": "mug", "?product=cap&product=mug&product=cap": "cap mug", "?email=a@b.de&product=mug": "mug"} {
		tab := dialAt(t, addr, query)
		tab.any()
		for _, want := range strings.Fields(first) {
			if p := tab.product(); p.ID != want {
				t.Errorf("%s: %s, want %s", query, p.raw, want)
			}
		}
		w.steer(t, "tshirt", paused(true))
		w.steer(t, "tshirt", paused(false))
		w.steer(t, "mug", paused(true))
		if p := tab.product(); p.ID != "mug" || p.State != "paused" {
			t.Errorf("%s: %s", query, p.raw)
		}
		w.steer(t, "mug", paused(false))
		if p := tab.product(); p.ID != "mug" || p.State != "open" {
			t.Errorf("%s: %s", query, p.raw)
		}
		tab.ws.Close()
	}
	awaitTrue(t, "all are gone", func() bool { return s.Stats() == Stats{} })
	for query, want := range map[string]int{
		"?product=":                        400,
		"?product=A":                       400,
		"?product=car":                     404,
		"?product=mug&product=car":         404,
		strings.Repeat("&product=mug", 21): 400,
		"?email=&product=mug":              400,
	} {
		if got := upgradeStatusAt(t, "ws://"+addr+"/ws?"+strings.TrimLeft(query, "?&")); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	if got := upgradeStatusAt(t, "ws://"+addr+"/ws?"+strings.Repeat("&product=mug", 20)[1:]); got != 101 {
		t.Errorf("20 products: %d", got)
	}
}

// A state that the clock changes is shown at that instant.
func TestTheClockOpensAndCloses(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	opens, closes := time.Now().Add(300*time.Millisecond).UTC().Truncate(time.Microsecond), time.Now().Add(600*time.Millisecond).UTC().Truncate(time.Microsecond)
	w.steer(t, "tshirt", hours(&opens, &closes))
	tab := peek(t, addr, "")
	if p := tab.product(); p.State != "not_open" || p.OpensAt == nil || !p.OpensAt.Equal(opens) || p.ClosesAt == nil || !p.ClosesAt.Equal(closes) {
		t.Errorf("%s", p.raw)
	}
	for _, want := range []struct {
		state string
		at    time.Time
	}{{"open", opens}, {"closed", closes}} {
		p := tab.product()
		if late := time.Since(want.at); p.State != want.state || late < 0 || late > 2*time.Second || !p.OpensAt.Equal(opens) {
			t.Errorf("%s after %v, want %s", p.raw, late, want.state)
		}
	}
	w.steer(t, "tshirt", hours(nil, nil))
	if p := tab.product(); p.State != "open" || p.OpensAt != nil || p.ClosesAt != nil {
		t.Errorf("%s", p.raw)
	}
}

// It is shown then, not at the next look.
func TestTheClockIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "tshirt")
		_, sockets, stop := fakeBoard(t, w, 1)
		defer stop()
		one := sockets[0]
		wantTaken(t, one, "tshirt open 5")
		time.Sleep(123 * time.Millisecond)
		opens, closes := time.Now().Add(3300*time.Millisecond), time.Now().Add(7700*time.Millisecond)
		w.steer(t, "tshirt", hours(&opens, &closes))
		wantTaken(t, one, "tshirt not_open 5")
		for _, hour := range []struct {
			at   time.Time
			want string
		}{{opens, "tshirt open 5"}, {closes, "tshirt closed 5"}} {
			time.Sleep(time.Until(hour.at) - 1)
			wantTaken(t, one)
			time.Sleep(2 * time.Nanosecond)
			wantTaken(t, one, hour.want)
		}
	})
}

func TestAStuckProductIsShown(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	tab := peek(t, addr, "")
	if p := tab.product(); p.State != "open" {
		t.Errorf("%s", p.raw)
	}
	w.book.SetStuck("tshirt", "a witness failed", true)
	if p := tab.product(); p.State != "stuck" {
		t.Errorf("%s", p.raw)
	}
	if r := get(t, "http://"+addr+"/products/tshirt"); !strings.Contains(r.body, `"state":"stuck"`) {
		t.Errorf("%s", r.body)
	}
	w.steer(t, "tshirt", left(0))
	if p := tab.product(); p.State != "sold_out" { // it would not be open
		t.Errorf("%s", p.raw)
	}
}

// fakeBoard runs a board whose sockets are never written to.
func fakeBoard(t *testing.T, w *town, sockets int) (*board, []*socket, func()) {
	t.Helper()
	s, err := New(Config{Queue: w, Feed: w, Book: w.book})
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*socket, sockets)
	for i := range all {
		email := sale.Email(fmt.Sprintf("b%d@b.de", i))
		all[i] = &socket{hub: s.hub, email: email, token: email.Token(), wake: make(chan struct{}, 1)}
		if s.hub.add(all[i]) != 0 {
			t.Fatal("refused")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	s.board.begin()
	go func() { s.board.run(ctx); close(done) }()
	return s.board, all, func() { cancel(); <-done }
}

// taken are the product frames that a socket would write now.
func taken(t testing.TB, s *socket) (got []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.products.take() {
		got = append(got, fmt.Sprint(f.product, " ", f.face.state, " ", f.face.available))
	}
	return got
}

func wantTaken(t testing.TB, s *socket, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := taken(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("frames %q, want %q", got, want)
	}
}

// Figures are shown at most once a second a product, the newest ones; changes of state at
// once, and before them.
func TestThePaceOfFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, "tshirt", "mug")
		_, sockets, stop := fakeBoard(t, w, 1)
		defer stop()
		one := sockets[0]
		wantTaken(t, one, "mug open 5", "tshirt open 5")
		time.Sleep(1100 * time.Millisecond)
		w.steer(t, "tshirt", left(9))
		wantTaken(t, one, "tshirt open 9") // the first change after a while comes at once
		time.Sleep(500 * time.Millisecond)
		w.steer(t, "tshirt", left(8))
		w.steer(t, "tshirt", left(7))
		wantTaken(t, one)
		w.steer(t, "mug", left(4)) // another product has its own second
		wantTaken(t, one, "mug open 4")
		w.steer(t, "mug", paused(true)) // does not wait
		wantTaken(t, one, "mug paused 4")
		time.Sleep(499 * time.Millisecond)
		wantTaken(t, one)
		time.Sleep(2 * time.Millisecond)
		wantTaken(t, one, "tshirt open 7")
		time.Sleep(10 * time.Second)
		wantTaken(t, one) // nothing has changed
		w.steer(t, "tshirt", left(6))
		synctest.Wait()
		w.steer(t, "mug", paused(false))
		wantTaken(t, one, "mug open 4", "tshirt open 6") // the figures were not written yet
		w.steer(t, "tshirt", left(5))
		w.steer(t, "tshirt", left(0))
		w.steer(t, "tshirt", left(3))
		synctest.Wait()
		time.Sleep(1001 * time.Millisecond)
		wantTaken(t, one, "tshirt open 3") // the newest of three
	})
}

// All sockets together get 10,000 frames a second for figures alone.
func TestTheBudgetOfFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []sale.ProductID
		for i := range 10 {
			ids = append(ids, sale.ProductID(fmt.Sprintf("p%d", i)))
		}
		w := newTown(t, ids...)
		_, sockets, stop := fakeBoard(t, w, 5000)
		defer stop()
		one := sockets[4999]
		synctest.Wait()
		taken(t, one)
		shown := map[string]int{}
		frames := 0
		for round := range 20 {
			time.Sleep(500 * time.Millisecond)
			for _, id := range ids {
				w.steer(t, id, left(int64(10+round)))
			}
			synctest.Wait()
			for _, f := range taken(t, one) {
				shown[strings.Fields(f)[0]]++
				frames++
			}
		}
		if frames < 18 || frames > 21 { // in 10 s, of 2 a second for each of 5000 sockets
			t.Errorf("%d frames in 10 s", frames)
		}
		if len(shown) != len(ids) { // each had its turn
			t.Errorf("%v", shown)
		}
		w.steer(t, "p3", paused(true))
		synctest.Wait()
		if got := fmt.Sprint(taken(t, one)); !strings.Contains(got, "p3 paused") {
			t.Errorf("%s", got)
		}
	})
}

// A frame that was made before the first ones were read says nothing newer.
func TestAnOlderFrameIsLeftOut(t *testing.T) {
	now := time.Now()
	q := productQueue{greeted: now}
	if q.put(&productFrame{product: "mug", madeAt: now.Add(-1)}) || !q.put(&productFrame{product: "mug", madeAt: now}) {
		t.Errorf("%+v", q.frames)
	}
}
