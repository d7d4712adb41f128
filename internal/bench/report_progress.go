package bench

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress draws a bar until the returned function is called, or does nothing
// where there is no terminal. A phase with a duration shows its count and rate,
// since nobody knows its end in orders.
func (r *run) progress(what string, t *counts) (end func()) {
	if r.cfg.Progress == nil {
		return func() {}
	}
	total := int64(-1)
	switch {
	case what == "check":
		total = t.queued
	case r.plan.rate > 0:
		total = r.plan.planned()
	case r.plan.duration == 0:
		total = r.plan.orders
	}
	if what == "baseline" && total > 0 {
		total = (total + 1) / 2
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(r.cfg.Progress), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString("orders"), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionSetSpinnerChangeInterval(0)) // else it starts a goroutine that may never end
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = bar.Set64(t.ended.Load()) // drawing only
			case <-quit:
				_ = bar.Clear()
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}
