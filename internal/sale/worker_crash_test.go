package sale_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/saletest"
)

// undisturbed plays a scenario without faults, and tells which calls it took. The
// feed reads beside the worker, so another run may take a few more or less.
func undisturbed(t *testing.T, sc *scenario) (want *record, calls []string) {
	synctest.Test(t, func(t *testing.T) {
		f := &saletest.Faults{}
		want, calls = play(t, sc, f, false), f.Calls()
	})
	if want.outcomes != sc.want || len(want.letters) != sc.dead || want.foreign != 0 {
		t.Fatalf("outcomes %s, %d dead letters; want %s, %d", want.outcomes, len(want.letters), sc.want, sc.dead)
	}
	if decided := want.book[:len(want.book)-2]; !slices.Equal(want.statuses, decided) { // P6
		t.Fatalf("announced was\n%s\ndecided was\n%s", want.statuses, decided)
	}
	return want, calls
}

func forEachScenario(t *testing.T, test func(t *testing.T, sc *scenario, want *record, calls []string)) {
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
func compare(t *testing.T, what string, sc *scenario, want *record, f *saletest.Faults, warm bool) {
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
// whether the instance that takes over was warm or begins with the history.
func TestCrashAnywhere(t *testing.T) {
	forEachScenario(t, func(t *testing.T, sc *scenario, want *record, calls []string) {
		for k := range len(calls) + 2 {
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
	forEachScenario(t, func(t *testing.T, sc *scenario, want *record, calls []string) {
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
	forEachScenario(t, func(t *testing.T, sc *scenario, want *record, _ []string) {
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
	forEachScenario(t, func(t *testing.T, sc *scenario, want *record, calls []string) {
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
	forEachScenario(t, func(t *testing.T, sc *scenario, want *record, calls []string) {
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
func takeOver(t *testing.T, sc *scenario, freeze func(int, string) (time.Duration, time.Duration)) *record {
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
		time.Sleep(time.Minute) // the stale one is awake, and knows that it is stale
	}
	stale.stop()
	other.stop()
	if h, other := s.record(stale.book), s.record(other.book); h.diff(other) != "" {
		t.Fatalf("the instances' books differ: %s", h.diff(other))
	}
	return s.record(other.book)
}

// What the desk says between a crash and the redelivery comes after the message that
// was in hand, and again where the next instance dies, too (P2, P4).
func TestRestockBetweenCrashAndRedelivery(t *testing.T) {
	sc := &scenario{supplied: 1, stages: []stage{{messages: []string{group(line(1, 1, 1), line(2, 2, 2), "garbage"), desk(supply(91, 1)), desk(supply(92, 2)), line(3, 3, 1)}}},
		want: "accepted sold_out | supply | supply | accepted", dead: 1}
	want, _ := undisturbed(t, sc)
	messages := sc.stages[0].messages
	for first := 1; first <= 8; first++ {
		for second := 1; second <= 8; second++ {
			for _, fault := range []saletest.Fault{saletest.CrashBefore, saletest.CrashAfter} {
				var diff string
				synctest.Test(t, func(t *testing.T) {
					s := newShop(t, sc)
					s.publish(messages[0])
					for n, k := range []int{first, second} {
						i := s.start(&saletest.Faults{Plan: at(k, fault)}, newBook())
						time.Sleep(time.Minute) // it is dead, or has nothing more to do
						i.stop()
						s.publish(messages[n+1])
					}
					s.publish(messages[3])
					i := s.start(&saletest.Faults{}, newBook())
					if err := s.drained(i); err != nil {
						t.Fatal(err)
					}
					i.stop()
					diff = s.record(i.book).diff(want)
				})
				if diff != "" || t.Failed() {
					t.Fatalf("crashes at call %d and %d: %s", first, second, diff)
				}
			}
		}
	}
}
