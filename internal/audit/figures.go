package audit

import (
	"fmt"
	"time"

	"firstcome/internal/sale"
)

// figures compares the link's figures and terms with what its lines make of those
// before.
func (r *Replay) figures(link *sale.Link, ruled *sale.Stock) {
	var wrong []byte
	differ := func(name string, is, rule any) {
		if len(wrong) > 0 {
			wrong = append(wrong, ", "...)
		}
		wrong = fmt.Appendf(wrong, "%s %v instead of %v", name, is, rule)
	}
	for _, f := range [...]struct {
		name     string
		is, rule int64
	}{
		{"available", link.Available, ruled.Available},
		{"held", link.Held, ruled.Held},
		{"sold", link.Sold, ruled.Sold},
		{"supplied", link.Supplied, ruled.Supplied},
		{"limit_per_buyer", link.LimitPerBuyer, ruled.LimitPerBuyer},
	} {
		if f.is != f.rule {
			differ(f.name, f.is, f.rule)
		}
	}
	if link.Decided != ruled.Decided {
		differ("decided", link.Decided, ruled.Decided)
	}
	if !sameHour(link.OpensAt, ruled.OpensAt) {
		differ("opens_at", hour(link.OpensAt), hour(ruled.OpensAt))
	}
	if !sameHour(link.ClosesAt, ruled.ClosesAt) {
		differ("closes_at", hour(link.ClosesAt), hour(ruled.ClosesAt))
	}
	if link.Paused != ruled.Paused {
		differ("paused", link.Paused, ruled.Paused)
	}
	switch {
	case len(wrong) == 0:
	case link.Available > ruled.Available:
		r.add("P1", "link %d has %s", link.N, wrong)
	default:
		r.add("P8", "link %d has %s", link.N, wrong)
	}
}

// hour shows an hour that may be none.
func hour(t *time.Time) string {
	if t == nil {
		return "none"
	}
	return t.Format(time.RFC3339Nano)
}

func sameHour(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

func isTime(epoch string) bool {
	_, err := time.Parse(time.RFC3339Nano, epoch)
	return err == nil
}
