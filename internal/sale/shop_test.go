package sale_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// The shop of the worker's tests: one product on the fakes, in a synctest bubble,
// where waiting costs nothing. The clock that decides is fixed, so that two runs
// of one scenario write the same bytes.

const (
	product   = sale.ProductID("tshirt")
	epoch     = "2026-03-01T08:00:00.000000001Z"
	nextEpoch = "2026-03-02T08:00:00.000000001Z"
	ackWait   = 5 * time.Second
)

var decidedAt = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

// scenario is a sale, and what must become of it.
type scenario struct {
	name            string
	supplied, limit int64
	stages          []stage
	// want are the outcomes in the ledger: entries parted by " | ".
	want string
	dead int // letters
}

// stage begins when all before it is settled.
type stage struct {
	restock  int64
	recreate bool // the queue, in nextEpoch
	messages []string
}

// line is an order as an instance writes it.
func line(id, buyer, quantity int) string {
	var uuid sale.OrderID
	copy(uuid[:], fmt.Sprintf("order-%010d", id))
	o := sale.Order{ID: uuid, Email: sale.Email(fmt.Sprintf("buyer%d@example.com", buyer)), Quantity: quantity,
		PlacedAt: decidedAt.Add(-time.Second)}
	return string(o.AppendLine(nil))
}

func group(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

var scenarios = []scenario{
	{name: "one by one", supplied: 2,
		stages: []stage{{messages: []string{line(1, 1, 1), line(2, 2, 1), line(3, 3, 1)}}},
		want:   "accepted | accepted | sold_out"},
	{name: "duplicates", supplied: 3,
		stages: []stage{{messages: []string{
			group(line(1, 1, 1), line(2, 2, 1), line(1, 1, 1)), line(2, 2, 1), group(line(3, 3, 2), line(4, 4, 1), line(3, 3, 2))}}},
		want: "accepted accepted duplicate | duplicate | sold_out accepted duplicate"},
	{name: "poison", supplied: 5,
		stages: []stage{{messages: []string{
			group(line(1, 1, 1), "garbage", line(2, 2, 1), `{"email":"nobody"}`), "garbage", "", group("{}", "[]"), line(3, 3, 1)}}},
		want: "accepted accepted | accepted", dead: 6},
	{name: "limits", supplied: 5, limit: 2,
		stages: []stage{{messages: []string{group(line(1, 1, 1), line(2, 1, 2), line(3, 1, 1)), line(4, 1, 1), group(line(5, 2, 3), line(6, 2, 2))}}},
		want:   "accepted limit_reached accepted | limit_reached | limit_reached accepted"},
	{name: "published by hand", supplied: 2,
		stages: []stage{{messages: []string{`{"email":"a@b.c"}`, group(`{"email":"A@B.C"}`, `{"email":"d@e.f","quantity":2}`), `{"email":"d@e.f"}`}}},
		want:   "accepted | accepted sold_out | sold_out"},
	{name: "a recreated queue", supplied: 4,
		stages: []stage{
			{messages: []string{line(1, 1, 1), line(2, 2, 1), "garbage"}},
			{recreate: true, messages: []string{line(3, 3, 1), group(line(1, 1, 1), line(4, 4, 2)), "garbage", line(5, 5, 1)}}},
		want: "accepted | accepted | accepted | duplicate sold_out | accepted", dead: 2},
	{name: "a restock", supplied: 1,
		stages: []stage{
			{messages: []string{line(1, 1, 1), line(2, 2, 1)}},
			{restock: 4, messages: []string{group(line(3, 3, 5), line(4, 4, 2)), line(5, 5, 1)}},
			{restock: -1, messages: []string{line(6, 6, 1)}},
			{restock: 3, messages: []string{line(7, 7, 1)}}},
		want: "accepted | sold_out | sold_out accepted | accepted | sold_out | accepted"},
}

// tester is what *testing.T and *rapid.T share.
type tester interface {
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Cleanup(func())
}

// shop is where a scenario is played.
type shop struct {
	t         tester
	orders    *saletest.Orders
	stocks    *saletest.Stocks
	ledger    *saletest.Ledger
	letters   *saletest.DeadLetters
	announcer *saletest.Announcer
	observer  *observer
}

func newShop(t tester, sc *scenario) *shop {
	s := &shop{t: t, orders: saletest.NewOrders(epoch, ackWait), stocks: saletest.NewStocks(), ledger: saletest.NewLedger(),
		letters: saletest.NewDeadLetters(), announcer: &saletest.Announcer{}, observer: &observer{}}
	stock, err := sale.NewStock(product, sc.supplied, sc.limit)
	if err != nil {
		t.Fatal(err)
	}
	s.stocks.Seed(stock)
	return s
}

// instance is a process: a worker and the book that it follows the ledger with.
type instance struct {
	worker *sale.Worker
	book   *sale.Book
	ctx    context.Context // ends when the process is told to stop
	kill   context.CancelFunc
	done   chan struct{} // closed when nothing of it runs any more
}

// follow keeps a book until ctx ends.
func (s *shop) follow(ctx context.Context, product sale.ProductID, book *sale.Book) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.ledger.Feed(ctx, product, book); err != nil {
			s.t.Errorf("feed: %v", err)
		}
	}()
	return done
}

