package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is one run's figures. Rates are per second, over Seconds unless said
// otherwise.
type Result struct {
	Mode      Mode     `json:"mode"`
	URLs      []string `json:"urls"`
	Product   string   `json:"product"`
	Buyers    int      `json:"buyers"`
	Idle      int      `json:"idle_sockets"`      // asked for
	IdleAlive int      `json:"idle_sockets_open"` // still open at the end
	Rate      float64  `json:"rate,omitempty"`    // open loop: asked for
	Seconds   float64  `json:"seconds"`           // first request to last answer or outcome

	Sent      int64            `json:"sent"`
	Queued    int64            `json:"queued"`  // answered 202
	Refused   int64            `json:"refused"` // answered 409
	Uncertain int64            `json:"uncertain"`
	Outcomes  map[string]int64 `json:"outcomes,omitempty"` // as heard on sockets
	Errors    map[string]int64 `json:"errors,omitempty"`

	QueuedPerSecond  float64 `json:"queued_per_second"`
	RefusedPerSecond float64 `json:"refused_per_second"`
	// Outcomes per second; in the flood over the time until the backlog was
	// drained.
	DecidedPerSecond float64 `json:"decided_per_second"`
	DrainedSeconds   float64 `json:"drained_seconds,omitempty"` // flood: first request to the backlog's end

	Answer  Latency  `json:"answer"`            // request → 202 or 409
	Outcome *Latency `json:"outcome,omitempty"` // request → outcome on the socket
	// Open loop: from when an order was due until it was sent, which is part of
	// both. More than a moment means that no buyer was free: the server is too
	// slow for this rate, or there are too few buyers for its latency.
	Lag *Latency `json:"lag,omitempty"`

	Baseline *Baseline `json:"baseline,omitempty"`
	Check    *Checked  `json:"check,omitempty"`
}

