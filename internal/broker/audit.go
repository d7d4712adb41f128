package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Report is what an audit of everything stored found.
type Report struct {
	Products []sale.Summary
	Findings []sale.Finding // empty: every promise that can be checked is kept
}

// Audit reads the queue, the stock and the ledger, and checks the promise on them.
// It may run beside an open sale: it reads them in the order that sale.AuditQueue
// asks for.
func Audit(ctx context.Context, c *Conn) (Report, error) {
	queue, products, err := readQueue(ctx, c)
	if err != nil {
		return Report{}, err
	}
	audits, bound, err := openAudits(ctx, c, products)
	if err != nil {
		return Report{}, err
	}
	ledger, err := c.feed.Stream(ctx, ledgerStream)
	if err != nil {
		return Report{}, fmt.Errorf("stream %s: %w", ledgerStream, err)
	}
	end, err := head(ctx, ledger)
	if err != nil {
		return Report{}, err
	}
	var stray []sale.Finding
	later := map[sale.ProductID]uint64{} // highest entry behind those of the stock value
	err = readStream(ctx, c, ledgerStream, 1, end.State.LastSeq, func(msg *storedMsg) {
		product, n, ok := parseLedgerSubject(msg.Subject)
		audit := audits[product]
		switch {
		case !ok || audit == nil:
			stray = append(stray, sale.Finding{Promise: "P8", Product: product,
				Detail: fmt.Sprintf("the ledger has %q, of a product that has no stock and no queue", msg.Subject)})
		case n <= bound[product]:
			audit.Entry(n, msg.Data)
		default:
			later[product] = max(later[product], n)
		}
	})
	if err != nil {
		return Report{}, err
	}
	madeUp, err := checkLater(ctx, c, later)
	if err != nil {
		return Report{}, err
	}
	report := Report{Findings: append(stray, madeUp...)}
	all := make([]*sale.Audit, 0, len(products))
	for _, p := range products {
		report.Findings = append(report.Findings, audits[p].Finish()...)
		report.Products = append(report.Products, audits[p].Summary())
		all = append(all, audits[p])
	}
	report.Findings = append(report.Findings, sale.AuditQueue(queue, all...)...)
	return report, nil
}

// checkLater looks whether the stock values count the later entries by now. An entry
// is written after the value that counts it, so those that are not counted were
// decided by nobody (P8).
func checkLater(ctx context.Context, c *Conn, later map[sale.ProductID]uint64) (findings []sale.Finding, err error) {
	stocks, err := OpenStocks(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(later)) {
		stock, _, err := stocks.Load(ctx, p)
		if err != nil {
			return nil, err
		}
		if stock.Entries < later[p] {
			findings = append(findings, sale.Finding{Promise: "P8", Product: p,
				Detail: fmt.Sprintf("the ledger has an entry %d, and the stock value counts %d", later[p], stock.Entries)})
		}
	}
	return findings, nil
}

// openAudits reads the stock values, and for each the number of entries that
// belong to it: what the ledger got later is another audit's.
func openAudits(ctx context.Context, c *Conn, products []sale.ProductID) (map[sale.ProductID]*sale.Audit, map[sale.ProductID]uint64, error) {
	stocks, err := OpenStocks(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	audits, bound := map[sale.ProductID]*sale.Audit{}, map[sale.ProductID]uint64{}
	for _, p := range products {
		value, err := stocks.Raw(ctx, p)
		if err != nil && !errors.Is(err, sale.ErrNotFound) {
			return nil, nil, err
		}
		audits[p] = sale.NewAudit(p, value)
		bound[p] = audits[p].Bound()
	}
	return audits, bound, nil
}

// readQueue reads what stands in the queue and in the dead letters, and lists the
// products that have a queue or a stock.
func readQueue(ctx context.Context, c *Conn) (q sale.QueueState, products []sale.ProductID, err error) {
	stocks, err := OpenStocks(ctx, c)
	if err != nil {
		return q, nil, err
	}
	if products, err = stocks.Products(ctx); err != nil {
		return q, nil, err
	}
	orders, err := c.js.Stream(ctx, ordersStream)
	if err != nil {
		return q, nil, fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	info, err := head(ctx, orders)
	if err != nil {
		return q, nil, err
	}
	for _, subject := range info.Config.Subjects {
		products = append(products, sale.ProductID(strings.TrimPrefix(subject, ordersPrefix)))
	}
	slices.Sort(products)
	products = slices.Compact(products)

	q = sale.QueueState{Epoch: epochOf(info), LastSeq: info.State.LastSeq,
		Queued: map[sale.ProductID]*sale.Sequences{}, Dead: &sale.Sequences{}}
	for _, p := range products {
		q.Queued[p] = &sale.Sequences{}
	}
	err = readStream(ctx, c, ordersStream, max(1, info.State.FirstSeq), q.LastSeq, func(msg *storedMsg) {
		if queued := q.Queued[sale.ProductID(strings.TrimPrefix(msg.Subject, ordersPrefix))]; queued != nil {
			queued.Add(msg.Seq)
		}
	})
	if err != nil {
		return q, nil, err
	}
	return q, products, readDead(ctx, c, &q)
}

func readDead(ctx context.Context, c *Conn, q *sale.QueueState) error {
	dead, err := c.js.Stream(ctx, deadStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", deadStream, err)
	}
	end, err := head(ctx, dead)
	if err != nil {
		return err
	}
	return readStream(ctx, c, deadStream, 1, end.State.LastSeq, func(msg *storedMsg) {
		seq, err := strconv.ParseUint(msg.header.Get(headerSeq), 10, 64)
		if err == nil && strings.HasPrefix(msg.header.Get(jetstream.MsgIDHeader), q.Epoch+"-") {
			q.Dead.Add(seq)
		}
	})
}