func (s *shop) start(f *saletest.Faults, book *sale.Book) *instance {
	return s.startOn(product, f, book)
}

func (s *shop) startOn(product sale.ProductID, f *saletest.Faults, book *sale.Book) *instance {
	return s.startWith(product, f, book, func(*sale.Worker) {})
}

func (s *shop) startWith(product sale.ProductID, f *saletest.Faults, book *sale.Book, change func(*sale.Worker)) *instance {
	ctx, kill := context.WithCancel(context.Background())
	f.OnCrash = kill
	i := &instance{book: book, ctx: ctx, kill: kill, done: make(chan struct{}), worker: &sale.Worker{
		Product: product, Queue: f.Queue(s.orders.Queue(product)), Stocks: f.Stocks(s.stocks), Ledger: f.Ledger(s.ledger),
		Book: book, Announcer: f.Announcer(s.announcer), DeadLetters: f.DeadLetters(s.letters),
		Beat: time.Second, StepTimeout: 2 * time.Second,
		Now: func() time.Time { return decidedAt }, Newest: func() uint64 { return s.counted(product) },
		Observer: s.observer, Log: slog.New(slog.DiscardHandler),
	}}
	change(i.worker)
	go func() {
		defer close(i.done)
		following, stop := context.WithCancel(context.WithoutCancel(ctx))
		followed := s.follow(following, product, book)
		i.worker.Run(ctx)
		stop()
		<-followed
		f.Wait()
	}()
	s.t.Cleanup(i.stop)
	return i
}

func (i *instance) stop() {
	i.kill()
	<-i.done
}

// counted is how many entries the product's stock value counts.
func (s *shop) counted(product sale.ProductID) uint64 {
	stock, _, err := s.stocks.Load(context.Background(), product)
	if err != nil {
		s.t.Errorf("load: %v", err)
	}
	return stock.Entries
}

