package broker_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// wantFindings wants an audit to name exactly these promises, in any number.
func wantFindings(t *testing.T, w *world, promises ...string) broker.Report {
	t.Helper()
	report, err := broker.Audit(within(t), w.connect(t))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range report.Findings {
		found[f.Promise] = true
	}
	for _, p := range promises {
		if !found[p] {
			t.Errorf("%s is not among the findings", p)
		}
		delete(found, p)
	}
	if len(found) > 0 || t.Failed() {
		for _, f := range report.Findings {
			t.Errorf("found: %s", f)
		}
	}
	return report
}

// played lets a worker decide what is published, and stops it.
func (w *world) played(t *testing.T) {
	t.Helper()
	js := w.admin(t)
	for _, p := range []sale.ProductID{"shirt", "mug"} {
		for _, data := range playMessages(p) {
			publish(t, js, p, data)
		}
		stop := w.work(t, p)
		eventually(t, "it is decided", func() bool {
			s, err := js.Stream(within(t), "ORDERS")
			if err != nil || s.CachedInfo().State.Msgs > 0 {
				return false
			}
			_, err = openLedger(t, w.connect(t)).Entry(within(t), p, 3)
			return err == nil
		})
		stop()
	}
	for i := range 3 {
		publishOrders(t, js, "mug", newOrder(fmt.Sprintf("waits%d@x.com", i)))
	}
}

func TestAuditOfAHealthySale(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 4, "shirt", "mug", "cap")
		wantFindings(t, w)
		w.played(t)
		report := wantFindings(t, w)
		if len(report.Products) != 3 {
			t.Fatalf("%d products were audited", len(report.Products))
		}
		// Without a limit, all but c's two and the later ones find a unit.
		for _, s := range report.Products[1:] {
			if s.Entries != 3 || s.Orders != 6 || s.Accepted != 3 || s.SoldOut != 3 || s.Duplicates != 1 || s.UnitsSold != 4 || s.Supplied != 4 {
				t.Errorf("the summary of %s is %+v", s.Product, s)
			}
		}
		if s := report.Products[0]; s.Product != "cap" || s.Entries != 0 || s.Available != 4 {
			t.Errorf("the summary of what nobody bought is %+v", s)
		}
	})
}

// TestAuditBesideAnOpenSale: it must not mistake what happens meanwhile for a fault.
func TestAuditBesideAnOpenSale(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 40, "shirt", "mug")
	w.work(t, "shirt")
	w.work(t, "mug")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 150 {
			p := []sale.ProductID{"shirt", "mug"}[i%2]
			data := lines([]sale.Order{newOrder(fmt.Sprintf("a%d@x.com", i)), newOrder("again@x.com")})
			if i%10 == 0 {
				data = append(data, "garbage"...)
			}
			if _, err := w.admin(t).Publish(within(t), "orders."+string(p), data); err != nil {
				t.Error(err)
				return
			}
			if i%20 == 0 {
				if _, err := openStocks(t, c).Change(within(t), p, func(s sale.Stock) (sale.Stock, error) { return s.Supply(5) }); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for audits := 0; ; audits++ {
		wantFindings(t, w)
		select {
		case <-done:
			if audits == 0 {
				t.Error("no audit ran beside the sale")
			}
			return
		default:
		}
	}
}

// TestAuditOfMadeUpEntries: whoever may write to the ledger can append to it, and
// what nobody decided is found, with the entries before it there or not.
func TestAuditOfMadeUpEntries(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 99} {
		t.Run(fmt.Sprintf("entry %d", n), func(t *testing.T) {
			w := on(t, one)
			w.sell(t, 4, "shirt", "mug")
			w.played(t)
			if _, err := w.admin(t).Publish(within(t), fmt.Sprintf("ledger.shirt.%d", n), []byte(`{"forged":true}`)); err != nil {
				t.Fatal(err)
			}
			wantFindings(t, w, "P8")
		})
	}
}

