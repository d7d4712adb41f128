package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is also the baseline's process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "baseline-server" {
		if err := ServeBaseline(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func baselineCommand(t *testing.T) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self, "baseline-server"}
}

// configs is every mode in a small checked run.
func configs(url string) map[Mode]Config {
	base := Config{URLs: []string{url}, Buyers: 4, Orders: 40, Check: true, Timeout: 5 * time.Second, Limit: 30 * time.Second}
	all := map[Mode]Config{Closed: base}
	open, flood, refused := base, base, base
	open.Rate, flood.Flood, refused.ExpectRefusals = 2000, true, true
	all[Open], all[Flood], all[Refused] = open, flood, refused
	return all
}

func TestEveryModeOnAnHonestServer(t *testing.T) {
	for _, mode := range []Mode{Closed, Open, Flood} {
		for name, stock := range map[string]int64{"plenty": 1000, "sells out": 15} {
			t.Run(fmt.Sprintf("%s, %s", mode, name), func(t *testing.T) {
				s, url := startFake(t, stock, faults{})
				var out bytes.Buffer
				r, err := Run(bounded(t), configs(url)[mode], &out)
				if err != nil {
					t.Fatalf("%v\n%s", err, &out)
				}
				if r.Sent != 40 || r.Queued+r.Refused != 40 || r.Uncertain != 0 || len(r.Errors) != 0 {
					t.Errorf("sent %d, queued %d, refused %d, uncertain %d, errors %v", r.Sent, r.Queued, r.Refused, r.Uncertain, r.Errors)
				}
				if got, want := r.Check.Outcomes["accepted"], min(40, stock); got != want {
					t.Errorf("accepted %d, want %d", got, want)
				}
				if s.product.Sold != min(40, stock) || int64(s.taken) != r.Queued {
					t.Errorf("the server sold %d of %d orders, the bench says %+v", s.product.Sold, s.taken, r)
				}
				if r.Answer.Count != 40 || r.Answer.P50 <= 0 || r.Answer.Max < r.Answer.P999 || r.PerSecond() <= 0 {
					t.Errorf("answers %+v, %f per second", r.Answer, r.PerSecond())
				}
				if mode != Flood && (r.Outcome.Count != r.Queued || r.Outcomes["accepted"] != min(40, stock)) {
					t.Errorf("told %+v %v of %d queued", r.Outcome, r.Outcomes, r.Queued)
				}
				if (r.Lag != nil) != (mode == Open) || r.Lag != nil && (r.Lag.Count != 40 || r.Lag.P50 > r.Answer.Max) {
					t.Errorf("lag %+v", r.Lag)
				}
				if !strings.Contains(out.String(), "check: ok, ") {
					t.Errorf("no verdict in the table:\n%s", &out)
				}
			})
		}
	}
}

func TestRefusalsOfASoldOutSale(t *testing.T) {
	_, url := startFake(t, 0, faults{})
	cfg := configs(url)[Refused]
	cfg.Product, cfg.JSON = "tshirt", true
	var out bytes.Buffer
	r, err := Run(bounded(t), cfg, &out)
	if err != nil || r.Refused != 40 || r.RefusedPerSecond <= 0 || r.PerSecond() != r.RefusedPerSecond {
		t.Fatalf("%v: %+v", err, r)
	}
	var decoded Result
	if err := json.Unmarshal(out.Bytes(), &decoded); err != nil || decoded.Refused != 40 || decoded.Check == nil || !decoded.Check.OK {
		t.Fatalf("%v: %s", err, &out)
	}
}

// A load that expects refusals is not put on a sale that accepts.
func TestRefusalsAreNotMeasuredOnAnOpenSale(t *testing.T) {
	for _, named := range []string{"", "tshirt"} {
		s, url := startFake(t, 1000, faults{})
		cfg := configs(url)[Refused]
		cfg.Product = named
		var out bytes.Buffer
		_, err := Run(bounded(t), cfg, &out)
		if err == nil || errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "product tshirt is open") || out.Len() > 0 {
			t.Errorf("product %q: error %v, output %q", named, err, &out)
		}
		if s.posts != 0 {
			t.Errorf("product %q: %d orders were sent", named, s.posts)
		}
	}
}