// Baseline is the bare handler under the same load in the same run.
type Baseline struct {
	PerSecond float64          `json:"per_second"`
	Halves    []float64        `json:"halves_per_second"` // before and after the target: how much the machine drifted
	Answer    Latency          `json:"answer"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	// Ratio is the target's headline rate by the baseline's; 0 in the open loop,
	// where both have the rate they are given.
	Ratio float64 `json:"ratio,omitempty"`
	// Requests is the median way from request to outcome, in median bare requests;
	// closed loop only.
	Requests float64 `json:"outcome_in_bare_requests,omitempty"`
}

// PerSecond is the mode's headline rate.
func (r Result) PerSecond() float64 {
	if r.Mode == Refused {
		return r.RefusedPerSecond
	}
	return r.DecidedPerSecond
}

func outcomeCounts(n [outcomes]int64) map[string]int64 {
	m := map[string]int64{}
	for o, count := range n {
		if count > 0 {
			m[outcome(o).String()] = count
		}
	}
	return m
}

func (r *run) result(t *target, bare *bareRun) *Result {
	n := t.load.counts
	res := &Result{
		Mode: r.mode, Product: t.before.ID, Buyers: r.cfg.Buyers, Idle: r.cfg.Idle, IdleAlive: t.idle, Rate: r.cfg.Rate,
		Seconds: t.took.Seconds(), Sent: n.sent, Queued: n.queued, Refused: n.refused, Uncertain: n.uncertain,
		Outcomes: outcomeCounts(n.outcomes), Errors: n.errors,
		QueuedPerSecond: perSecond(n.queued, t.took), RefusedPerSecond: perSecond(n.refused, t.took),
		Answer: n.answers.summary(),
	}
	for _, at := range r.instances {
		res.URLs = append(res.URLs, at.url)
	}
	switch r.mode {
	case Flood:
		res.DrainedSeconds = t.drained.Seconds()
		res.DecidedPerSecond = perSecond(n.queued, t.drained)
	case Closed, Open:
		res.DecidedPerSecond = perSecond(n.heard(), t.took)
		outcome := n.told.summary()
		res.Outcome = &outcome
	}
	if r.mode == Open {
		lag := n.lag.summary()
		res.Lag = &lag
	}
	if bare == nil {
		return res
	}
	b := &Baseline{
		PerSecond: perSecond(bare.counts.queued, bare.took), Halves: bare.halves,
		Answer: bare.counts.answers.summary(), Errors: bare.counts.errors,
	}
	if r.mode != Open && b.PerSecond > 0 {
		b.Ratio = res.PerSecond() / b.PerSecond
	}
	if r.mode == Closed && b.Answer.P50 > 0 {
		b.Requests = res.Outcome.P50 / b.Answer.P50
	}
	res.Baseline = b
	return res
}

func (r Result) write(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	var b strings.Builder
	r.table(&b)
	_, err := io.WriteString(out, b.String())
	return err
}

// table cannot fail: it writes to memory.
func (r Result) table(b *strings.Builder) {
	fmt.Fprintf(b, "%s: %d buyers on %s, product %s, %s\n", r.Mode, r.Buyers, strings.Join(r.URLs, ", "), r.Product, seconds(r.Seconds))
	if r.Idle > 0 {
		fmt.Fprintf(b, "idle sockets: %d, open at the end: %d\n", r.Idle, r.IdleAlive)
	}
	b.WriteString("\n")

	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\torders\tper second\t\n")
	fmt.Fprintf(w, "sent\t%d\t%.0f\t\n", r.Sent, float64(r.Sent)/max(r.Seconds, 1e-9))
	fmt.Fprintf(w, "queued (202)\t%d\t%.0f\t\n", r.Queued, r.QueuedPerSecond)
	fmt.Fprintf(w, "refused (409)\t%d\t%.0f\t\n", r.Refused, r.RefusedPerSecond)
	switch r.Mode {
	case Flood:
		if r.DrainedSeconds > 0 {
			fmt.Fprintf(w, "decided in %s\t%d\t%.0f\t\n", seconds(r.DrainedSeconds), r.Queued, r.DecidedPerSecond)
		} else {
			fmt.Fprintf(w, "decided\tnot all\t\t\n")
		}
	case Closed, Open:
		fmt.Fprintf(w, "told\t%d\t%.0f\t\n", r.Outcome.Count, r.DecidedPerSecond)
		for _, o := range slices.Sorted(maps.Keys(r.Outcomes)) {
			fmt.Fprintf(w, "%s\t%d\t\t\n", o, r.Outcomes[o])
		}
	}
	if r.Baseline != nil {
		fmt.Fprintf(w, "baseline\t%d\t%.0f\t\n", r.Baseline.Answer.Count, r.Baseline.PerSecond)
	}
	_ = w.Flush()

	b.WriteString("\n")
	w = tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "ms\tp50\tp90\tp99\tp99.9\tmax\t\n")
	if r.Lag != nil {
		latencyRow(w, "to the sending", *r.Lag)
	}
	latencyRow(w, "to the answer", r.Answer)
	if r.Outcome != nil {
		latencyRow(w, "to the outcome", *r.Outcome)
	}
	if r.Baseline != nil {
		latencyRow(w, "baseline's answer", r.Baseline.Answer)
	}
	_ = w.Flush()

	if base := r.Baseline; base != nil {
		b.WriteString("\n")
		if base.Ratio > 0 {
			fmt.Fprintf(b, "ratio to the baseline: %.3f", base.Ratio)
		}
		if base.Requests > 0 {
			fmt.Fprintf(b, "  an outcome takes as long as %.1f bare requests", base.Requests)
		}
		fmt.Fprintf(b, "  (baseline before and after: %.0f, %.0f/s)\n", base.Halves[0], base.Halves[len(base.Halves)-1])
		errorRows(b, "baseline errors", base.Errors)
	}
	errorRows(b, "errors", r.Errors)
	if r.Check != nil {
		r.Check.table(b)
	}
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func latencyRow(w io.Writer, name string, l Latency) {
	fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t\n", name, l.P50, l.P90, l.P99, l.P999, l.Max)
}

func errorRows(b *strings.Builder, title string, errors map[string]int64) {
	if len(errors) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, kind := range slices.Sorted(maps.Keys(errors)) {
		fmt.Fprintf(b, "%9d  %s\n", errors[kind], kind)
	}
}