// replaceLedger makes the ledger anew, sequence for sequence, with other bytes.
func (w *world) replaceLedger(t *testing.T, change func(m *stored) (keep bool)) {
	t.Helper()
	entries := w.read(t, "LEDGER")
	js := w.admin(t)
	recreate(t, js, streamConfig(t, js, "LEDGER"))
	for _, m := range entries {
		if !change(&m) {
			continue
		}
		if _, err := js.Publish(within(t), m.Subject, m.Data); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAuditNamesWhatIsBroken(t *testing.T) {
	t.Parallel()
	swap := func(subject, old, new string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			done := false
			w.replaceLedger(t, func(m *stored) bool {
				if m.Subject == subject {
					done = bytes.Contains(m.Data, []byte(old))
					m.Data = bytes.Replace(m.Data, []byte(old), []byte(new), 1)
				}
				return true
			})
			if !done {
				t.Fatalf("%s holds no %s", subject, old)
			}
		}
	}
	value := func(change func(*sale.Stock)) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			stock, _, err := openStocks(t, w.connect(t)).Load(within(t), "shirt")
			if err != nil {
				t.Fatal(err)
			}
			change(&stock)
			put(t, w.bucket(t), "shirt", stock.Encode())
		}
	}
	for _, test := range []struct {
		name     string
		tamper   func(*testing.T, *world)
		promises []string // among the findings
	}{
		{"nothing but a copy", swap("ledger.shirt.1", "{", "{"), nil},
		{"a buyer in the first entry", swap("ledger.shirt.1", `"buyer":"a=40`, `"buyer":"z=40`), []string{"P8"}},
		{"a buyer in the last entry", swap("ledger.shirt.3", `"buyer":"d=40`, `"buyer":"z=40`), []string{"P8"}},
		{"a refusal that was none", swap("ledger.shirt.1", `"accepted"`, `"sold_out"`), []string{"P8", "P2"}},
		{"an acceptance that was none", swap("ledger.shirt.2", `"sold_out"`, `"accepted"`), []string{"P8", "P1"}},
		{"a place", swap("ledger.shirt.1", `"place":1`, `"place":9`), []string{"P8", "P2"}},
		{"not an entry", swap("ledger.shirt.2", "{", "["), []string{"P8"}},
		{"an entry that is missing", func(t *testing.T, w *world) {
			w.replaceLedger(t, func(m *stored) bool { return m.Subject != "ledger.shirt.2" })
		}, []string{"P8"}},
		{"an entry of nobody's", func(t *testing.T, w *world) {
			if _, err := w.admin(t).Publish(within(t), "ledger.scarf.1", []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}, []string{"P8"}},
		{"one unit too many", value(func(s *sale.Stock) { s.Available++ }), []string{"P1"}},
		{"one unit sold that nobody got", value(func(s *sale.Stock) { s.Sold++; s.Supplied++ }), []string{"P1"}},
		{"a unit given back", value(func(s *sale.Stock) { s.Sold--; s.Available++ }), []string{"P1"}},
		{"no stock value", func(t *testing.T, w *world) {
			if err := w.bucket(t).Delete(within(t), "shirt"); err != nil {
				t.Fatal(err)
			}
		}, []string{"P8"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := on(t, one)
			w.sell(t, 4, "shirt", "mug")
			w.played(t)
			wantFindings(t, w)
			test.tamper(t, w)
			report, err := broker.Audit(within(t), w.connect(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.Product == "mug" {
					t.Errorf("the other product is blamed: %s", f)
				}
			}
			if (len(report.Findings) == 0) != (len(test.promises) == 0) {
				t.Errorf("%d findings", len(report.Findings))
			}
			for _, p := range test.promises {
				if !named(report, p) {
					t.Errorf("%s is not named in %v", p, report.Findings)
				}
			}
		})
	}
}

func named(r broker.Report, promise string) bool {
	for _, f := range r.Findings {
		if f.Promise == promise {
			return true
		}
	}
	return false
}

// TestAuditMissesAMessage: what was acknowledged and is nowhere any more (P3).
func TestAuditMissesAMessage(t *testing.T) {
	w := on(t, one)
	w.sell(t, 4, "shirt", "mug")
	js := w.admin(t)
	careless := streamConfig(t, js, "ORDERS")
	careless.DenyDelete = false
	recreate(t, js, careless)
	for _, p := range []string{"shirt", "mug"} {
		consumer := wantConsumer(p)
		consumer.MaxWaiting = 0
		if _, err := js.CreateConsumer(within(t), "ORDERS", consumer); err != nil {
			t.Fatal(err)
		}
	}
	w.played(t)
	wantFindings(t, w)
	queue, err := js.Stream(within(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	waiting := w.read(t, "ORDERS")
	if err := queue.DeleteMsg(within(t), waiting[1].Seq); err != nil {
		t.Fatal(err)
	}
	report := wantFindings(t, w, "P3")
	if f := report.Findings[0]; !strings.Contains(f.Detail, fmt.Sprintf("message %d vanished", waiting[1].Seq)) {
		t.Errorf("the finding is %s", f)
	}
	// A dead letter that vanished is missed as well.
	recreate(t, js, streamConfig(t, js, "DEAD"))
	if report := wantFindings(t, w, "P3"); len(report.Findings) < 2 {
		t.Errorf("only %v", report.Findings)
	}
}

func TestAuditNeedsTheStreams(t *testing.T) {
	w := on(t, one)
	c := w.connect(t)
	if _, err := broker.Audit(within(t), c); err == nil {
		t.Error("an empty account was audited")
	}
	for _, stream := range []string{"DEAD", "LEDGER", "ORDERS", "stock"} {
		w.sell(t, 4, "shirt")
		name := stream
		if stream == "stock" {
			name = "KV_stock"
		}
		if err := w.admin(t).DeleteStream(within(t), name); err != nil {
			t.Fatal(err)
		}
		if _, err := broker.Audit(within(t), c); err == nil || !strings.Contains(err.Error(), stream) {
			t.Errorf("without %s: %v", stream, err)
		}
	}
}