// That a sale opens is no broken promise, but the figure is not one of refusals
// then, and the stock is not the bench's to buy.
func TestASaleThatOpensEndsTheRunOfRefusals(t *testing.T) {
	for _, check := range []bool{false, true} {
		s, url := startFake(t, 1000, faults{opens: true})
		cfg := configs(url)[Refused]
		cfg.Check = check
		var out bytes.Buffer
		r, err := Run(bounded(t), cfg, &out)
		if err == nil || errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "expected to be refused") {
			t.Fatalf("check %t: %v\n%s", check, err, &out)
		}
		if r.Queued < 1 || r.Queued > int64(cfg.Buyers) || r.Refused != faulty-1 || int64(s.taken) != r.Queued {
			t.Errorf("check %t: queued %d, refused %d, taken %d", check, r.Queued, r.Refused, s.taken)
		}
		if check && !r.Check.OK {
			t.Errorf("the check accuses an honest sale: %+v", r.Check)
		}
	}
}

// Each fault turns the check red, names the promise, and nothing else does.
func TestCheckGoesRed(t *testing.T) {
	sockets := []Mode{Closed, Open}
	every := []Mode{Closed, Open, Flood}
	for name, c := range map[string]struct {
		faults  faults
		stock   int64
		modes   []Mode
		promise Promise
		waits   bool // for what does not come
	}{
		"oversell":        {faults{oversell: true}, 15, every, P1, false},
		"undersell":       {faults{undersell: true}, 15, every, P5, false},
		"lost outcome":    {faults{lose: true}, 1000, every, P3, true},
		"forgotten order": {faults{forget: true}, 1000, every, P3, false},
		"duplicate place": {faults{duplicatePlace: true}, 1000, every, P8, false},
		"skipped place":   {faults{skipPlace: true}, 1000, every, P8, false},
		"miscounted":      {faults{miscount: true}, 1000, every, P8, true},
		"late acceptance": {faults{acceptLate: true}, 1000, every, P2, false},
		"changed":         {faults{change: true}, 1000, sockets, P4, false},
		"changed live":    {faults{changeLive: true}, 1000, sockets, P4, false},
		"mute":            {faults{mute: true}, 1000, sockets, P6, true},
	} {
		for _, mode := range c.modes {
			t.Run(fmt.Sprintf("%s, %s", name, mode), func(t *testing.T) {
				t.Parallel()
				_, url := startFake(t, c.stock, c.faults)
				cfg := configs(url)[mode]
				if c.waits {
					cfg.Timeout = time.Second
				}
				var out bytes.Buffer
				r, err := Run(bounded(t), cfg, &out)
				if !errors.Is(err, ErrBroken) {
					t.Fatalf("error %v, want ErrBroken\n%s", err, &out)
				}
				named := false
				for _, b := range r.Check.Breaches {
					named = named || b.Promise == c.promise
				}
				if r.Check.OK || !named || !strings.Contains(out.String(), string(c.promise)+" broken") {
					t.Errorf("%s is not named:\n%s", c.promise, &out)
				}
			})
		}
	}
	t.Run("swapped places", func(t *testing.T) {
		_, url := startFake(t, 1000, faults{swapPlaces: true})
		cfg := configs(url)[Closed]
		cfg.Buyers = 1
		if _, err := Run(bounded(t), cfg, &bytes.Buffer{}); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "P2") {
			t.Fatal(err)
		}
	})
}

