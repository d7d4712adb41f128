package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"
)

// Run measures what cfg describes, writes the result to out, and returns it.
//
// The error wraps ErrConfig when cfg asks for what cannot be run, and ErrBroken
// when Check found a promise broken; the result is complete then. It is another
// error when nothing could be measured, an order was queued where refusals were
// expected, the run was ended by ctx or its limit, or a backlog stood still.
func Run(ctx context.Context, cfg Config, out io.Writer) (Result, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	instances, err := parseInstances(cfg.URLs)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Limit, fmt.Errorf("gave up after the run's limit of %s", cfg.Limit))
	defer cancel()
	r := &run{
		cfg: cfg, mode: cfg.Mode(), instances: instances, prefix: newPrefix(),
		plan: plan{orders: cfg.Orders, duration: cfg.Duration, rate: cfg.Rate},
	}
	result, err := r.all(ctx)
	if result == nil {
		return Result{}, fmt.Errorf("bench: %w", err)
	}
	if werr := result.write(out, cfg.JSON); werr != nil {
		err = errors.Join(err, fmt.Errorf("write the result: %w", werr))
	}
	if err != nil {
		return *result, fmt.Errorf("bench: %w", err)
	}
	return *result, nil
}

// newPrefix starts every address of this run. Lower case, and a letter first.
func newPrefix() string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, 7)
	_, _ = rand.Read(b) // never fails, by its documentation
	for i := range b {
		b[i] = letters[b[i]&31]
	}
	return "b" + string(b) + "-"
}

type run struct {
	cfg       Config
	mode      Mode
	instances []instance
	prefix    string
	plan      plan
}

// all measures half a baseline, the target, the other half, and checks last,
// since that takes its time. Without a result there is nothing to show.
func (r *run) all(ctx context.Context) (*Result, error) {
	s := newShop(r.instances)
	defer s.close()
	before, err := s.find(ctx, r.cfg.Product)
	if err != nil {
		return nil, err
	}
	if r.mode == Refused && before.State == stateOpen {
		return nil, fmt.Errorf("product %s is open, so these orders would be bought: refusals are measured on a sale that is sold out, paused, not open yet or closed", before.ID)
	}

	var bare *bareRun
	if len(r.cfg.Baseline) > 0 {
		if bare, err = r.startBare(ctx); err != nil {
			return nil, err
		}
		defer bare.stop()
		if err := bare.measure(ctx); err != nil {
			return nil, err
		}
	}

	t, err := r.measureTarget(ctx, s, before)
	if err != nil {
		return nil, err
	}
	failed := t.stuck

	if bare != nil {
		if err := bare.measure(ctx); err != nil {
			return nil, err
		}
		if err := bare.stop(); err != nil {
			return nil, err
		}
	}

	result := r.result(t, bare)
	if t.load.verdict != nil {
		result.Check = r.check(ctx, s, t)
		if !result.Check.OK {
			failed = errors.Join(failed, result.Check.err())
		}
	}
	if r.mode == Refused && result.Queued > 0 {
		failed = errors.Join(failed, fmt.Errorf("%d orders were queued that were expected to be refused: product %s was %s before the run, which ended there", result.Queued, before.ID, before.State))
	}
	if ctx.Err() != nil {
		failed = errors.Join(failed, context.Cause(ctx))
	} else if result.Queued+result.Refused == 0 {
		failed = errors.Join(failed, fmt.Errorf("not one of %d orders got a valid answer", result.Sent))
	}
	return result, failed
}

// target is what was measured of it.
type target struct {
	load    *load
	before  product
	took    time.Duration // first request to last answer or outcome
	drained time.Duration // flood: first request to the backlog's end; 0: it did not end
	idle    int           // idle sockets that were still open at the end
	stuck   error         // why the backlog did not end
}

func (r *run) newLoad(at []instance) *load {
	return &load{
		instances: at, product: r.cfg.Product, prefix: r.prefix, timeout: r.cfg.Timeout,
		unique: r.mode == Flood || r.mode == Refused, counts: newCounts(),
	}
}

// measureTarget returns with every connection closed and every goroutine
// joined: what the load counted and remembers can be read without its locks.
func (r *run) measureTarget(ctx context.Context, s *shop, before product) (*target, error) {
	c := r.newLoad(r.instances)
	c.sockets = r.mode == Closed || r.mode == Open
	c.shut = r.mode == Refused
	if r.cfg.Check {
		c.verdict = newVerdict()
	}
	t := &target{load: c, before: before}
	idle, err := gather(ctx, r.cfg.Idle, func(i int) *socket {
		return &socket{
			instances: r.instances, turn: i, timeout: r.cfg.Timeout, lost: c.counts.trouble,
			email: address(r.prefix+"idle-", int64(i)),
		}
	})
	if err != nil {
		return nil, err
	}
	defer idle.leave()
	defer c.dismiss()
	if err := c.assemble(ctx, r.cfg.Buyers); err != nil {
		return nil, err
	}
	end := r.progress("target", c.counts)
	t.took, err = c.work(ctx, r.plan)
	end()
	if err != nil {
		return nil, err
	}
	if r.mode == Flood {
		var at time.Time
		if at, t.stuck = s.drained(ctx, before.ID, c.buyers, r.cfg.Shared, r.cfg.Timeout); t.stuck == nil {
			t.drained = at.Sub(c.schedule.start)
		}
	}
	t.idle = idle.live()
	return t, nil
}

func (r *run) check(ctx context.Context, s *shop, t *target) *Checked {
	c := t.load
	for _, b := range c.buyers {
		b.overhear()
	}
	c.counts.ended.Store(0)
	defer r.progress("check", c.counts)()
	return check(ctx, s, c, facts{
		before: t.before, exclusive: !r.cfg.Shared && t.before.Waiting == 0, sockets: c.sockets,
		refused: c.counts.refused - c.counts.limited, uncertain: c.counts.uncertain,
	}, r.cfg.Timeout)
}

// bareRun is the baseline's two halves.
type bareRun struct {
	run     *run
	server  *baseline
	stopped bool
	counts  *counts
	halves  []float64 // answers per second
	took    time.Duration
}

func (r *run) startBare(ctx context.Context) (*bareRun, error) {
	server, err := startBaseline(ctx, r.cfg.Baseline)
	if err != nil {
		return nil, err
	}
	return &bareRun{run: r, server: server, counts: newCounts()}, nil
}

func (b *bareRun) measure(ctx context.Context) error {
	c := b.run.newLoad(b.server.at)
	defer func() { c.dismiss() }()
	if err := c.assemble(ctx, b.run.cfg.Buyers); err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	defer b.run.progress("baseline", c.counts)()
	took, err := c.work(ctx, b.run.plan.half())
	if err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	if c.counts.queued == 0 {
		return fmt.Errorf("baseline: no answer: %v", c.counts.errors)
	}
	b.halves = append(b.halves, perSecond(c.counts.queued, took))
	b.took += took
	b.counts.queued += c.counts.queued
	b.counts.answers.add(c.counts.answers)
	for kind, n := range c.counts.errors {
		b.counts.note(kind, n)
	}
	return nil
}

// stop may be called again.
func (b *bareRun) stop() error {
	if b.stopped {
		return nil
	}
	b.stopped = true
	return b.server.stop()
}

func perSecond(n int64, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}
