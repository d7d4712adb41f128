package sale_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/saletest"
)

// undisturbed plays a scenario without faults, and tells which calls it took. The
// ledger is written beside the rest, so another run may take them in another order.
func undisturbed(t *testing.T, sc *scenario) (want *history, calls []string) {
	synctest.Test(t, func(t *testing.T) {
		f := &saletest.Faults{}
		want, calls = play(t, sc, f, false), f.Calls()
	})
	if want.outcomes != sc.want || len(want.letters) != sc.dead {
		t.Fatalf("outcomes %s, %d dead letters; want %s, %d", want.outcomes, len(want.letters), sc.want, sc.dead)
	}
	return want, calls
}

func forEachScenario(t *testing.T, test func(t *testing.T, sc *scenario, want *history, calls []string)) {
	for i := range scenarios {
		sc := &scenarios[i]
		t.Run(sc.name, func(t *testing.T) {
			want, calls := undisturbed(t, sc)
			test(t, sc, want, calls)
		})
	}
}

// at makes a plan that faults the k-th call only. A lost broadcast is no fault:
// the book has it. Only an acknowledgement may be lost without a word.
func at(k int, fault saletest.Fault) func(int, string) saletest.Fault {
	return func(n int, call string) saletest.Fault {
		switch {
		case n != k, fault == saletest.LoseWrite && call == saletest.CallAnnounce, fault == saletest.LoseQuietly && call != saletest.CallAck:
			return saletest.Pass
		default:
			return fault
		}
	}
}

// compare plays a scenario with faults and wants the same history.
func compare(t *testing.T, what string, sc *scenario, want *history, f *saletest.Faults, warm bool) {
	t.Helper()
	var diff string
	ok := t.Run(what, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { diff = play(t, sc, f, warm).diff(want) })
	})
	if diff != "" || !ok {
		calls := f.Calls()
		t.Fatalf("%s (calls: %s):\n%s", what, strings.Join(calls[:min(len(calls), 80)], " "), diff)
	}
}

// A crash before or after any call leaves the same history as none (P1 to P5, P8),
// whether the one who takes over was warm or begins with the ledger.
func TestCrashAnywhere(t *testing.T) {
	forEachScenario(t, func(t *testing.T, sc *scenario, want *history, calls []string) {
		for k := range len(calls) + 1 {
			for _, warm := range []bool{false, true} {
				compare(t, fmt.Sprintf("before call %d, warm %v", k+1, warm), sc, want,
					&saletest.Faults{Plan: at(k+1, saletest.CrashBefore)}, warm)
				compare(t, fmt.Sprintf("after call %d, warm %v", k+1, warm), sc, want,
					&saletest.Faults{Plan: at(k+1, saletest.CrashAfter)}, warm)
			}
		}
	})
}

// A call that fails once, with or without effect, now or later, changes nothing.
func TestFaultAnywhere(t *testing.T) {
	forEachScenario(t, func(t *testing.T, sc *scenario, want *history, calls []string) {
		for k := range calls {
			for fault, name := range map[saletest.Fault]string{
				saletest.LoseWrite: "lost write", saletest.LoseReply: "lost reply", saletest.LoseQuietly: "quietly lost", saletest.Late: "late",
			} {
				for _, late := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond, 8 * time.Second} {
					compare(t, fmt.Sprintf("%s at call %d, late by %v", name, k+1, late), sc, want,
						&saletest.Faults{Plan: at(k+1, fault), LateBy: late}, false)
					if fault != saletest.Late {
						break
					}
				}
			}
		}
	})
}

// A third of all calls fails, half of them after they took effect.
func TestFaultEverywhere(t *testing.T) {
	forEachScenario(t, func(t *testing.T, sc *scenario, want *history, _ []string) {
		for seed := range uint64(20) {
			random := rand.New(rand.NewPCG(seed, 0))
			f := &saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
				if call == saletest.CallAnnounce {
					return saletest.Pass
				}
				return []saletest.Fault{saletest.LoseWrite, saletest.LoseReply, 5: saletest.Pass}[random.IntN(6)]
			}}
			compare(t, fmt.Sprintf("seed %d", seed), sc, want, f, false)
		}
	})
}

// Being told to stop at any moment is no crash: the message in hand is finished,
// and nothing waits for a redelivery.
func TestStopAnywhere(t *testing.T) {
	forEachScenario(t, func(t *testing.T, sc *scenario, want *history, calls []string) {
		for k := range calls {
			f := &saletest.Faults{}
			f.Plan = func(n int, _ string) saletest.Fault {
				if n == k+1 {
					f.OnCrash() // no crash: only the signal
				}
				return saletest.Pass
			}
			compare(t, fmt.Sprintf("at call %d", k+1), sc, want, f, k%2 == 0)
		}
	})
}

// A process that stands still for longer than the time to redelivery, at any
// call, loses its message to another one, and wakes up to a world that went on.
func TestStaleWorkerResumes(t *testing.T) {
	forEachScenario(t, func(t *testing.T, sc *scenario, want *history, calls []string) {
		for k := range calls {
			for _, after := range []bool{false, true} {
				freeze := func(n int, _ string) (time.Duration, time.Duration) {
					switch {
					case n != k+1:
						return 0, 0
					case after:
						return 0, 30 * time.Second
					default:
						return 30 * time.Second, 0
					}
				}
				t.Run(fmt.Sprintf("call %d, after it %v", k+1, after), func(t *testing.T) {
					var diff string
					synctest.Test(t, func(t *testing.T) { diff = takeOver(t, sc, freeze).diff(want) })
					if diff != "" {
						t.Fatal(diff)
					}
				})
			}
		}
	})
}

// takeOver plays a scenario on two instances, the first of which freezes.
func takeOver(t *testing.T, sc *scenario, freeze func(int, string) (time.Duration, time.Duration)) *history {
	s := newShop(t, sc)
	stale := s.start(&saletest.Faults{Freeze: freeze}, newBook())
	s.open(&sc.stages[0])
	time.Sleep(time.Second)
	other := s.start(&saletest.Faults{}, newBook())
	for n := range sc.stages {
		if n > 0 {
			s.open(&sc.stages[n])
		}
		if err := s.drained(other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the stale one is awake and has seen that it is
	}
	stale.stop()
	other.stop()
	if h, other := s.history(stale.book), s.history(other.book); h.diff(other) != "" {
		t.Fatalf("the instances' books differ: %s", h.diff(other))
	}
	return s.history(other.book)
}