// Trouble on the way is counted as what it is, and breaks no promise.
func TestTroubleThatIsNoBreach(t *testing.T) {
	for name, c := range map[string]struct {
		faults faults
		kind   string
	}{
		"sockets are closed":  {faults{hangUp: true}, "socket: connection lost"},
		"an order is refused": {faults{reject: true}, "answer 400: email: not today"},
		"an answer is lost":   {faults{reset: true}, "connection lost"},
	} {
		t.Run(name, func(t *testing.T) {
			_, url := startFake(t, 1000, c.faults)
			cfg := configs(url)[Closed]
			cfg.Buyers = 1 // who has to go on after it
			var out bytes.Buffer
			r, err := Run(bounded(t), cfg, &out)
			if err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			kinds := fmt.Sprint(r.Errors)
			if c.faults.hangUp {
				c.kind = "socket" // closed or reset: the kernel's choice
			}
			if !strings.Contains(kinds, c.kind) {
				t.Errorf("errors %v, want %q", r.Errors, c.kind)
			}
			if c.faults.reset && r.Uncertain != 1 {
				t.Errorf("uncertain %d, want 1", r.Uncertain)
			}
		})
	}
}

// A buyer's limit is a reason to refuse while units are left.
func TestALimitIsNoUndersell(t *testing.T) {
	_, url := startFake(t, 1000, faults{limit: true})
	var out bytes.Buffer
	cfg := configs(url)[Closed]
	r, err := Run(bounded(t), cfg, &out)
	if err != nil || !r.Check.OK || r.Queued != int64(cfg.Buyers) || r.Refused != 40-r.Queued {
		t.Fatalf("%v, %+v\n%s", err, r, &out)
	}
}

// Only an order whose fate is unknown loosens the check.
func TestRefusalsThatStoredNothingAreCertain(t *testing.T) {
	for kind, uncertain := range map[string]int64{
		"urn:firstcome:shutting-down": 0, "urn:firstcome:queue-full": 0, "urn:firstcome:shop-full": 0, "urn:firstcome:stuck": 0,
		"urn:firstcome:unavailable": 1,
	} {
		for _, mode := range []Mode{Closed, Flood} {
			_, url := startFake(t, 1000, faults{away: kind})
			var out bytes.Buffer
			r, err := Run(bounded(t), configs(url)[mode], &out)
			if err != nil {
				t.Fatalf("%s, %s: %v\n%s", kind, mode, err, &out)
			}
			if r.Uncertain != uncertain || r.Check.Uncertain != uncertain || r.Queued != 39 || r.Errors["answer 503: not now"] != 1 {
				t.Errorf("%s, %s: uncertain %d, checked %d, queued %d, errors %v", kind, mode, r.Uncertain, r.Check.Uncertain, r.Queued, r.Errors)
			}
		}
	}
}

func TestBaselineInEveryMode(t *testing.T) {
	for mode, cfg := range configs("") {
		t.Run(string(mode), func(t *testing.T) {
			stock := int64(1000)
			if mode == Refused {
				stock = 0
			}
			_, url := startFake(t, stock, faults{})
			cfg.URLs, cfg.Baseline = []string{url}, baselineCommand(t)
			var out bytes.Buffer
			r, err := Run(bounded(t), cfg, &out)
			if err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			b := r.Baseline
			if b == nil || b.Answer.Count != 40 || len(b.Halves) != 2 || len(b.Errors) != 0 || b.PerSecond <= 0 {
				t.Fatalf("baseline %+v", b)
			}
			if (b.Ratio > 0) != (mode != Open) || (b.Requests > 0) != (mode == Closed) {
				t.Errorf("ratio %f, requests %f", b.Ratio, b.Requests)
			}
		})
	}
}

func TestBaselineThatDoesNotStart(t *testing.T) {
	_, url := startFake(t, 1, faults{})
	cfg := configs(url)[Closed]
	cfg.Baseline = []string{"/bin/echo", "no address"}
	if _, err := Run(bounded(t), cfg, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "baseline") {
		t.Fatal(err)
	}
}