// open puts a stage before the workers.
func (s *shop) open(st *stage) {
	if st.recreate {
		s.orders.Recreate(nextEpoch)
	}
	if st.restock != 0 {
		stock, v, err := s.stocks.Load(context.Background(), product)
		if err == nil {
			stock, err = stock.Supply(st.restock)
		}
		if err == nil {
			_, err = s.stocks.Replace(context.Background(), v, &stock)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	for _, m := range st.messages {
		s.orders.Publish(product, []byte(m))
	}
}

// play runs a scenario to its end: the first instance with faults, and whenever
// it has died, another one. Its book is warm if it followed from the beginning.
func play(t tester, sc *scenario, f *saletest.Faults, warm bool) *history {
	s := newShop(t, sc)
	next := newBook()
	following, stop := context.WithCancel(context.Background())
	defer stop()
	if warm {
		followed := s.follow(following, product, next)
		defer func() { stop(); <-followed }()
	}
	i := s.start(f, newBook())
	for n := range sc.stages {
		s.open(&sc.stages[n])
		for s.drained(i) != nil {
			<-i.done
			i = s.start(&saletest.Faults{}, next)
			next = newBook()
		}
	}
	i.stop()
	return s.history(i.book)
}

// drained waits until all is settled: no message is left, and the ledger has what
// the stock value counts. It fails when the instance dies first.
func (s *shop) drained(i *instance) error {
	ctx, cancel := context.WithTimeout(i.ctx, time.Hour)
	defer cancel()
	err := s.orders.Drained(ctx)
	if err == nil {
		err = s.ledger.Reached(ctx, i.worker.Product, s.counted(i.worker.Product))
	}
	if ctx.Err() == context.DeadlineExceeded {
		s.t.Fatalf("%v; the worker says %v", err, i.worker.Stuck())
	}
	return err
}

// history is what a sale leaves behind. Two are the same if their texts are.
type history struct {
	outcomes string
	entries  []string
	stock    string
	letters  []string
	statuses []string // as announced, once each, sorted
	book     []string // as the last worker's book answers
}

func (s *shop) history(book *sale.Book) *history {
	h := &history{stock: string(s.stocks.Raw(product))}
	audit := sale.NewAudit(product, s.stocks.Raw(product))
	var entries []string
	buyers := map[sale.Email]struct{}{}
	for n, data := range s.ledger.Entries(product) {
		h.entries = append(h.entries, string(data))
		audit.Entry(uint64(n+1), data)
		e, err := sale.DecodeEntry(data)
		if err != nil {
			s.t.Fatal(err)
		}
		var outcomes []string
		for _, o := range e.Orders {
			outcomes = append(outcomes, o.Outcome.String())
			buyers[o.Email] = struct{}{}
		}
		entries = append(entries, strings.Join(outcomes, " "))
	}
	h.outcomes = strings.Join(entries, " | ")
	q := s.orders.State()
	q.Dead = &sale.Sequences{}
	for _, l := range s.letters.Letters() {
		h.letters = append(h.letters, fmt.Sprintf("%s %d-%d %s %q: %s", l.Epoch, l.Seq, l.Line, l.Product, l.Raw, l.Reason))
		if l.Epoch == q.Epoch {
			q.Dead.Add(l.Seq)
		}
	}
	for _, f := range append(audit.Finish(), sale.AuditQueue(q, audit)...) {
		s.t.Errorf("audit: %v", f)
	}
	for _, status := range s.announcer.Heard() {
		h.statuses = append(h.statuses, string(status.AppendJSON(nil)))
	}
	slices.Sort(h.statuses)
	h.statuses = slices.Compact(h.statuses)
	for buyer := range buyers {
		for _, status := range book.Newest(buyer, 100) {
			h.book = append(h.book, string(status.AppendJSON(nil)))
		}
	}
	slices.Sort(h.book)
	return h
}

// diff says where a history differs, for people; "" if nowhere.
func (h *history) diff(want *history) string {
	var b strings.Builder
	for _, part := range []struct {
		name      string
		got, want []string
	}{
		{"outcomes", []string{h.outcomes}, []string{want.outcomes}},
		{"entries", h.entries, want.entries},
		{"stock", []string{h.stock}, []string{want.stock}},
		{"dead letters", h.letters, want.letters},
		{"statuses", h.statuses, want.statuses},
		{"book", h.book, want.book},
	} {
		if !slices.Equal(part.got, part.want) {
			fmt.Fprintf(&b, "%s:\n got  %s\n want %s\n", part.name, strings.Join(part.got, "\n      "), strings.Join(part.want, "\n      "))
		}
	}
	return b.String()
}

type observer struct {
	decided, redelivered, conflicts atomic.Int64
}

func (o *observer) Decided(sale.ProductID, []sale.Outcome, time.Duration) { o.decided.Add(1) }
func (o *observer) Redelivered(sale.ProductID)                            { o.redelivered.Add(1) }
func (o *observer) Conflict(sale.ProductID)                               { o.conflicts.Add(1) }

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func newBook() *sale.Book { return sale.NewBook(1000) }
