package broker_test

import (
	"bytes"
	"testing"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

type heard struct{ token, body string }

// TestStatusesGoToTheirBuyerAlone: a legal address may look like a wildcard (P7).
func TestStatusesGoToTheirBuyerAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		all := make(chan heard, 100)
		stop, err := w.connect(t).Subscribe(func(token string, status []byte) {
			all <- heard{token, string(bytes.Clone(status))}
		})
		if err != nil {
			t.Fatal(err)
		}
		nc := w.admin(t).Conn()
		mine, err := nc.SubscribeSync("status.a=2Eb=2Bc=40x-y=2Ecom.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushWithContext(within(t)); err != nil {
			t.Fatal(err)
		}
		announcer := broker.NewAnnouncer(w.connect(t))
		// Servers of a cluster learn of each other's subscribers a moment later.
		warm := sale.Status{Order: newOrder("warm@x.com"), Product: "shirt"}
		eventually(t, "the subscription is known to every server", func() bool {
			if err := announcer.Announce([]sale.Status{warm}); err != nil {
				t.Fatal(err)
			}
			return len(all) > 0
		})
		for quiet := false; !quiet; {
			if err := nc.FlushWithContext(within(t)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-all:
			case <-time.After(200 * time.Millisecond):
				quiet = true
			}
		}
		for _, test := range []struct{ email, token string }{
			{"*@x.com", "=2A=40x=2Ecom"},
			{"a.b+c@x-y.com", "a=2Eb=2Bc=40x-y=2Ecom"},
			{"laskar@mail.com", "laskar=40mail=2Ecom"},
			{"{}|~`'?^!#$%&=/@x.com", "=7B=7D=7C=7E=60=27=3F=5E=21=23=24=25=26=3D=2F=40x=2Ecom"},
		} {
			email, err := sale.ParseEmail(test.email)
			if err != nil {
				t.Fatalf("%s is legal: %v", test.email, err)
			}
			s := sale.Status{Order: newOrder(string(email)), Product: "shirt", Outcome: sale.Accepted, Place: 3, DecidedAt: sale.Instant(time.Now())}
			if err := announcer.Announce([]sale.Status{s}); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-all:
				if want := (heard{test.token, string(s.AppendJSON(nil))}); got != want {
					t.Errorf("heard %+v, want %+v", got, want)
				}
			case <-within(t).Done():
				t.Fatalf("nothing was heard of %s", test.email)
			}
			if test.email != "a.b+c@x-y.com" {
				continue
			}
			m, err := mine.NextMsgWithContext(within(t))
			if err != nil || m.Subject != "status."+test.token+"."+s.ID.String() {
				t.Errorf("its buyer heard %+v, %v", m, err)
			}
		}
		// The connection delivers in order, so anything for mine came before this.
		if err := nc.Publish("status.a=2Eb=2Bc=40x-y=2Ecom.last", nil); err != nil {
			t.Fatal(err)
		}
		if m, err := mine.NextMsgWithContext(within(t)); err != nil || m.Subject != "status.a=2Eb=2Bc=40x-y=2Ecom.last" {
			t.Errorf("another buyer's status came: %+v, %v", m, err)
		}
		for range 2 {
			if err := stop(); err != nil {
				t.Errorf("unsubscribe: %v", err)
			}
		}
	})
}

// TestOneAnnouncementHasManyStatuses keeps their order.
func TestOneAnnouncementHasManyStatuses(t *testing.T) {
	w := on(t, one)
	got := make(chan string, 1000)
	stop, err := w.connect(t).Subscribe(func(_ string, status []byte) { got <- string(status) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	c := w.connect(t)
	var statuses []sale.Status
	for range 500 {
		statuses = append(statuses, sale.Status{Order: newOrder("a@x.com"), Product: "shirt"})
	}
	if err := broker.NewAnnouncer(c).Announce(statuses); err != nil {
		t.Fatal(err)
	}
	for i := range statuses {
		select {
		case body := <-got:
			if want := string(statuses[i].AppendJSON(nil)); body != want {
				t.Fatalf("status %d is %s, want %s", i, body, want)
			}
		case <-within(t).Done():
			t.Fatalf("status %d never came", i)
		}
	}
	c.Close()
	if err := broker.NewAnnouncer(c).Announce(statuses); err == nil {
		t.Error("a closed connection took statuses")
	}
}

// TestUnsubscribeWaitsForTheLastCall, so that the hub may go away after it.
func TestUnsubscribeWaitsForTheLastCall(t *testing.T) {
	w := on(t, one)
	c := w.connect(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	stop, err := c.Subscribe(func(string, []byte) { close(entered); <-leave })
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.NewAnnouncer(w.connect(t)).Announce([]sale.Status{{Order: newOrder("a@x.com"), Product: "shirt"}}); err != nil {
		t.Fatal(err)
	}
	receive(t, entered)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if err := w.admin(t).Conn().FlushWithContext(within(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-stopped:
		t.Error("it did not wait for the call under way")
	default:
	}
	close(leave)
	if err := receive(t, stopped); err != nil {
		t.Error(err)
	}
	again, err := c.Subscribe(func(string, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := again(); err != nil {
		t.Errorf("unsubscribe after the connection's end: %v", err)
	}
	if _, err := c.Subscribe(func(string, []byte) {}); err == nil {
		t.Error("a closed connection took a subscription")
	}
}

// TestOwnAnnouncementsAreHandedOver: a connection hears no echo, and its instance's
// hub gets each status once all the same.
func TestOwnAnnouncementsAreHandedOver(t *testing.T) {
	w := on(t, one)
	c, other := w.connect(t), w.connect(t)
	here, there := make(chan string, 10), make(chan string, 10)
	for conn, heard := range map[*broker.Conn]chan string{c: here, other: there} {
		stop, err := conn.Subscribe(func(token string, status []byte) { heard <- token + " " + string(status) })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stop() }()
	}
	announcer := broker.NewAnnouncer(c)
	announcer.To(func(token string, status []byte) { here <- token + " " + string(status) })
	s := sale.Status{Order: newOrder("a@x.com"), Product: "shirt"}
	if err := announcer.Announce([]sale.Status{s}); err != nil {
		t.Fatal(err)
	}
	want := "a=40x=2Ecom " + string(s.AppendJSON(nil))
	for _, heard := range []chan string{here, there} {
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		case <-within(t).Done():
			t.Fatal("nothing was heard")
		}
	}
	if err := c.Flush(within(t)); err != nil { // an echo would have come by then
		t.Fatal(err)
	}
	if n := len(here); n > 0 {
		t.Errorf("%d echoes", n)
	}
}