func TestIdleSocketsAndSeveralInstances(t *testing.T) {
	s, url := startFake(t, 1000, faults{})
	cfg := configs(url)[Closed]
	cfg.URLs, cfg.Idle = []string{url, url + "/"}, 50
	r, err := Run(bounded(t), cfg, &bytes.Buffer{})
	if err != nil || r.IdleAlive != 50 || s.opened != 54 || len(r.URLs) != 2 {
		t.Fatalf("%v: %d of 50 idle sockets, %d opened, %v", err, r.IdleAlive, s.opened, r.URLs)
	}
}

// A flood's figure ends when the backlog does, not with the last answer.
func TestFloodWaitsForTheBacklog(t *testing.T) {
	s, url := startFake(t, 1000, faults{slow: true})
	cfg := configs(url)[Flood]
	cfg.Check = false
	r, err := Run(bounded(t), cfg, &bytes.Buffer{})
	if err != nil || r.DrainedSeconds <= r.Seconds || s.product.Waiting != 0 || s.product.Sold != 40 {
		t.Fatalf("%v: %+v, %+v", err, r, s.product)
	}
}

func TestABacklogThatStandsStillIsAnError(t *testing.T) {
	_, url := startFake(t, 1000, faults{lose: true})
	cfg := configs(url)[Flood]
	cfg.Check, cfg.Timeout = false, 100*time.Millisecond
	r, err := Run(bounded(t), cfg, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "stood still") || r.DecidedPerSecond != 0 {
		t.Fatalf("%v: %+v", err, r)
	}
}

func TestARunEndsByItsDurationAndByItsLimit(t *testing.T) {
	_, url := startFake(t, 1e9, faults{})
	cfg := configs(url)[Closed]
	cfg.Orders, cfg.Duration = 0, 50*time.Millisecond
	if r, err := Run(bounded(t), cfg, &bytes.Buffer{}); err != nil || r.Seconds < 0.05 || r.Sent == 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	cfg.Orders, cfg.Duration, cfg.Limit = maxCheckedOrders, 0, 100*time.Millisecond
	if _, err := Run(bounded(t), cfg, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "limit of 100ms") {
		t.Fatal(err)
	}
}

func TestWhatCannotBeRunIsRefused(t *testing.T) {
	_, url := startFake(t, 1, faults{})
	for want, cfg := range map[string]Config{
		"no URL":              {},
		"choose one":          {URLs: []string{url}, Flood: true, Rate: 3},
		"must be http":        {URLs: []string{"https://127.0.0.1:1"}},
		"nothing else":        {URLs: []string{url + "/buy"}},
		"connection refused":  {URLs: []string{"http://127.0.0.1:1"}},
		"unknown product":     {URLs: []string{url}, Product: "socks"},
		"is not a product id": {URLs: []string{url}, Product: "../x"},
		"buyers":              {URLs: []string{url}, Buyers: -1},
		"can be checked":      {URLs: []string{url}, Orders: maxCheckedOrders + 1, Check: true},
		"does not fit":        {URLs: []string{url}, Duration: time.Hour},
		"rate":                {URLs: []string{url}, Rate: -1},
		"idle":                {URLs: []string{url}, Idle: -1},
	} {
		var out bytes.Buffer
		if _, err := Run(bounded(t), cfg, &out); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("error %v, want %q (%q)", err, want, &out)
		}
	}
}

func TestProgressIsDrawnOnlyWhereAsked(t *testing.T) {
	_, url := startFake(t, 1e9, faults{})
	cfg := configs(url)[Closed]
	cfg.Orders, cfg.Duration = 0, 300*time.Millisecond
	var bar bytes.Buffer
	cfg.Progress = &bar
	if _, err := Run(bounded(t), cfg, &bytes.Buffer{}); err != nil || bar.Len() == 0 {
		t.Fatalf("%v, %d bytes drawn", err, bar.Len())
	}
}
